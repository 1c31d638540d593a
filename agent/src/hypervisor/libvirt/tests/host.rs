//! A hypervisor of the test's own: `qemu:///embed?root=DIR`. One for the process (libvirt's rule, and each connection takes
//! one of its 20 places for drivers, so run one test a process, as nextest does); its VMs are apart.
//!
//! A test that is killed leaves its QEMUs behind: the next run removes those whose owner is dead.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use dewpoint_proto::ids::{EventId, Generation, RunId, VmId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::broadcast;
use virt::connect::Connect;

use crate::hypervisor::libvirt::{Deadlines, Libvirt, Settings, VirtType, eventloop};
use crate::hypervisor::{Domain, DomainEvent, DomainSpec, Hypervisor, Mark, Seen, Wanted};

/// Short: libvirt puts Unix sockets below it.
const PREFIX: &str = "/tmp/dwhv-";
/// For anything that a busy machine may delay.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

static ROOT: OnceLock<Root> = OnceLock::new();

struct Root {
    dir: PathBuf,
    /// libvirt's driver ends with its last connection.
    connect: Connect,
}

/// The folder of this process, with libvirt's driver running in it.
pub(super) fn root() -> &'static Path {
    &started().dir
}

/// A connection for what Dewpoint itself never does.
pub(super) fn raw() -> Connect {
    started().connect.clone()
}

fn started() -> &'static Root {
    ROOT.get_or_init(|| {
        sweep();
        let dir = PathBuf::from(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir_all(dir.join("etc")).unwrap();
        // The log daemon of the system is not ours to use; QEMU runs as whoever runs the test.
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        let conf = format!(
            "stdio_handler = \"file\"\nuser = \"+{user}\"\ngroup = \"+{group}\"\nnamespaces = []\ncgroup_controllers = []\n"
        );
        fs::write(dir.join("etc/qemu.conf"), conf).unwrap();
        guard(&dir);
        eventloop::ensure().unwrap();
        let connect = Connect::open(Some(&uri(&dir))).unwrap();
        Root { dir, connect }
    })
}

fn uri(dir: &Path) -> String {
    format!("qemu:///embed?root={}", dir.display())
}

/// A process that outlives this one by a moment, however it ends, and removes what it leaves.
#[expect(clippy::zombie_processes, reason = "it ends after its parent, which cannot wait for it then")]
fn guard(dir: &Path) {
    let script = r#"tail --pid="$1" -f /dev/null
        for exe in /proc/[0-9]*; do
            tr '\0' ' ' <"$exe/cmdline" 2>/dev/null | grep -qF -- "$2/" &&
            tr '\0' ' ' <"$exe/cmdline" 2>/dev/null | grep -q '^[^ ]*qemu-system' && kill -9 "${exe#/proc/}"
        done
        rm -rf -- "$2""#;
    Command::new("sh")
        .args(["-c", script, "guard", &std::process::id().to_string()])
        .arg(dir)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .process_group(0)
        .spawn()
        .unwrap();
}

/// What the guard of an earlier run could not remove, because it was killed as well.
fn sweep() {
    for entry in fs::read_dir("/tmp").unwrap().flatten() {
        let path = entry.path();
        let Some(owner) = path.to_str().and_then(|path| path.strip_prefix(PREFIX)) else { continue };
        let Ok(owner) = owner.parse::<i32>() else { continue };
        if Path::new(&format!("/proc/{owner}")).exists() {
            continue;
        }
        for pid in qemus(&path) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        drop(fs::remove_dir_all(&path));
    }
}

/// The QEMUs whose command line names something below a folder.
fn qemus(dir: &Path) -> Vec<Pid> {
    let needle = format!("{}/", dir.display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line);
            let program = line.split('\0').next()?;
            (program.contains("qemu-system") && line.contains(&needle)).then_some(Pid::from_raw(pid))
        })
        .collect()
}

/// Settings for this process' hypervisor.
pub(super) fn settings() -> Settings {
    Settings { uri: uri(root()), virt_type: VirtType::Qemu, ..Settings::default() }
}

