//! `doctor`: coordinator, journal, libvirt, disk and network beside each other, and what to do where they disagree.
//!
//! ```text
//! look ──▶ World ──▶ compare (pure, a file per rule) ──▶ Vec<Finding> ──▶ a person ──▶ repair ──▶ receipt
//! ```
//!
//! Looking changes nothing, and needs no daemon. A source that cannot be looked at is a finding of its own, and no rule
//! infers anything from it. A repair is made by whoever holds the data folder (the daemon, or the command when there is
//! none), looks again first, and destroys nothing: what is left over is moved to the quarantine.

pub mod look;
pub mod orphans;
pub mod repair;
mod rule;
#[cfg(test)]
mod tests;
pub mod world;

use std::fmt;

use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::names::InterfaceName;
use dewpoint_proto::spec::ImageDigest;
use serde::Serialize;

pub use rule::{RULES, Rule};
use world::World;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A VM does not work, will not start again, or is not held to its addresses.
    Severe,
    /// Two sources disagree, and the next event or restart may come out wrong.
    Warning,
    /// To be known; nothing suffers from it.
    Note,
}

impl Severity {
    /// As shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Severe => "severe",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

/// Where something was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// What the coordinator has of this host.
    Coordinator,
    /// `agent.db`.
    Journal,
    /// The domains.
    Libvirt,
    /// The data folder.
    Disk,
    /// Taps, bridges, nftables.
    Network,
    /// `agent.toml`.
    Configuration,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Coordinator => "coordinator",
            Self::Journal => "journal",
            Self::Libvirt => "libvirt",
            Self::Disk => "disk",
            Self::Network => "network",
            Self::Configuration => "configuration",
        })
    }
}

/// A disagreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule that found it.
    pub rule: &'static Rule,
    /// The VM it is about; none: the host.
    pub vm: Option<VmId>,
    /// What else it is about: a file, a tap, an event. With rule and VM, its name.
    pub subject: String,
    /// What was found, in one sentence.
    pub text: String,
    /// What each side says.
    pub evidence: Vec<(Source, String)>,
    /// What a person should do about it.
    pub advice: String,
    /// What `--repair` would do; none: only a person can decide.
    pub repair: Option<Repair>,
}

/// What can be done without deciding anything for a person. Nothing here destroys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Define the VM's domain again, off, from what the journal has of it.
    Define(VmId),
    /// Write into the domain's mark what the journal has as wanted.
    MarkWanted(VmId),
    /// Switch libvirt's autostart off.
    AutostartOff(VmId),
    /// Give the folder its backing image again, from the cache.
    LinkBase(VmId, ImageDigest),
    /// Make the seed of this event anew, from what the journal has of the VM.
    MakeSeed(VmId, EventId),
    /// Give folder and files the owner, group and mode that they should have.
    Access(VmId),
    /// Move files of the folder to the quarantine.
    QuarantineFiles(VmId, Vec<String>),
    /// Move the whole folder to the quarantine.
    QuarantineFolder(VmId),
    /// Set the anti-spoofing rules.
    SetShield(VmId),
    /// Remove what our table has for taps that are nobody's.
    ClearTaps(Vec<InterfaceName>),
    /// Put a running VM's tap back into its bridge.
    BridgeTap(VmId, InterfaceName, InterfaceName),
    /// Remove a tap that no QEMU holds.
    RemoveTap(InterfaceName),
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Define(_) => {
                f.write_str("define its domain again from the journal; its restart policy may start it")
            }
            Self::MarkWanted(_) => f.write_str("write what the journal has as wanted into the domain's mark"),
            Self::AutostartOff(_) => f.write_str("switch libvirt's autostart of the domain off"),
            Self::LinkBase(_, image) => write!(f, "link the image {image} into the folder again"),
            Self::MakeSeed(_, event) => write!(f, "make the seed {event}.seed anew"),
            Self::Access(_) => f.write_str("give the folder and its files their owner, group and mode"),
            Self::QuarantineFiles(_, names) => write!(f, "move {} to the quarantine", names.join(", ")),
            Self::QuarantineFolder(vm) => write!(f, "move the folder vms/{vm} to the quarantine"),
            Self::SetShield(_) => f.write_str("set the VM's anti-spoofing rules"),
            Self::ClearTaps(taps) => {
                let taps: Vec<_> = taps.iter().map(InterfaceName::as_str).collect();
                write!(f, "remove the anti-spoofing rules of {}", taps.join(", "))
            }
            Self::BridgeTap(_, tap, bridge) => write!(f, "put the tap {tap} into the bridge {bridge}"),
            Self::RemoveTap(tap) => write!(f, "remove the tap {tap}"),
        }
    }
}

/// Every disagreement, the worst first; of one kind, in the order of the VMs.
#[must_use]
pub fn compare(world: &World) -> Vec<Finding> {
    let mut findings: Vec<Finding> = RULES.iter().flat_map(|rule| (rule.find)(world)).collect();
    findings.sort_by(|a, b| {
        (a.rule.severity, a.rule.code, a.vm, &a.subject).cmp(&(
            b.rule.severity,
            b.rule.code,
            b.vm,
            &b.subject,
        ))
    });
    findings
}

impl Finding {
    /// About the host.
    fn of_host(rule: &'static Rule, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self {
            rule,
            vm: None,
            subject: subject.into(),
            text: text.into(),
            evidence: Vec::new(),
            advice: String::new(),
            repair: None,
        }
    }

    /// About a VM.
    fn of_vm(rule: &'static Rule, vm: VmId, text: impl Into<String>) -> Self {
        Self { vm: Some(vm), ..Self::of_host(rule, "", text) }
    }

    /// Of several of a kind about one VM: which.
    fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = subject.into();
        self
    }

    fn saw(mut self, source: Source, what: impl Into<String>) -> Self {
        self.evidence.push((source, what.into()));
        self
    }

    fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    fn repaired_by(mut self, repair: Repair) -> Self {
        self.repair = Some(repair);
        self
    }

    /// Whether both name the same disagreement, whatever was seen of it.
    #[must_use]
    pub fn is_same(&self, code: &str, vm: Option<VmId>, subject: &str) -> bool {
        self.rule.code == code && self.vm == vm && self.subject == subject
    }
}
