//! Domains: what is there, and the calls that change it. In our words; only `hypervisor/libvirt` names libvirt's types.
//!
//! Every call has a deadline. A failed call proves nothing: whoever made it observes afterwards. After an overrun the
//! domain is [`Control::Busy`] until libvirt says that its control channel is idle, and nothing may be planned for it.

#[cfg(any(test, feature = "faults"))]
pub mod fake;
pub mod inspect;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
pub use dewpoint_common::image::DiskFormat;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{EventId, Generation, RunId, VmId};
use dewpoint_proto::names::InterfaceName;
use dewpoint_proto::spec::MacAddr;
use dewpoint_proto::vm_state::Power;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast;

pub use inspect::{ConfigDigest, Details, Inspected, InspectedNic};

pub mod libvirt;

/// A part of a VM, as observed. Unknown only waits: nothing is inferred from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen<T> {
    /// It is there.
    There(T),
    /// It is proven not to be there.
    Absent,
    /// It could not be observed, and why.
    Unknown(String),
}

impl<T> Seen<T> {
    /// The value, if it is there.
    pub fn there(&self) -> Option<&T> {
        match self {
            Self::There(value) => Some(value),
            Self::Absent | Self::Unknown(_) => None,
        }
    }
}

/// What events asked for: the VM on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wanted {
    /// Powered on.
    On,
    /// Powered off.
    Off,
}

/// Our mark on a domain, in its persistent metadata. A running domain also bears the copy that it was started with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Which VM; equals the domain's UUID.
    pub vm: VmId,
    /// Of the event that changed it last.
    pub generation: Generation,
    /// The event that changed it last.
    pub event: EventId,
    /// The run that the next start is, or the present one; none: never started.
    pub run: Option<RunId>,
    /// On or off, as events asked.
    pub wanted: Wanted,
    /// The event that made the disk it points at.
    pub disk: EventId,
    /// The event that made the seed it points at.
    pub seed: EventId,
}

/// A domain, as observed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Its UUID.
    pub vm: VmId,
    /// Its libvirt name.
    pub name: String,
    /// Its power; never `Absent` here.
    pub power: Power,
    /// libvirt's reason for that, such as `shutoff/crashed`.
    pub detail: String,
    /// Our mark in the persistent configuration; absent: not ours. A transient domain has none.
    pub mark: Seen<Mark>,
    /// The mark that the running QEMU was started with; absent when off.
    pub live: Seen<Mark>,
    /// Its block job.
    pub backup: BackupJob,
    /// Whether calls may be made.
    pub control: Control,
    /// The VM whose mark it bears, when that is another's: a copy.
    pub claims: Option<VmId>,
}

/// A domain's name: its VM's, for people, and the end of its id, so that two VMs of one name fit on a host.
#[must_use]
pub fn domain_name(name: &str, vm: VmId) -> String {
    let id = vm.0.simple().to_string();
    format!("{name}.{}", &id[24..])
}

impl Domain {
    /// QEMU exists, whatever the guest does in it.
    #[must_use]
    pub fn is_on(&self) -> bool {
        !matches!(self.power, Power::Off | Power::Absent)
    }
}

/// Whether libvirt's control channel to the domain is free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Control {
    /// Calls may be made.
    Idle,
    /// An earlier call is still at work, and may yet take effect; what libvirt says of it.
    Busy(String),
}

/// A backup job of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupJob {
    /// None known.
    None,
    /// Copying.
    Running {
        /// Bytes copied.
        done: u64,
        /// Bytes to copy.
        total: u64,
    },
    /// Ended well; the target is whole.
    Completed,
    /// Ended badly; the target is not usable.
    Failed(String),
    /// libvirt lost track of it, and refuses others (see the facts on backupBegin); what to do is in the cause.
    Wedged(String),
}

/// How the guest's file systems stand in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Consistency {
    /// Whole: the guest agent kept them frozen while it began.
    FileSystem,
    /// As after a power cut, and why the guest did not freeze them.
    Crash(String),
}

