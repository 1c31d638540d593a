//! libvirt's daemon goes away, stalls, and comes back. A daemon of the test's own, with libvirt's test driver in it.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::VmId;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::host::{PATIENCE, eventually, listening};
use crate::hypervisor::libvirt::{Deadlines, Libvirt, Settings};
use crate::hypervisor::{DomainEvent, Hypervisor, Seen};

/// Root's daemon would be the host's; anybody else's is private.
const NOBODY: u32 = 65534;

struct Daemon {
    dir: TempDir,
    child: Option<Child>,
}

impl Daemon {
    fn new() -> Self {
        let dir = TempDir::with_prefix("dwhv-daemon-").unwrap();
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        if nix::unistd::geteuid().is_root() {
            chown(dir.path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut daemon = Self { dir, child: None };
        daemon.start();
        daemon
    }

    fn start(&mut self) {
        let dir = self.dir.path();
        // A daemon whose test is killed must go as well: it lives as long as its parent.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if nix::unistd::geteuid().is_root() {
            command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
        }
        let child = command
            .args(["libvirtd", "--timeout", "600"])
            .env("HOME", dir)
            .env("XDG_RUNTIME_DIR", dir)
            .env("XDG_CONFIG_HOME", dir.join("config"))
            .env("XDG_CACHE_HOME", dir.join("cache"))
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    fn signal(&self, signal: Signal) {
        let pid = self.child.as_ref().unwrap().id();
        kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
    }

    fn settings(&self) -> Settings {
        let socket = self.dir.path().join("libvirt/libvirt-sock");
        let second = Duration::from_secs(1);
        Settings {
            uri: format!("test+unix:///default?socket={}", socket.display()),
            deadlines: Deadlines { list: second, observe: second, ..Deadlines::default() },
            ..Settings::default()
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

async fn resync(events: &mut tokio::sync::broadcast::Receiver<DomainEvent>) {
    let wait = async { while events.recv().await != Ok(DomainEvent::Resync) {} };
    tokio::time::timeout(PATIENCE, wait).await.expect("a resync");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_and_returns_is_used_again() {
    assert!(Path::new("/usr/sbin/libvirtd").exists(), "libvirtd is installed");
    let mut daemon = Daemon::new();
    let libvirt = Libvirt::new(daemon.settings()).unwrap();
    listening(&libvirt).await;
    libvirt.list().await.unwrap();
    assert_eq!(libvirt.degraded(), []);
    assert_eq!(libvirt.observe(VmId::fresh()).await, Seen::Absent);

    daemon.kill();
    assert_eq!(libvirt.list().await.unwrap_err().reason, Reason::HypervisorDown);
    assert!(matches!(libvirt.observe(VmId::fresh()).await, Seen::Unknown(_)), "down is not absent");
    eventually("degraded", || libvirt.degraded().iter().any(|c| c.reason == Reason::HypervisorDown)).await;

    let mut events = libvirt.events();
    daemon.start();
    resync(&mut events).await;
    libvirt.list().await.unwrap();
    assert_eq!(libvirt.degraded(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stalls_is_unknown_and_not_waited_for() {
    let daemon = Daemon::new();
    let libvirt = Libvirt::new(daemon.settings()).unwrap();
    listening(&libvirt).await;
    libvirt.list().await.unwrap();
    daemon.signal(Signal::SIGSTOP);
    let began = Instant::now();
    assert!(matches!(libvirt.observe(VmId::fresh()).await, Seen::Unknown(_)));
    assert_eq!(libvirt.list().await.unwrap_err().reason, Reason::CallOverran);
    assert!(began.elapsed() < Duration::from_secs(10));
    daemon.signal(Signal::SIGCONT);
    libvirt.list().await.unwrap();
}
