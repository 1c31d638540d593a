//! `coordinator_start_1m`: how long a coordinator with a million finished events takes until it listens.

use std::path::Path;
use std::time::Instant;

use rusqlite::Connection;

use super::Effort;
use super::figure::{Pair, Target, ms, print_absolute};
use crate::coordinator::Coordinator;
use crate::lab::Lab;

/// A million events of 200,000 VMs that are gone, on 1,000 hosts: bodies of 500 bytes, as creates have. Ids go up, as
/// those that are made by time do.
const FILL: &str = "
    PRAGMA synchronous = OFF;
    PRAGMA cache_size = -262144;
    BEGIN;
    INSERT INTO hosts (host_id, hostname, journal_id, start_count, agent_version, term, last_seq, accepted_seq)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000)
        SELECT unhex(printf('%032x', i)), 'hv' || i, randomblob(16), 1, '0.1.0', 1, 1000, 1000 FROM n;
    INSERT INTO vms (vm_id, name, last_host, vcpus, memory, disk, shape, generation, wanted_on, image, created_at, gone)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200000)
        SELECT unhex(printf('%032x', i)), 'vm-' || (i % 50000), unhex(printf('%032x', i % 1000 + 1)), 1, 1 << 30,
            1 << 32, '{}', 5, 0, zeroblob(32), i, 1 FROM n;
    INSERT INTO finished (n, event_id, vm_id, vm_name, kind, stage, ended, host_id, seq, generation, body, digest,
            request, outcome, accepted_at, begun_at, finished_at, stage_at, moved_at)
        WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000)
        SELECT i, unhex(printf('%032x', i)), unhex(printf('%032x', i / 5)), 'web', 'create', 'succeeded', 1,
            unhex(printf('%032x', i % 1000 + 1)), i / 1000, 1, randomblob(500), zeroblob(32), zeroblob(32),
            '{\"succeeded\":{}}', i, i, i, i, i FROM n;
    COMMIT;
    PRAGMA wal_checkpoint(TRUNCATE);
";

/// Measures and prints it, beside the start on an empty database. Filling the table takes longer than all quick
/// benchmarks together, so this one is none of them unless it is asked for by name.
///
/// # Panics
/// When the coordinator does not start.
pub async fn run(effort: Effort) {
    let lab = Lab::new();
    let mut coordinator = Coordinator::new(&lab);
    let mut empty = Vec::new();
    for _ in 0..effort.of(3, 9) {
        empty.push(started(&mut coordinator).await);
    }
    fill(&coordinator.data().join("coordinator.db"));
    let mut pairs = Vec::new();
    for baseline in empty {
        pairs.push(Pair { value: started(&mut coordinator).await, baseline });
    }
    print_absolute("coordinator_start_1m", "ms", Target::AtMost(2000.0), &pairs);
}

/// From the process's start until it listens; killed afterwards.
async fn started(coordinator: &mut Coordinator) -> f64 {
    let began = Instant::now();
    coordinator.start().await;
    let took = ms(began.elapsed());
    coordinator.kill();
    took
}

fn fill(path: &Path) {
    let filled = Connection::open(path).and_then(|db| db.execute_batch(FILL));
    filled.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