/// With a short deadline for questions to the guest.
pub(super) fn impatient(guest: Duration) -> Settings {
    Settings { deadlines: Deadlines { guest, ..Deadlines::default() }, ..settings() }
}

/// A VM of the test's own with a small empty disk; dropped: gone.
pub(super) struct TestVm {
    pub spec: DomainSpec,
}

impl TestVm {
    pub(super) fn new(name: &str) -> Self {
        let vm = VmId::fresh();
        let dir = root().join(vm.to_string());
        fs::create_dir_all(&dir).unwrap();
        let (disk, seed) = (dir.join("disk.qcow2"), dir.join("seed"));
        qemu_img(&["create", "-q", "-f", "qcow2", disk.to_str().unwrap(), "4M"]);
        fs::write(&seed, [0; 4096]).unwrap();
        let event = EventId::fresh();
        let mark = Mark {
            vm,
            generation: Generation(1),
            event,
            run: Some(RunId::from(event)),
            wanted: Wanted::On,
            disk: event,
            seed: event,
        };
        Self {
            spec: DomainSpec {
                name: name.to_owned(),
                vcpus: 1,
                memory_bytes: 64 << 20,
                disk,
                backing: Vec::new(),
                seed,
                nics: Vec::new(),
                console_log: dir.join("console.log"),
                mark,
            },
        }
    }

    pub(super) fn id(&self) -> VmId {
        self.spec.mark.vm
    }

    pub(super) fn dir(&self) -> PathBuf {
        root().join(self.id().to_string())
    }

    /// Its QEMU.
    pub(super) fn pid(&self) -> Pid {
        let found = qemus(&self.dir());
        assert_eq!(found.len(), 1, "one QEMU for the VM");
        found[0]
    }

    pub(super) fn qemu_count(&self) -> usize {
        qemus(&self.dir()).len()
    }
}

impl Drop for TestVm {
    fn drop(&mut self) {
        for pid in qemus(&self.dir()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        if let Ok(domain) = raw().lookup_domain_by_uuid(self.id().0) {
            drop(domain.undefine());
        }
    }
}

pub(super) fn qemu_img(arguments: &[&str]) -> String {
    let output = Command::new("qemu-img").args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The domain, which must be there.
pub(super) async fn there(libvirt: &Libvirt, vm: VmId) -> Domain {
    match libvirt.observe(vm).await {
        Seen::There(domain) => domain,
        other => panic!("expected a domain, found {other:?}"),
    }
}

/// Looks until the domain is as wanted, on every event and now and then.
pub(super) async fn until(
    libvirt: &Libvirt,
    vm: VmId,
    what: &str,
    wanted: impl Fn(&Seen<Domain>) -> bool,
) -> Seen<Domain> {
    let (mut events, began) = (libvirt.events(), Instant::now());
    loop {
        let seen = libvirt.observe(vm).await;
        if wanted(&seen) {
            return seen;
        }
        assert!(began.elapsed() < PATIENCE, "not {what} in time: {seen:?}");
        drop(tokio::time::timeout(Duration::from_millis(200), events.recv()).await);
    }
}

/// Events from now on, once libvirt is connected to tell of them: what happens before that is for a look to find.
pub(super) async fn listening(libvirt: &Libvirt) -> broadcast::Receiver<DomainEvent> {
    eventually("libvirt's events are listened to", || libvirt.events.is_up()).await;
    libvirt.events()
}

/// The next event of a VM whose words begin so.
pub(super) async fn event(events: &mut broadcast::Receiver<DomainEvent>, vm: VmId, words: &str) -> String {
    let wait = async {
        loop {
            if let Ok(DomainEvent::Changed(found, text)) = events.recv().await
                && found == vm
                && text.starts_with(words)
            {
                return text;
            }
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("no event `{words}`"))
}

/// Looks now and then until something holds that no event tells of.
pub(super) async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let (began, mut looks) = (Instant::now(), tokio::time::interval(Duration::from_millis(10)));
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}: not in time");
        looks.tick().await;
    }
}