/// What the beginning of a backup does about the guest's file systems.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Freeze {
    /// They are frozen if the guest agent answers.
    IfItAnswers,
    /// They are left as they are, and why.
    Not(String),
}

/// Whether a guest agent was sent a freeze that nothing is known of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreezeSent {
    /// Nobody knows: the call that would have sent it was cut off. Without a guest agent there is nothing to thaw.
    Perhaps,
    /// It was, so only the agent's word counts.
    Surely,
}

/// A call that changes a domain. Each is short, and made for one domain at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Defines it, or replaces its persistent configuration, mark included. Repeatable.
    Define(Box<DomainSpec>),
    /// Replaces the mark in the persistent configuration. Repeatable.
    Mark(Mark),
    /// Powers it on from its persistent configuration.
    Start(VmId),
    /// Pulls the plug.
    PowerOff(VmId),
    /// Asks the guest to go down: by the guest agent when it answers, and by ACPI.
    AskShutdown(VmId),
    /// Removes the persistent configuration of a domain that is off, with NVRAM, managed save and checkpoints.
    Undefine(VmId),
    /// Begins a backup into an existing file, with the guest's file systems frozen meanwhile. Fails as `GUEST_FROZEN` when
    /// the guest agent took a freeze and does not say that it thawed.
    BeginBackup {
        /// Which VM.
        vm: VmId,
        /// A qcow2 of the disk's virtual size.
        target: PathBuf,
        /// Whether to freeze.
        freeze: Freeze,
    },
    /// Ends a running backup; the target is left where it is.
    AbortBackup(VmId),
    /// Thaws until the guest agent says that nothing is frozen. Fails as `GUEST_FROZEN` when it does not say so.
    Thaw {
        /// Which VM.
        vm: VmId,
        /// Whether anything was to be frozen.
        sent: FreezeSent,
    },
    /// Has libvirt leave it off at its own start. Repeatable.
    AutostartOff(VmId),
}

impl Call {
    /// The domain it changes.
    #[must_use]
    pub fn vm(&self) -> VmId {
        match self {
            Self::Define(spec) => spec.mark.vm,
            Self::Mark(mark) => mark.vm,
            Self::BeginBackup { vm, .. } | Self::Thaw { vm, .. } => *vm,
            Self::Start(vm)
            | Self::PowerOff(vm)
            | Self::AskShutdown(vm)
            | Self::Undefine(vm)
            | Self::AbortBackup(vm)
            | Self::AutostartOff(vm) => *vm,
        }
    }

    /// Which of them it is.
    #[must_use]
    pub fn kind(&self) -> CallKind {
        match self {
            Self::Define(_) => CallKind::Define,
            Self::Mark(_) => CallKind::Mark,
            Self::Start(_) => CallKind::Start,
            Self::PowerOff(_) => CallKind::PowerOff,
            Self::AskShutdown(_) => CallKind::AskShutdown,
            Self::Undefine(_) => CallKind::Undefine,
            Self::BeginBackup { .. } => CallKind::BeginBackup,
            Self::AbortBackup(_) => CallKind::AbortBackup,
            Self::Thaw { .. } => CallKind::Thaw,
            Self::AutostartOff(_) => CallKind::AutostartOff,
        }
    }

    /// Its name in call records and logs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.kind().as_str()
    }
}

/// Which call, whatever it is made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// [`Call::Define`].
    Define,
    /// [`Call::Mark`].
    Mark,
    /// [`Call::Start`].
    Start,
    /// [`Call::PowerOff`].
    PowerOff,
    /// [`Call::AskShutdown`].
    AskShutdown,
    /// [`Call::Undefine`].
    Undefine,
    /// [`Call::BeginBackup`].
    BeginBackup,
    /// [`Call::AbortBackup`].
    AbortBackup,
    /// [`Call::Thaw`].
    Thaw,
    /// [`Call::AutostartOff`].
    AutostartOff,
}

