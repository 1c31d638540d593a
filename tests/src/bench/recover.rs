//! `recover_1000`: an agent's start with 1,000 VMs known and 100 events half done, on the fake host: from the journal's
//! file until every half-done event has its lane, which is when the agent says that it is ready.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dewpoint_agent::clock::SystemClock;
use dewpoint_agent::execute::apply::Effects;
use dewpoint_agent::execute::executor::{Executor, Parts};
use dewpoint_agent::execute::keep::board::Board;
use dewpoint_agent::execute::plan::Server;
use dewpoint_agent::execute::settings::Settings;
use dewpoint_agent::execute::step::Step;
use dewpoint_agent::hypervisor::Wanted;
use dewpoint_agent::hypervisor::fake::FakeHypervisor;
use dewpoint_agent::hypervisor::fake::world::World;
use dewpoint_agent::intake;
use dewpoint_agent::journal::entry::{Entry, Leaves};
use dewpoint_agent::journal::moment::BootId;
use dewpoint_agent::journal::{self, Admission, Delivery, Journal, Journaled, Origin, Payload};
use dewpoint_agent::network::fake::FakeShield;
use dewpoint_agent::report::progress::ProgressBoard;
use dewpoint_agent::storage::fake::FakeStorage;
use dewpoint_proto::event::{Body, Create, Event, InitialPower, Kind, Reboot, RebootManner};
use dewpoint_proto::ids::{EventId, Generation, Seq, Term, VmId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::{DiskMode, ImageDigest, ImageRef, Placement, VmSpec};
use dewpoint_proto::time::Millis;
use rusqlite::Connection;
use tokio::sync::watch;

use super::Effort;
use super::figure::{Pair, Target, ms, print};

const VMS: u64 = 1000;
const HALF_DONE: u64 = 100;

/// Measures and prints it.
///
/// # Panics
/// When the journal fails.
pub async fn run(effort: Effort, dir: &Path) {
    let path = dir.join("recover.db");
    fill(&path).await;
    let mut pairs = Vec::new();
    for round in 0..effort.of(3, 9) {
        // Of its own: a lane may write before it is stopped.
        let copy = dir.join(format!("recover-{round}.db"));
        let whole = std::fs::read(&path).and_then(|bytes| std::fs::write(&copy, bytes));
        whole.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let bare = read_bare(&copy);
        pairs.push(Pair { value: started(&copy).await, baseline: bare });
    }
    print("recover_1000", "ms", Target::AtMost(3.0), &pairs);
}

fn open(path: &Path) -> Journal {
    let boot = BootId::read().unwrap_or_else(|error| panic!("boot id: {error}"));
    let settings = journal::Settings::new(Arc::new(SystemClock), boot, intake::judge);
    Journal::open(path, settings).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// VMs that were built, and reboots of some that have begun.
async fn fill(path: &Path) {
    let journal = open(path);
    let vms: Vec<VmId> = (0..VMS).map(|_| VmId::fresh()).collect();
    for (seq, vm) in (1..).zip(&vms) {
        let create = Create { spec: spec(), source: image(), power: InitialPower::On };
        let proof = admit(&journal, seq, 1, *vm, Kind::Create(Box::new(create))).await;
        let (disk, run) = (proof.id(), Some(proof.id().into()));
        let leaves = Leaves::Vm { disk, seed: disk, wanted: Wanted::On, run };
        let outcome = Outcome::success();
        append(&journal, &proof, vec![begun(), Entry::Finished { outcome, vm: None, leaves: Some(leaves) }])
            .await;
    }
    for (seq, vm) in (VMS + 1..).zip(vms.iter().take(usize::try_from(HALF_DONE).unwrap_or_default())) {
        let reboot = Reboot { manner: RebootManner::Hard, timeout_seconds: None };
        let proof = admit(&journal, seq, 2, *vm, Kind::Reboot(reboot)).await;
        append(&journal, &proof, vec![begun()]).await;
    }
    drop(journal);
    let whole =
        Connection::open(path).and_then(|db| db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())));
    whole.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

fn begun() -> Entry {
    Entry::StepStarted { step: Step::Mark, attempt: 1, before: None }
}

async fn admit(journal: &Journal, seq: u64, generation: u64, vm: VmId, kind: Kind) -> Journaled {
    let event = Event {
        id: EventId::fresh(),
        vm,
        accepted_at: Millis::now(),
        not_after: None,
        retry_of: None,
        note: String::new(),
        kind,
    };
    let body = Body::encode(event).unwrap_or_else(|cause| panic!("{cause:?}"));
    let origin = Origin::Delivered { seq: Seq(seq), term: Term(1), generation: Generation(generation) };
    match journal.admit(Delivery { origin, payload: Payload::Event(body) }).await {
        Ok(Admission::New(proof)) => proof,
        other => panic!("{other:?}"),
    }
}

async fn append(journal: &Journal, proof: &Journaled, entries: Vec<Entry>) {
    journal.append(proof, entries).await.unwrap_or_else(|error| panic!("{error}"));
}

/// Opens the journal and hands every half-done event to a lane.
async fn started(path: &Path) -> f64 {
    let world = World::default();
    let (_server, server) = watch::channel(Server::None);
    // Held, so that the lanes are there and change nothing: each run finds the same.
    let (_hold, hold) = watch::channel(true);
    let began = Instant::now();
    let journal = open(path);
    let effects = Effects {
        hypervisor: Arc::new(FakeHypervisor::new(world.clone())),
        storage: Arc::new(FakeStorage::new(world.clone())),
        shield: Arc::new(FakeShield::new(world)),
    };
    let settings = Settings::with_bridge("br0".parse().unwrap_or_else(|cause| panic!("{cause:?}")));
    let board = ProgressBoard::default();
    let executor =
        Executor::new(Parts { journal, effects, settings, server, hold, board, keeping: Board::default() });
    let parked = executor.recover().await.unwrap_or_else(|error| panic!("{error}"));
    let took = ms(began.elapsed());
    assert!(parked.is_empty(), "{parked:?}");
    assert_eq!(executor.busy().len() as u64, HALF_DONE, "each has its lane");
    let (stop, (_none, nothing)) =
        (tokio_util::sync::CancellationToken::new(), tokio::sync::mpsc::channel(1));
    stop.cancel();
    executor.run(nothing, stop).await;
    took
}

/// Opens the same file, checks it, and reads the rows that a start needs: what no start can do without.
fn read_bare(path: &Path) -> f64 {
    let began = Instant::now();
    let read = || -> rusqlite::Result<usize> {
        let db = Connection::open(path)?;
        db.query_row("PRAGMA quick_check(1)", [], |_| Ok(()))?;
        let mut rows = 0;
        for query in [
            "SELECT * FROM events WHERE finished_at IS NULL ORDER BY n",
            "SELECT * FROM entries WHERE event_id IN (SELECT event_id FROM events WHERE finished_at IS NULL)",
        ] {
            let mut statement = db.prepare(query)?;
            let mut found = statement.query([])?;
            while found.next()?.is_some() {
                rows += 1;
            }
        }
        Ok(rows)
    };
    let rows = read().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(rows as u64, 2 * HALF_DONE);
    ms(began.elapsed())
}

fn image() -> ImageRef {
    ImageRef { digest: ImageDigest([3; 32]), size_bytes: 9, virtual_size_bytes: 1 << 20, local_path: None }
}

fn spec() -> VmSpec {
    VmSpec {
        name: "bench".parse().unwrap_or_else(|cause| panic!("{cause:?}")),
        vcpus: 1,
        memory_bytes: 1 << 30,
        disk_bytes: 1 << 30,
        disk_mode: DiskMode::Overlay,
        nics: Vec::new(),
        ssh_keys: Vec::new(),
        user_data: b"#cloud-config\n".to_vec(),
        labels: std::collections::BTreeMap::new(),
        placement: Placement::Bound,
        restart: Default::default(),
    }
}
