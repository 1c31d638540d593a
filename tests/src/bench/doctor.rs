//! `doctor_1000`: how long a person waits who asks what is wrong with a host of 1,000 VMs.

mod still;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use dewpoint_agent::clock::SystemClock;
use dewpoint_agent::doctor::compare;
use dewpoint_agent::doctor::look::Eyes;
use dewpoint_agent::doctor::world::{Configured, Daemon, Scope};
use dewpoint_agent::hypervisor::{DomainSpec, Mark, Wanted};
use dewpoint_agent::intake;
use dewpoint_agent::journal::moment::BootId;
use dewpoint_agent::journal::orphan::Adopted;
use dewpoint_agent::journal::{Journal, Settings};
use dewpoint_agent::storage::{self, Files, JobProgress, NewDisk, Storage, describe_image};
use dewpoint_proto::ids::{EventId, Generation, HostId, VmId};
use dewpoint_proto::limits::MIB;
use dewpoint_proto::spec::{DiskMode, ImageDigest, Placement, VmSpec};
use still::Still;

use super::Effort;
use super::figure::{Pair, Target, print_absolute};

/// The VMs of the host.
const VMS: usize = 1000;

/// Measures and prints it.
///
/// # Panics
/// When the host cannot be made, or the doctor finds something in it.
pub async fn run(effort: Effort, dir: &Path) {
    let data = dir.join("doctor");
    let host = Host::new(&data).await;
    let mut pairs = Vec::new();
    for _ in 0..effort.of(3, 9) {
        let began = Instant::now();
        let found = compare(&host.eyes.look(Scope::Host).await);
        let value = began.elapsed().as_secs_f64();
        assert!(found.is_empty(), "a sound host: {:?}", found.first());
        pairs.push(Pair { value, baseline: bare(&data.join("vms")) });
    }
    print_absolute("doctor_1000", "s", Target::AtMost(5.0), &pairs);
}

/// The folders listed and each file looked at, which is the least that must be done.
fn bare(vms: &Path) -> f64 {
    let began = Instant::now();
    let mut files = 0;
    for folder in std::fs::read_dir(vms).into_iter().flatten().flatten() {
        for file in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            files += usize::from(file.metadata().is_ok());
        }
    }
    assert!(files >= 3 * VMS, "{files} files");
    began.elapsed().as_secs_f64()
}

/// A host with real files and a real journal; domains and rules in memory.
struct Host {
    eyes: Eyes,
}

impl Host {
    async fn new(data: &Path) -> Self {
        let id = HostId::fresh();
        let settings = storage::Settings { reserve_bytes: 0, ..storage::Settings::new(data.to_owned(), id) };
        let files = Files::open(settings, Arc::new(SystemClock)).unwrap_or_else(|cause| panic!("{cause:?}"));
        let boot = BootId::read().unwrap_or_else(|error| panic!("boot id: {error}"));
        let settings = Settings::new(Arc::new(SystemClock), boot, intake::judge);
        let db = data.join("agent.db");
        let journal = Journal::open(&db, settings).unwrap_or_else(|error| panic!("{error}"));
        let image = image(data, &files).await;
        let mut domains = Vec::new();
        for _ in 0..VMS / 20 {
            let some = (0..20).map(|_| vm(&files, &journal, image));
            domains.extend(futures::future::join_all(some).await);
        }
        let still = Arc::new(Still::new(domains));
        let eyes = Eyes {
            host: Some(id),
            daemon: Daemon::Up,
            journal: db,
            hypervisor: still.clone(),
            files,
            shield: still,
            links: "/sys/class/net".into(),
            coordinator: None,
            configured: Configured {
                bridge: "br0".parse().unwrap_or_else(|_| panic!("a bridge's name")),
                table: "dewpoint".to_owned(),
                recycle_budget: u64::MAX,
            },
        };
        Self { eyes }
    }
}

/// Its files and its row; the domain is what is left to be put somewhere.
async fn vm(files: &Files, journal: &Journal, image: ImageDigest) -> DomainSpec {
    let (vm, event) = (VmId::fresh(), EventId::fresh());
    let (mode, size_bytes) = (DiskMode::Overlay, 8 * MIB);
    let new = NewDisk { vm, event, image, mode, size_bytes, made_of: Some(spec().into()) };
    files.make_disk(&new, &JobProgress::default()).await.unwrap_or_else(|cause| panic!("{cause:?}"));
    files.make_seed(vm, event, &spec()).await.unwrap_or_else(|cause| panic!("{cause:?}"));
    let paths = files.disk_paths(vm, event).await.unwrap_or_else(|cause| panic!("{cause:?}"));
    let mark = Mark {
        vm,
        generation: Generation(1),
        event,
        run: None,
        wanted: Wanted::Off,
        disk: event,
        seed: event,
    };
    let taken = journal.take_in(Adopted { mark: mark.clone(), spec: spec() }).await;
    assert!(taken.unwrap_or_else(|error| panic!("{error}")));
    DomainSpec {
        name: "web".to_owned(),
        vcpus: 1,
        memory_bytes: 128 * MIB,
        disk: paths.disk,
        backing: paths.backing,
        seed: files.seed_path(vm, event),
        nics: Vec::new(),
        console_log: files.console_path(vm),
        mark,
    }
}

async fn image(data: &Path, files: &Files) -> ImageDigest {
    let path = data.join("image.raw");
    let file = std::fs::File::create(&path).and_then(|file| file.set_len(4 * MIB));
    file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut image = describe_image(&path).unwrap_or_else(|cause| panic!("{cause:?}"));
    image.local_path = Some(path.to_string_lossy().into_owned());
    let fetched = files.fetch_image(&image, None, &JobProgress::default()).await;
    fetched.unwrap_or_else(|cause| panic!("{cause:?}"));
    image.digest
}

fn spec() -> VmSpec {
    VmSpec {
        name: "web".parse().unwrap_or_else(|_| panic!("a name")),
        vcpus: 1,
        memory_bytes: 128 * MIB,
        disk_bytes: 8 * MIB,
        disk_mode: DiskMode::Overlay,
        nics: Vec::new(),
        ssh_keys: Vec::new(),
        user_data: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        placement: Placement::Bound,
        restart: dewpoint_proto::spec::Restart::default(),
    }
}
