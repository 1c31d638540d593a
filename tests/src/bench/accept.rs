//! `coordinator_accept_rate`: how many creates a second one coordinator accepts and assigns to hosts.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dewpoint_coordinator::events::request::{CreateVm, Options, WhenFull};
use dewpoint_coordinator::events::stage::Stage;
use dewpoint_coordinator::events::{Events, EventsConfig, HostHeartbeat};
use dewpoint_coordinator::store::sqlite::SqliteStore;
use dewpoint_coordinator::store::{Hello, HostCapacity, HostClaim, HostFacts, ImageAddition, ImageSelector};
use dewpoint_proto::event::InitialPower;
use dewpoint_proto::ids::{EventId, HostId, JournalId, ReportSeq, Seq};
use dewpoint_proto::limits::{GIB, MIB, TIB, VMS_PER_HOST};
use dewpoint_proto::spec::{DiskMode, ImageDigest, Placement, Restart};
use dewpoint_proto::time::Millis;
use tokio_util::sync::CancellationToken;

use super::Effort;
use super::bare::{rate, rewrite};
use super::figure::{Pair, Target, print};

/// As many as the store commits together at most.
const GROUP: usize = 256;
/// What an accepted create writes: its row and its VM's, with the host's claim in it.
const TABLES: [&str; 2] = ["events", "vms"];
const IMAGE: ImageDigest = ImageDigest([7; 32]);
/// What the load of section 1 of the design comes to at its peak.
const NEEDED: f64 = 20.0;

/// Measures and prints it: against bare SQLite, and against what is needed.
///
/// # Panics
/// When the coordinator's parts fail.
pub async fn run(effort: Effort, dir: &Path) {
    let mut pairs = Vec::new();
    for round in 0..effort.of(3, 9) {
        let dir = dir.join(format!("accept-{round}"));
        std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let value = accepted(&dir.join("store.db"), effort.of(24, 40)).await;
        let baseline = rewrite(&dir.join("store.db"), &TABLES, GROUP, &dir);
        pairs.push(Pair { value, baseline });
    }
    print("coordinator_accept_rate", "events/s", Target::AtLeast(0.5), &pairs);
    let needed: Vec<_> = pairs.iter().map(|pair| Pair { baseline: NEEDED, ..*pair }).collect();
    print("coordinator_accept_rate_over_peak", "events/s", Target::AtLeast(100.0), &needed);
}

/// `GROUP` callers that each create one VM after the other, on as many hosts as can carry them.
async fn accepted(path: &Path, each: usize) -> f64 {
    let store = SqliteStore::open(path).unwrap_or_else(|error| panic!("{error}"));
    let stop = CancellationToken::new();
    let events = Events::start(Arc::new(store), EventsConfig::default(), stop.clone()).await;
    let events = events.unwrap_or_else(|cause| panic!("{cause:?}"));
    for _ in 0..(GROUP * each).div_ceil(VMS_PER_HOST as usize) + 8 {
        add_host(&events).await;
    }
    let image = ImageAddition {
        digest: IMAGE,
        name: None,
        size_bytes: GIB,
        virtual_size_bytes: 2 * GIB,
        format: "qcow2".to_owned(),
        at: Millis::now(),
    };
    events.add_image(image).await.unwrap_or_else(|cause| panic!("{cause:?}"));
    let began = Instant::now();
    let callers = (0..GROUP).map(|_| {
        let events = events.clone();
        tokio::spawn(async move {
            for _ in 0..each {
                let record = events.create(create()).await.unwrap_or_else(|cause| panic!("{cause:?}"));
                assert_eq!(record.stage, Stage::Assigned, "{record:?}");
            }
        })
    });
    futures::future::try_join_all(callers).await.unwrap_or_else(|error| panic!("{error}"));
    let took = began.elapsed();
    stop.cancel();
    rate(GROUP * each, took)
}

/// A host with room for 135 small VMs, alive.
async fn add_host(events: &Events) {
    let hello = Hello {
        protocol: 2,
        host: HostId::fresh(),
        journal: JournalId::fresh(),
        start_count: 1,
        last_seq: Seq(0),
        last_seq_event: None,
        last_report: ReportSeq(0),
        agent_version: "0.1.0".to_owned(),
        hostname: "bench".to_owned(),
        product_uuid: None,
        doubt: None,
    };
    let host = hello.host;
    let HostClaim::Matched { term, .. } =
        events.claim_host(hello).await.unwrap_or_else(|cause| panic!("{cause:?}"))
    else {
        panic!("a new host cannot have diverged");
    };
    let capacity = HostCapacity {
        cpus: 64,
        memory_bytes: TIB,
        memory_available_bytes: TIB,
        disk_bytes: 8 * TIB,
        disk_free_bytes: 8 * TIB,
        cpu_arch: "x86_64".to_owned(),
        bridges: Vec::new(),
    };
    let facts = HostFacts { capacity: Some(capacity), degraded: Vec::new() };
    let heartbeat = HostHeartbeat { facts, ..HostHeartbeat::default() };
    events.heartbeat(host, term, heartbeat).await.unwrap_or_else(|cause| panic!("{cause:?}"));
}

fn create() -> CreateVm {
    CreateVm {
        options: Options { event: Some(EventId::fresh()), ..Options::default() },
        vm: None,
        name: "web".parse().unwrap_or_else(|_| panic!("a name")),
        vcpus: 1,
        memory_bytes: 512 * MIB,
        disk_bytes: Some(4 * GIB),
        disk_mode: DiskMode::Overlay,
        image: ImageSelector::Digest(IMAGE),
        nics: Vec::new(),
        ssh_keys: vec![format!("ssh-ed25519 {} me", "A".repeat(68))],
        user_data: b"#cloud-config\npackages: [nginx]\n".to_vec(),
        labels: [("team".to_owned(), "web".to_owned())].into(),
        placement: Placement::Bound,
        restart: Restart::default(),
        power: InitialPower::On,
        only_host: None,
        when_full: WhenFull::Refuse,
    }
}
