//! A libvirt of a lab's own: `libvirtd` and `virtlogd` that may be killed, stopped and started without anybody else's
//! noticing.
//!
//! Owns: both daemons, in a mount namespace where libvirt's folders (`/run/libvirt`, `/etc/libvirt`, `/var/lib/libvirt`,
//! its logs) are the lab's. Network, processes and users are the machine's, so guests, taps and rules are as
//! they always are. Guests outlive the daemon, as on a host; the lab removes them with its folder.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use nix::sys::signal::Signal;

use crate::host::{Libvirt, Place};
use crate::lab::Lab;
use crate::process::Daemon;
use crate::shell;
use crate::wait::{BOOT, until};

/// libvirt's folders, and the lab's in their place.
const FOLDERS: [(&str, &str); 4] = [
    ("run", "/run/libvirt"),
    ("etc", "/etc/libvirt"),
    ("lib", "/var/lib/libvirt"),
    ("log", "/var/log/libvirt"),
];
/// What QEMU can do, as libvirt found out: all labs' together, for finding out takes a busy machine minutes.
const CAPABILITIES: &str = "/var/cache/libvirt";

/// No confinement by profiles that name the machine's paths, no cgroups that another libvirt names alike, and no
/// authentication beside the folder's permissions.
const QEMU_CONF: &str = "security_driver = \"none\"\nnamespaces = [ ]\ncgroup_controllers = [ ]\n";
const DAEMON_CONF: &str = "unix_sock_group = \"root\"\nunix_sock_rw_perms = \"0700\"\nauth_unix_ro = \"none\"\nauth_unix_rw = \"none\"\n";

/// The lab's own libvirt; both daemons are killed when dropped.
#[derive(Debug)]
pub struct Libvirtd {
    dir: PathBuf,
    place: Place,
    daemon: Option<Daemon>,
    _log_daemon: Daemon,
}

impl Libvirtd {
    /// Makes its folders and starts its log daemon; libvirtd itself is not started. The lab must be one
    /// [`Lab::with_libvirt`].
    ///
    /// # Panics
    /// When the folders cannot be made.
    #[must_use]
    pub fn new(lab: &Lab) -> Self {
        let dir = lab.dir().join("libvirt");
        for (own, _) in FOLDERS {
            let own = dir.join(own);
            std::fs::create_dir_all(&own).unwrap_or_else(|error| panic!("{}: {error}", own.display()));
        }
        for (name, text) in [("qemu.conf", QEMU_CONF), ("libvirtd.conf", DAEMON_CONF)] {
            let path = dir.join("etc").join(name);
            std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        }
        // In its place nobody finds KVM.
        let no_kvm = dir.join("no-kvm");
        let made = std::fs::write(&no_kvm, "")
            .and_then(|()| std::fs::set_permissions(&no_kvm, Permissions::from_mode(0o000)));
        made.unwrap_or_else(|error| panic!("{}: {error}", no_kvm.display()));
        let log_daemon = start("virtlogd", &dir);
        Self { dir, place: lab.hypervisor().clone(), daemon: None, _log_daemon: log_daemon }
    }

    /// Starts it, and waits until it answers.
    ///
    /// # Panics
    /// When it does not.
    pub async fn start(&mut self) {
        self.start_without_waiting();
        let Some(daemon) = self.daemon.as_mut() else { return };
        let place = &self.place;
        until("the lab's libvirtd answers", BOOT, async || {
            daemon.must_run();
            Libvirt::try_connect(place).map(drop)
        })
        .await;
        // What QEMU can do is asked once, and after QEMU was upgraded; on a busy machine that takes minutes, which belong
        // to no test.
        shell::run("virsh", ["-q", "-c", self.place.uri(), "domcapabilities", "--virttype", "qemu"]);
    }

    /// Starts it, and leaves it to itself.
    ///
    /// # Panics
    /// When it runs already.
    pub fn start_without_waiting(&mut self) {
        assert!(self.daemon.is_none(), "libvirtd runs already");
        self.daemon = Some(start("libvirtd", &self.dir));
    }

    /// How it ended, if it did so by itself; it can be started again then.
    pub fn ended_by_itself(&mut self) -> Option<ExitStatus> {
        let ended = self.daemon.as_mut()?.ended().ok()?;
        self.daemon = None;
        Some(ended)
    }

    /// SIGKILL; its guests run on.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut daemon = self.daemon.take().unwrap_or_else(|| panic!("libvirtd does not run"));
        daemon.must_run();
        daemon.kill();
    }

    /// SIGTERM, and its exit status; its guests run on.
    ///
    /// # Panics
    /// When it does not run, or does not end.
    pub async fn stop(&mut self) -> ExitStatus {
        let mut daemon = self.daemon.take().unwrap_or_else(|| panic!("libvirtd does not run"));
        daemon.terminate().await
    }

    /// Whether it runs.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.daemon.is_some()
    }

    /// SIGSTOP: it answers nothing until [`Libvirtd::resume`].
    ///
    /// # Panics
    /// When it does not run.
    pub fn stall(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// When it does not run.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let daemon = self.daemon.as_ref().unwrap_or_else(|| panic!("libvirtd does not run"));
        crate::process::signal(daemon.pid(), signal);
    }
}

/// Starts a daemon in a mount namespace of its own, made anew: the folders below are the same. It sees what is mounted by
/// then, and not what is mounted later.
fn start(name: &'static str, dir: &Path) -> Daemon {
    let capabilities = crate::lab::capabilities();
    std::fs::create_dir_all(&capabilities)
        .unwrap_or_else(|error| panic!("{}: {error}", capabilities.display()));
    let folders = FOLDERS.iter().map(|(own, at)| (dir.join(own), *at));
    let mounts: Vec<_> = folders
        .chain([(capabilities, CAPABILITIES)])
        .map(|(own, at)| format!("mkdir -p {at} && mount --bind {} {at} && ", own.display()))
        .collect();
    // Where KVM is there and QEMU's user may not use it, libvirt finds out anew after each start what QEMU can do.
    let no_kvm = match crate::agent::virt_type().as_str() {
        "kvm" => String::new(),
        _ => {
            format!("if [ -e /dev/kvm ]; then mount --bind {} /dev/kvm; fi && ", dir.join("no-kvm").display())
        }
    };
    let pid_file = dir.join(format!("{name}.pid"));
    let script = format!("{}{no_kvm}exec {name} --pid-file {}", mounts.concat(), pid_file.display());
    let log = dir.join(format!("{name}.log"));
    Daemon::run(name, Path::new("unshare"), ["--mount", "--", "sh", "-c", &script], &log)
}
