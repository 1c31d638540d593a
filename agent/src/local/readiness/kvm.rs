//! KVM, by a guest that is seen to run. A device that opens proves nothing: there are nested machines on which it creates
//! VMs and runs their firmware, and which hang as soon as a guest enters 64-bit mode.

mod boot_sector;

use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, timeout};

use super::{Judged, bad, good, note};
use crate::config::Config;
use crate::hypervisor::libvirt::VirtType;

const DEVICE: &str = "/dev/kvm";
const QEMU: &str = "/usr/bin/qemu-system-x86_64";
/// On a KVM that works it takes half a second.
const DEADLINE: Duration = Duration::from_secs(10);

/// How far KVM goes here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kvm {
    /// There is no device.
    Absent,
    /// The device is there, and not for us.
    Denied,
    /// The device opens, and there is no QEMU, or none of this architecture, to try it with.
    Untried(String),
    /// A guest entered 64-bit mode, wrote to its memory, and said so.
    Runs(Duration),
    /// A guest was started, and said nothing in time.
    Hangs,
    /// QEMU did not start the guest.
    Fails(String),
}

pub(super) async fn check(config: &Config) -> Judged {
    judge(&look().await, config.hypervisor.virt_type)
}

fn judge(kvm: &Kvm, wanted: VirtType) -> Judged {
    let emulation =
        "or set hypervisor.virt_type = \"qemu\" and cpu_mode = \"maximum\": software emulation, slow";
    match (kvm, wanted) {
        (Kvm::Runs(took), VirtType::Kvm) => {
            good(format!("a guest ran on KVM within {} ms", took.as_millis()))
        }
        (Kvm::Runs(_), VirtType::Qemu) => note(
            "guests are emulated (hypervisor.virt_type = \"qemu\"), though KVM works here",
            "set hypervisor.virt_type = \"kvm\" and cpu_mode = \"host-passthrough\"",
        ),
        (_, VirtType::Qemu) => note(
            "guests are emulated (hypervisor.virt_type = \"qemu\"): slow, and KVM does not run them here",
            "for trials only; for more, take a machine with KVM",
        ),
        (Kvm::Absent, VirtType::Kvm) => bad(
            format!("there is no {DEVICE}"),
            format!(
                "switch virtualisation on in the firmware, and `modprobe kvm_intel` or `kvm_amd`; in a VM, let its host pass it on (nested virtualisation); {emulation}"
            ),
        ),
        (Kvm::Denied, VirtType::Kvm) => note(
            format!("{DEVICE} may not be opened by this user, so it was not tried"),
            "run this as root, or as a member of group kvm",
        ),
        (Kvm::Untried(why), VirtType::Kvm) => note(
            format!("{DEVICE} opens, and no guest was tried: {why}"),
            "start a VM and see whether it boots",
        ),
        (Kvm::Hangs, VirtType::Kvm) => bad(
            format!("{DEVICE} opens, but a guest on it hung in 64-bit mode ({} s)", DEADLINE.as_secs()),
            format!(
                "this is what incomplete nested virtualisation looks like: ask whoever runs the outer host; {emulation}"
            ),
        ),
        (Kvm::Fails(said), VirtType::Kvm) => bad(
            format!("{DEVICE} opens, but QEMU cannot use it: {said}"),
            format!("see `dmesg | grep -i kvm`; {emulation}"),
        ),
    }
}

async fn look() -> Kvm {
    match OpenOptions::new().read(true).write(true).open(DEVICE) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Kvm::Denied,
        Err(_) => return Kvm::Absent,
        Ok(_) => {}
    }
    if std::env::consts::ARCH != "x86_64" {
        return Kvm::Untried(format!("there is no guest for {} to try", std::env::consts::ARCH));
    }
    if !Path::new(QEMU).exists() {
        return Kvm::Untried(format!("{QEMU} is not installed"));
    }
    run_guest("kvm", DEADLINE).await
}

/// Starts a machine whose disk holds the boot sector, and nothing else.
async fn run_guest(accelerator: &str, deadline: Duration) -> Kvm {
    let disk = match Disk::make() {
        Ok(disk) => disk,
        Err(error) => return Kvm::Untried(format!("no file for its disk could be made: {error}")),
    };
    let began = Instant::now();
    let ended = timeout(deadline, qemu(accelerator, &disk.0)).await;
    match ended {
        Err(_) => Kvm::Hangs,
        Ok(Err(error)) => Kvm::Fails(error.to_string()),
        Ok(Ok((status, _))) if status.code() == Some(boot_sector::SAID) => Kvm::Runs(began.elapsed()),
        Ok(Ok((_, said))) => Kvm::Fails(said),
    }
}

async fn qemu(accelerator: &str, disk: &Path) -> std::io::Result<(ExitStatus, String)> {
    let machine = format!("q35,accel={accelerator}");
    let drive = format!("file={},format=raw,if=ide,snapshot=on", disk.display());
    let ended = Command::new(QEMU)
        .args([
            "-machine",
            &machine,
            "-cpu",
            "max",
            "-m",
            "16",
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
        ])
        .args(["-no-reboot", "-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-drive", &drive])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?
        .wait_with_output()
        .await?;
    let said = String::from_utf8_lossy(&ended.stderr);
    Ok((ended.status, said.lines().last().unwrap_or("it said nothing").to_owned()))
}

/// The guest's disk; removed when dropped. Smaller than a cylinder, firmware would not read it.
struct Disk(PathBuf);

impl Disk {
    fn make() -> std::io::Result<Self> {
        let path = std::env::temp_dir().join(format!("dewpoint-kvm-{}.img", uuid::Uuid::new_v4()));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let disk = Self(path);
        file.write_all(&boot_sector::bytes())?;
        file.set_len(1 << 20)?;
        Ok(disk)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // In a folder for temporary files: one that stays is no harm.
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_device_that_opens_is_not_enough() {
        let verdict = |kvm, wanted| judge(&kvm, wanted).0;
        assert_eq!(verdict(Kvm::Runs(Duration::from_millis(300)), VirtType::Kvm), Verdict::Good);
        assert_eq!(verdict(Kvm::Hangs, VirtType::Kvm), Verdict::Bad);
        assert_eq!(verdict(Kvm::Absent, VirtType::Kvm), Verdict::Bad);
        assert_eq!(verdict(Kvm::Untried("no QEMU".into()), VirtType::Kvm), Verdict::Note);
        assert_eq!(verdict(Kvm::Hangs, VirtType::Qemu), Verdict::Note);
        assert!(judge(&Kvm::Hangs, VirtType::Kvm).2.contains("virt_type = \"qemu\""));
    }

    #[tokio::test]
    async fn the_guest_says_that_it_reached_64_bit_mode() {
        // Emulation runs the same guest, wherever QEMU is.
        let ran = run_guest("tcg", Duration::from_secs(60)).await;
        assert!(matches!(ran, Kvm::Runs(_)), "{ran:?}");
    }

    #[tokio::test]
    async fn a_guest_that_says_nothing_hangs_and_leaves_nothing_behind() {
        assert_eq!(run_guest("tcg", Duration::from_millis(1)).await, Kvm::Hangs);
        assert!(matches!(run_guest("nothing", Duration::from_secs(60)).await, Kvm::Fails(_)));
    }
}
