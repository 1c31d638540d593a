//! What callers ask for, parsed: what the API hands to [`super::Events`]. Everything in here is of a checked form;
//! bounds of the VM's spec are checked when the body is made.

mod parse;

pub(crate) use parse::{address, optional};

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::{Destroy, InitialPower, Reboot, Snapshot, Stop};
use dewpoint_proto::ids::{EventId, HostId, VmId};
use dewpoint_proto::names::{NetworkName, VmName};
use dewpoint_proto::spec::{DiskMode, Placement, Restart};
use dewpoint_proto::time::Millis;
use serde::Serialize;

pub use crate::store::ImageSelector;

/// What every request that makes an event may say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// The caller's idempotency key; none: one is made.
    pub event: Option<EventId>,
    /// Not begun by then: expires.
    pub not_after: Option<Millis>,
    /// The event that this one tries again.
    pub retry_of: Option<EventId>,
    /// Why, in the caller's words.
    pub note: String,
}

/// Build a VM.
#[derive(Clone, Debug)]
pub struct CreateVm {
    /// Idempotency key, deadline, note.
    pub options: Options,
    /// None: made from the event id.
    pub vm: Option<VmId>,
    /// Also the guest's hostname.
    pub name: VmName,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Guest memory.
    pub memory_bytes: u64,
    /// None: the image's virtual size.
    pub disk_bytes: Option<u64>,
    /// How the disk is made.
    pub disk_mode: DiskMode,
    /// What the disk begins as.
    pub image: ImageSelector,
    /// A NIC each.
    pub nics: Vec<NicRequest>,
    /// Lines as in `authorized_keys`.
    pub ssh_keys: Vec<String>,
    /// For cloud-init.
    pub user_data: Vec<u8>,
    /// For people and schedulers.
    pub labels: BTreeMap<String, String>,
    /// Whether it may be built elsewhere later.
    pub placement: Placement,
    /// What its host does when it goes off by itself.
    pub restart: Restart,
    /// Powered on when built, or left off.
    pub power: InitialPower,
    /// Just this host.
    pub only_host: Option<HostId>,
    /// What becomes of it when no host fits.
    pub when_full: WhenFull,
}

/// What becomes of a create when no host fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum WhenFull {
    /// Refused with `NO_CAPACITY`.
    Refuse,
    /// Stays `pending`.
    Wait,
}

/// A NIC in a network of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NicRequest {
    /// Which network.
    pub network: NetworkName,
    /// None: any free one, when the network has IPv4.
    pub address4: Option<Ipv4Addr>,
    /// None: any free one, when the network has IPv6.
    pub address6: Option<Ipv6Addr>,
}

/// How a VM is named in a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum VmSelector {
    /// By id.
    Id(VmId),
    /// By a name that only one VM (not gone) has.
    Name(VmName),
}

/// How a host is named in a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostSelector {
    /// By id.
    Id(HostId),
    /// By a hostname that only one host has.
    Name(String),
}

/// Change a VM that exists.
#[derive(Clone, Debug)]
pub struct ChangeVm {
    /// Idempotency key, deadline, note.
    pub options: Options,
    /// Which VM.
    pub vm: VmSelector,
    /// What is asked.
    pub change: Change,
}

/// What may be asked of a VM that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Power it on.
    Start,
    /// Ask the guest to go down.
    Stop(Stop),
    /// Off and on.
    Reboot(Reboot),
    /// Make an image of its disk.
    Snapshot(Snapshot),
    /// Give it a new disk.
    Restore(ImageSelector),
    /// Remove it with its disks.
    Destroy(Destroy),
}

/// End another event.
#[derive(Clone, Debug)]
pub struct CancelEvent {
    /// Idempotency key, deadline, note.
    pub options: Options,
    /// The event to end.
    pub target: EventId,
}

/// Ask again for what an ended event asked for.
#[derive(Clone, Debug)]
pub struct RetryEvent {
    /// Idempotency key, deadline, note; an empty note is the old event's.
    pub options: Options,
    /// The event to try again.
    pub target: EventId,
    /// What becomes of a create when no host fits.
    pub when_full: WhenFull,
}

/// Text that is a UUID, or else a name.
impl std::str::FromStr for VmSelector {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        text.parse().map(Self::Id).or_else(|_: Cause| text.parse().map(Self::Name))
    }
}
