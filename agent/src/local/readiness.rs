//! Whether this machine is ready to run VMs: `doctor --host`.
//!
//! A check is a file. It gathers its facts within a deadline, changing nothing (the file system is asked by a file that is
//! removed again), and a pure function judges them. What could not be found out is said, and is never called good.

mod access;
mod apparmor;
mod ask;
mod bridge;
mod cgroup;
mod clock;
mod coordinator;
mod firewall;
mod guests;
mod kvm;
mod libvirt;
mod reflink;
mod space;

use serde::Serialize;

use crate::config::Config;

/// What one check came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The check's name.
    pub check: &'static str,
    /// How it stands.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; empty when it is good.
    pub remedy: String,
}

/// How a check stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As it should be.
    Good,
    /// VMs run; something could be better, or could not be found out.
    Note,
    /// VMs cannot run, or not safely.
    Bad,
}

impl Verdict {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Bad => "bad",
        }
    }
}

/// A verdict that does not know its check's name yet.
type Judged = (Verdict, String, String);

fn good(found: impl Into<String>) -> Judged {
    (Verdict::Good, found.into(), String::new())
}

fn note(found: impl Into<String>, remedy: impl Into<String>) -> Judged {
    (Verdict::Note, found.into(), remedy.into())
}

fn bad(found: impl Into<String>, remedy: impl Into<String>) -> Judged {
    (Verdict::Bad, found.into(), remedy.into())
}

/// Carries out every check, side by side, and lists them in one order. It takes as long as the slowest: ten seconds where
/// KVM hangs.
pub async fn examine(config: &Config) -> Vec<Finding> {
    let (kvm, libvirt, guests, clock, firewall, coordinator, reflink) = tokio::join!(
        kvm::check(config),
        libvirt::check(config),
        guests::check(),
        clock::check(),
        firewall::check(),
        coordinator::check(config),
        reflink::check(config),
    );
    let named = [
        ("kvm", kvm),
        ("libvirt", libvirt),
        ("libvirt-guests", guests),
        ("access", access::check(config)),
        ("bridge", bridge::check(config)),
        ("nftables", firewall),
        ("space", space::check(config)),
        ("reflink", reflink),
        ("clock", clock),
        ("cgroup", cgroup::check()),
        ("apparmor", apparmor::check()),
        ("coordinator", coordinator),
    ];
    named
        .into_iter()
        .map(|(check, (verdict, found, remedy))| Finding { check, verdict, found, remedy })
        .collect()
}
