//! libvirt and QEMU: that they answer, and are not older than what Dewpoint is tested with.

use std::time::Duration;

use super::ask::ask;
use super::{Judged, bad, good};
use crate::config::Config;

const DEADLINE: Duration = Duration::from_secs(10);
/// Debian 12's.
const OLDEST_LIBVIRT: Version = Version(9, 0, 0);
const OLDEST_QEMU: Version = Version(7, 2, 0);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u32, u32, u32);

pub(super) async fn check(config: &Config) -> Judged {
    let uri = &config.hypervisor.uri;
    // A client of its own, so that a call that hangs can be ended.
    let answer = ask("virsh", &["-q", "-c", uri, "version", "--daemon"], "", DEADLINE).await;
    match answer {
        Some(answer) if answer.status.success() => judge(&answer.said),
        Some(answer) => bad(
            format!("{uri} does not answer: {}", answer.said.lines().last().unwrap_or_default()),
            "`systemctl start libvirtd.socket` (or virtqemud.socket), then `journalctl -u libvirtd`",
        ),
        None => bad(
            format!("{uri} did not answer within {} s", DEADLINE.as_secs()),
            "is libvirt-clients installed? else `systemctl status libvirtd`, `journalctl -u libvirtd`",
        ),
    }
}

fn judge(said: &str) -> Judged {
    let (daemon, qemu) = (after(said, "Running against daemon: "), after(said, "Running hypervisor: QEMU "));
    match (daemon, qemu) {
        (Some(daemon), _) if daemon < OLDEST_LIBVIRT => bad(
            format!("libvirt {daemon} is older than {OLDEST_LIBVIRT}"),
            "upgrade the host's system: Debian 12 has 9.0",
        ),
        (_, Some(qemu)) if qemu < OLDEST_QEMU => bad(
            format!("QEMU {qemu} is older than {OLDEST_QEMU}"),
            "upgrade the host's system: Debian 12 has 7.2",
        ),
        (Some(daemon), Some(qemu)) => good(format!("libvirt {daemon}, QEMU {qemu}")),
        _ => {
            bad("libvirt answers, but does not name a QEMU", "install qemu-system-x86, then restart libvirtd")
        }
    }
}

fn after(said: &str, words: &str) -> Option<Version> {
    let text = said.lines().find_map(|line| line.strip_prefix(words))?;
    let mut parts = text.split('.').map(str::parse::<u32>);
    let mut part = || parts.next().and_then(Result::ok);
    Some(Version(part()?, part()?, part().unwrap_or(0)))
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        let says = |daemon: &str, qemu: &str| {
            judge(&format!(
                "Using library: libvirt 1.0.0\nRunning hypervisor: QEMU {qemu}\nRunning against daemon: {daemon}"
            ))
        };
        assert_eq!(says("11.3.0", "10.0.2").0, Verdict::Good);
        assert_eq!(says("9.0.0", "7.2.22").0, Verdict::Good);
        assert_eq!(says("8.10.0", "7.2.0").0, Verdict::Bad);
        assert_eq!(says("9.0.0", "6.2.0").0, Verdict::Bad);
        assert_eq!(judge("Running against daemon: 9.0.0").0, Verdict::Bad);
    }
}
