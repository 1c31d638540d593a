//! What an operator may set about libvirt and the domains made through it.

use std::str::FromStr;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason, shortened};
use dewpoint_proto::ids::HostId;
use serde::{Deserialize, Serialize};

use crate::hypervisor::CallKind;

/// How libvirt is reached, what machines are like, and how long calls may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// libvirt's connection URI.
    pub uri: String,
    /// What runs the guests.
    pub virt_type: VirtType,
    /// QEMU's machine type.
    pub machine: String,
    /// The guests' CPU.
    pub cpu: Cpu,
    /// How long calls may take.
    pub deadlines: Deadlines,
    /// How long a guest agent may take to answer; rounded up to seconds.
    pub agent_timeout: Duration,
    /// Calls that change domains, at most this many at once.
    pub workers: usize,
    /// Whose domains they are: its id is in each mark that is written, and domains that bear another host's are nobody's to
    /// touch here. None: this host has no id yet, and nothing was ever made on it.
    pub host: Option<HostId>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            uri: "qemu:///system".to_owned(),
            virt_type: VirtType::Kvm,
            machine: "q35".to_owned(),
            cpu: Cpu::Default,
            deadlines: Deadlines::default(),
            agent_timeout: Duration::from_secs(3),
            workers: 6,
            host: None,
        }
    }
}

impl Settings {
    /// The agent's timeout as libvirt takes it.
    pub(super) fn agent_seconds(&self) -> i32 {
        let seconds = self.agent_timeout.as_secs() + u64::from(self.agent_timeout.subsec_nanos() > 0);
        // 0 would mean "do not wait", and negative numbers have meanings of their own.
        i32::try_from(seconds).unwrap_or(i32::MAX).max(1)
    }
}

/// What runs the guests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VirtType {
    /// QEMU's software emulation.
    Qemu,
    /// Hardware virtualisation.
    Kvm,
}

impl VirtType {
    /// As libvirt names it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::Kvm => "kvm",
        }
    }
}

/// The guests' CPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cpu {
    /// The hypervisor's own default.
    Default,
    /// The host's, as it is; a guest then fits only hosts of that model.
    HostPassthrough,
    /// The named model that is nearest to the host's.
    HostModel,
    /// All that the hypervisor can do.
    Maximum,
    /// A named model, such as `x86-64-v2-AES`.
    Named(String),
}

impl FromStr for Cpu {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        let named = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        match text {
            "default" => Ok(Self::Default),
            "host-passthrough" => Ok(Self::HostPassthrough),
            "host-model" => Ok(Self::HostModel),
            "maximum" => Ok(Self::Maximum),
            other if (1..=64).contains(&other.len()) && other.bytes().all(named) => {
                Ok(Self::Named(other.to_owned()))
            }
            other => Err(Cause::new(Reason::Invalid, format!("`{}` is not a CPU mode", shortened(other)))
                .advise("use default, host-passthrough, host-model, maximum, or a model of `virsh cpu-models x86_64`")),
        }
    }
}

/// How long calls may take before their worker is given up. Longer than libvirt's own waits (30 s for a domain's lock)
/// where those are normal, so that libvirt's error comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// One domain looked at.
    pub observe: Duration,
    /// All domains looked at.
    pub list: Duration,
    /// QEMU started: a loaded host takes long.
    pub start: Duration,
    /// A QEMU that hangs takes 10 to 15 s to be killed.
    pub power_off: Duration,
    /// A question to the guest: a few times the guest agent's timeout.
    pub guest: Duration,
    /// A backup begun, with freezing and thawing.
    pub begin_backup: Duration,
    /// Everything else.
    pub other: Duration,
}

impl Deadlines {
    /// Of a call that changes a domain.
    pub(super) fn of(&self, call: CallKind) -> Duration {
        match call {
            CallKind::Start => self.start,
            CallKind::PowerOff => self.power_off,
            CallKind::AskShutdown | CallKind::Thaw => self.guest,
            CallKind::BeginBackup => self.begin_backup,
            CallKind::Define
            | CallKind::Mark
            | CallKind::Undefine
            | CallKind::AbortBackup
            | CallKind::AutostartOff => self.other,
        }
    }
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            observe: Duration::from_secs(10),
            list: Duration::from_secs(30),
            start: Duration::from_secs(90),
            power_off: Duration::from_secs(40),
            guest: Duration::from_secs(40),
            begin_backup: Duration::from_secs(60),
            other: Duration::from_secs(40),
        }
    }
}
