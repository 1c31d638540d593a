//! Events, clocks and journals for the tests of the journal and of its neighbours.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use dewpoint_proto::event::{
    Body, Cancel, Create, Destroy, DiskDisposal, Event, InitialPower, Kind, Reboot, RebootManner,
};
use dewpoint_proto::ids::{EventId, Generation, Seq, Term, VmId};
use dewpoint_proto::spec::{DiskMode, ImageDigest, ImageRef, Placement, Restart, VmSpec};
use dewpoint_proto::time::Millis;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use uuid::Uuid;

use super::moment::BootId;
use super::{Bounds, Delivery, Journal, Origin, Payload, Settings};
use crate::clock::Clock;

/// A clock that stands still until it is moved; its wall clock can be moved by itself.
#[derive(Debug, Default)]
pub(crate) struct TestClock(AtomicU64, AtomicI64);

impl TestClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    /// As a person or NTP does it: only the wall clock.
    pub(crate) fn jump(&self, by_ms: i64) {
        self.1.fetch_add(by_ms, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn wall(&self) -> Millis {
        Millis(1_800_000_000_000 + self.1.load(Ordering::SeqCst)).plus(self.since_boot())
    }

    fn since_boot(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::SeqCst))
    }
}

pub(crate) fn settings() -> Settings {
    settings_with(Arc::new(TestClock::default()))
}

pub(crate) fn settings_with(clock: Arc<TestClock>) -> Settings {
    Settings::new(clock, BootId(Uuid::from_u128(7)), crate::intake::judge)
}

/// A folder with a journal's path in it.
pub(crate) struct Folder(tempfile::TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("dewpoint-journal-").tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn db(&self) -> PathBuf {
        self.0.path().join("agent.db")
    }

    pub(crate) fn open(&self) -> Journal {
        Journal::open(&self.db(), settings()).unwrap()
    }
}

/// A small file system in memory, gone with the test. None where that is not allowed.
pub(crate) struct SmallDisk {
    folder: Folder,
}

impl SmallDisk {
    pub(crate) fn of(mib: u64) -> Option<Self> {
        let folder = Folder::new();
        let size = format!("size={mib}m");
        let made =
            mount(Some("dewpoint-test"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some(size.as_str()));
        if let Err(error) = made {
            eprintln!("skipped: a small file system cannot be mounted here: {error}");
            return None;
        }
        Some(Self { folder })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A journal with a reserve of 4 MiB.
    pub(crate) fn open(&self) -> Journal {
        let bounds = Bounds { reserve_bytes: 4 << 20, most_pages: None };
        Journal::open_within(&self.folder.db(), settings(), bounds).unwrap()
    }

    /// To the last byte.
    pub(crate) fn fill(&self) {
        use std::io::Write;
        let mut file = std::fs::File::create(self.filler()).unwrap();
        while file.write_all(&[0x55; 4096]).is_ok() {}
    }

    /// There is room again.
    pub(crate) fn empty(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(self.path(), MntFlags::MNT_DETACH);
    }
}

pub(crate) fn vm(n: u128) -> VmId {
    VmId(Uuid::from_u128(0xa000 + n))
}

pub(crate) fn id(n: u128) -> EventId {
    EventId(Uuid::from_u128(0xe000 + n))
}

pub(crate) fn spec() -> VmSpec {
    VmSpec {
        name: "web".parse().unwrap(),
        vcpus: 1,
        memory_bytes: 1 << 30,
        disk_bytes: 1 << 30,
        disk_mode: DiskMode::Overlay,
        nics: Vec::new(),
        ssh_keys: Vec::new(),
        user_data: b"#cloud-config\n".to_vec(),
        labels: std::collections::BTreeMap::new(),
        placement: Placement::Bound,
        restart: Restart::default(),
    }
}

pub(crate) fn image() -> ImageRef {
    ImageRef { digest: ImageDigest([3; 32]), size_bytes: 9, virtual_size_bytes: 1 << 20, local_path: None }
}

pub(crate) fn create() -> Kind {
    Kind::Create(Box::new(Create { spec: spec(), source: image(), power: InitialPower::On }))
}

pub(crate) fn reboot() -> Kind {
    Kind::Reboot(Reboot { manner: RebootManner::Hard, timeout_seconds: None })
}

pub(crate) fn destroy() -> Kind {
    Kind::Destroy(Destroy { disks: DiskDisposal::Recycle })
}

pub(crate) fn cancel(target: EventId) -> Kind {
    Kind::Cancel(Cancel { target })
}

pub(crate) fn body(event: EventId, vm: VmId, kind: Kind) -> Body {
    body_until(event, vm, kind, None)
}

pub(crate) fn body_until(event: EventId, vm: VmId, kind: Kind, not_after: Option<Millis>) -> Body {
    let accepted_at = Millis(1_800_000_000_000);
    Body::encode(Event { id: event, vm, accepted_at, not_after, retry_of: None, note: String::new(), kind })
        .unwrap()
}

/// The delivery number `seq`: event `seq` of a VM, with generation `seq`.
pub(crate) fn delivery(seq: u64, vm: VmId, kind: Kind) -> Delivery {
    delivered(seq, body(id(seq.into()), vm, kind))
}

pub(crate) fn delivered(seq: u64, body: Body) -> Delivery {
    let origin = Origin::Delivered { seq: Seq(seq), term: Term(1), generation: Generation(seq) };
    Delivery { origin, payload: Payload::Event(body) }
}

pub(crate) fn local(body: Body) -> Delivery {
    Delivery { origin: Origin::Local, payload: Payload::Event(body) }
}

/// The first delivery: a create of VM `n`, accepted.
pub(crate) async fn accepted_create(journal: &Journal, n: u128) {
    let admission = journal.admit(delivered(1, body(id(n), vm(n), create()))).await.unwrap();
    assert!(matches!(admission, super::Admission::New(_)), "{admission:?}");
}

/// Keeps the journal's thread busy until what is returned is dropped.
pub(crate) async fn stall(journal: &Journal) -> std::sync::mpsc::SyncSender<()> {
    let (release, released) = std::sync::mpsc::sync_channel::<()>(1);
    let (job, _answer) = super::job::Task::job(
        super::job::Access::Read,
        move |_| {
            // Ends when the other end is dropped.
            let _ = released.recv();
            Ok(())
        },
        None,
    );
    assert!(journal.0.inbox.send(job).await.is_ok(), "the journal lives");
    release
}

/// A whole copy of a journal that is closed, as SQLite's own backup makes it.
pub(crate) fn copied(from: &Path, to: &Path) {
    let db = rusqlite::Connection::open(from).unwrap();
    db.execute("VACUUM INTO ?1", [to.to_str().unwrap()]).unwrap();
}