impl CallKind {
    /// Its name in call records and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Define => "define",
            Self::Mark => "mark",
            Self::Start => "start",
            Self::PowerOff => "power-off",
            Self::AskShutdown => "ask-shutdown",
            Self::Undefine => "undefine",
            Self::BeginBackup => "begin-backup",
            Self::AbortBackup => "abort-backup",
            Self::Thaw => "thaw",
            Self::AutostartOff => "autostart-off",
        }
    }
}

/// What a domain is defined from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainSpec {
    /// The VM's name; the domain's is made from it and the VM id.
    pub name: String,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest memory.
    pub memory_bytes: u64,
    /// Absolute path of the qcow2 that `mark.disk` names.
    pub disk: PathBuf,
    /// The disk's backing files, the nearest first, absolute: stated, so that libvirt probes nothing.
    pub backing: Vec<BackingFile>,
    /// Absolute path of the seed that `mark.seed` names.
    pub seed: PathBuf,
    /// Network interfaces, in the guest's order.
    pub nics: Vec<DomainNic>,
    /// Serial console log.
    pub console_log: PathBuf,
    /// Our mark.
    pub mark: Mark,
}

/// A file that a disk rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackingFile {
    /// Absolute.
    pub path: PathBuf,
    /// Stated, never probed: probing a raw image lets its content name other files.
    pub format: DiskFormat,
}

/// A network interface of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainNic {
    /// The tap's name on the host.
    pub tap: InterfaceName,
    /// The bridge it is put into.
    pub bridge: InterfaceName,
    /// The guest's hardware address.
    pub mac: MacAddr,
}

/// Something happened to a domain: look at it again. Lost when the connection is; then `Resync` follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DomainEvent {
    /// Its lifecycle, job or metadata changed; libvirt's words for it.
    Changed(VmId, String),
    /// Events may have been lost: look at all.
    Resync,
}

/// All domains, as observed at once.
pub type Domains = BTreeMap<VmId, Domain>;

/// The host's domains.
#[async_trait]
pub trait Hypervisor: Send + Sync + 'static {
    /// One domain. `Absent` only when libvirt answered that there is none.
    async fn observe(&self, vm: VmId) -> Seen<Domain>;

    /// Every domain, foreign ones included (their mark is absent).
    ///
    /// # Errors
    /// `HYPERVISOR_DOWN` or `CALL_OVERRAN`: nothing is known then.
    async fn list(&self) -> Result<Domains, Cause>;

    /// The files that each domain of ours would start from: sources of its disks. Asks every one of them, so it is slow;
    /// one that cannot be asked is left out.
    ///
    /// # Errors
    /// As [`Hypervisor::list`].
    async fn disk_files(&self) -> Result<BTreeMap<VmId, Vec<PathBuf>>, Cause>;

    /// Domains with what a person who mends the host looks at beside: one, or all. Slower than [`Self::list`].
    ///
    /// # Errors
    /// `HYPERVISOR_DOWN` or `CALL_OVERRAN`: nothing is known then.
    async fn inspect(&self, which: Option<VmId>) -> Result<BTreeMap<VmId, Inspected>, Cause>;

    /// Makes a call, within its deadline. Only `BeginBackup` has something to tell of its success.
    ///
    /// # Errors
    /// A cause that says what libvirt said. It may have taken effect all the same: observe.
    async fn apply(&self, call: Call) -> Result<Option<Consistency>, Cause>;

    /// How long such a call may take before it is given up. To be shown.
    fn deadline(&self, call: CallKind) -> Duration;

    /// Changes as they come. A receiver that lags treats it as `Resync`.
    fn events(&self) -> broadcast::Receiver<DomainEvent>;

    /// What is wrong with the hypervisor as a whole; empty: all is well.
    fn degraded(&self) -> Vec<Cause>;
}
