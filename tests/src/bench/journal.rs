//! `agent_journal_rate`: how many events a second one agent journals under load.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dewpoint_agent::clock::SystemClock;
use dewpoint_agent::intake;
use dewpoint_agent::journal::moment::BootId;
use dewpoint_agent::journal::{Admission, Delivery, Journal, Origin, Payload, Settings};
use dewpoint_proto::event::{Body, Create, Event, InitialPower, Kind};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::limits::{GIB, MIB};
use dewpoint_proto::spec::{DiskMode, ImageDigest, ImageRef, Nic, Placement, Restart, VmSpec};
use dewpoint_proto::time::Millis;

use super::Effort;
use super::bare::{rate, rewrite};
use super::figure::{Pair, Target, print};

/// As many as the journal commits together at most.
const GROUP: usize = 128;
/// What an event writes: its row and its VM's.
const TABLES: [&str; 2] = ["events", "vms"];

/// Measures and prints it.
///
/// # Panics
/// When the journal fails.
pub async fn run(effort: Effort, dir: &Path) {
    let mut pairs = Vec::new();
    for round in 0..effort.of(3, 9) {
        let dir = dir.join(format!("journal-{round}"));
        std::fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        let value = journaled(&dir.join("agent.db"), effort.of(80, 120)).await;
        let baseline = rewrite(&dir.join("agent.db"), &TABLES, GROUP, &dir);
        pairs.push(Pair { value, baseline });
    }
    print("agent_journal_rate", "events/s", Target::AtLeast(0.7), &pairs);
}

/// `GROUP` callers that each have one event after the other journaled.
async fn journaled(path: &Path, each: usize) -> f64 {
    let boot = BootId::read().unwrap_or_else(|error| panic!("boot id: {error}"));
    let settings = Settings::new(Arc::new(SystemClock), boot, intake::judge);
    let journal = Journal::open(path, settings).unwrap_or_else(|error| panic!("{error}"));
    let bodies: Vec<Vec<Body>> = (0..GROUP).map(|_| (0..each).map(|_| create()).collect()).collect();
    let began = Instant::now();
    let callers = bodies.into_iter().map(|bodies| {
        let journal = journal.clone();
        tokio::spawn(async move {
            for body in bodies {
                let delivery = Delivery { origin: Origin::Local, payload: Payload::Event(body) };
                let admission = journal.admit(delivery).await;
                assert!(matches!(admission, Ok(Admission::New(_))), "{admission:?}");
            }
        })
    });
    futures::future::try_join_all(callers).await.unwrap_or_else(|error| panic!("{error}"));
    rate(GROUP * each, began.elapsed())
}

/// A create as callers send it: a NIC, a key, a little user-data.
fn create() -> Body {
    let nic = Nic {
        mac: "52:54:00:12:34:56".parse().unwrap_or_else(|_| panic!("a MAC address")),
        network: None,
        bridge: None,
        addresses: vec!["192.0.2.5/24".parse().unwrap_or_else(|_| panic!("an address"))],
        gateway4: None,
        gateway6: None,
        nameservers: Vec::new(),
    };
    let spec = VmSpec {
        name: "web".parse().unwrap_or_else(|_| panic!("a name")),
        vcpus: 1,
        memory_bytes: 512 * MIB,
        disk_bytes: 4 * GIB,
        disk_mode: DiskMode::Overlay,
        nics: vec![nic],
        ssh_keys: vec![format!("ssh-ed25519 {} me", "A".repeat(68))],
        user_data: b"#cloud-config\npackages: [nginx]\n".to_vec(),
        labels: [("team".to_owned(), "web".to_owned())].into(),
        placement: Placement::Bound,
        restart: Restart::default(),
    };
    let source = ImageRef {
        digest: ImageDigest([7; 32]),
        size_bytes: GIB,
        virtual_size_bytes: 2 * GIB,
        local_path: None,
    };
    let event = Event {
        id: EventId::fresh(),
        vm: VmId::fresh(),
        accepted_at: Millis::now(),
        not_after: None,
        retry_of: None,
        note: String::new(),
        kind: Kind::Create(Box::new(Create { spec, source, power: InitialPower::On })),
    };
    Body::encode(event).unwrap_or_else(|cause| panic!("{cause:?}"))
}
