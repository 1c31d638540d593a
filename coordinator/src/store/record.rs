//! What is read out of the store.

use std::collections::BTreeMap;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::{Body, KindName};
use dewpoint_proto::ids::{EventId, Generation, HostId, JournalId, ReportSeq, Seq, Term, VmId};
use dewpoint_proto::names::{ImageName, InterfaceName, NetworkName, VmName};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::{Cidr, DiskMode, ImageDigest, Nic, Placement, Restart, VmSpec};
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::VmState;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::account::NewQueue;
use super::audit::Word;
use super::transition::Hello;
use crate::events::stage::Stage;
use crate::scheduler::Explanation;

/// An event, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRecord {
    /// Its id.
    pub id: EventId,
    /// The VM it changes.
    pub vm: VmId,
    /// That VM's name.
    pub vm_name: VmName,
    /// What it asks for.
    pub kind: KindName,
    /// Where it stands.
    pub stage: Stage,
    /// Whose queue it is in; none: never assigned.
    pub host: Option<HostId>,
    /// That host's name.
    pub hostname: Option<String>,
    /// Its position there; none: never assigned, or submitted on the host.
    pub seq: Option<Seq>,
    /// Of the VM, by this event; 0: never assigned.
    pub generation: Generation,
    /// As accepted; none: removed some time after the end.
    pub body: Option<Body>,
    /// How it ended, for every ended stage but `unknown`.
    pub outcome: Option<Outcome>,
    /// Why it is `unknown`.
    pub unknown: Option<Cause>,
    /// A later report that says otherwise than `outcome`: kept, shown, never acted on.
    pub contradicted_by: Option<Outcome>,
    /// Why it is still pending.
    pub pending: Option<Cause>,
    /// How its host was chosen; only from [`crate::store::Store::event`].
    pub explanation: Option<Explanation>,
    /// When the coordinator (or the host it was submitted on) accepted it from its caller.
    pub accepted_at: Millis,
    /// Not begun by then: expires.
    pub not_after: Option<Millis>,
    /// When its host began.
    pub begun_at: Option<Millis>,
    /// When it ended.
    pub finished_at: Option<Millis>,
    /// The event that it tries again.
    pub retry_of: Option<EventId>,
    /// The newest event that tries this one again; only from [`crate::store::Store::event`].
    pub retried_by: Option<EventId>,
    /// Since when it stands at its stage; none: an older version wrote it.
    pub stage_since: Option<Millis>,
    /// The person who answered for its host.
    pub forced: Option<Word>,
}

/// A VM, as asked for and as last seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmRecord {
    /// Its id.
    pub id: VmId,
    /// Its name; not unique.
    pub name: VmName,
    /// The host that has it, whose capacity it claims; none: not placed yet, or gone.
    pub host: Option<HostId>,
    /// The host that has it, or had it.
    pub last_host: Option<HostId>,
    /// The name of `last_host`.
    pub hostname: Option<String>,
    /// The newest that was given.
    pub generation: Generation,
    /// What it was asked to be.
    pub shape: VmShape,
    /// Whether it is to be on: by its create at first, then as its host tells it.
    pub wanted_on: bool,
    /// What its host said last.
    pub observed: Option<VmState>,
    /// When it said so, by the coordinator's clock.
    pub observed_at: Option<Millis>,
    /// The newest unfinished event.
    pub unfinished: Option<EventId>,
    /// What its disk began as; a restore changes it.
    pub image: ImageDigest,
    /// When its create was accepted.
    pub created_at: Millis,
    /// Proven gone from its host, or never placed and given up.
    pub gone: bool,
}

/// What remains of a spec with the VM's row: neither keys nor user-data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmShape {
    /// Declared: accounting is by this.
    pub vcpus: u32,
    /// Declared.
    pub memory_bytes: u64,
    /// Declared.
    pub disk_bytes: u64,
    /// How its disk is made.
    pub disk_mode: DiskMode,
    /// With their addresses.
    pub nics: Vec<Nic>,
    /// For people and schedulers.
    pub labels: BTreeMap<String, String>,
    /// Whether it may be built elsewhere.
    pub placement: Placement,
    /// What its host does when it goes off by itself.
    #[serde(default)]
    pub restart: Restart,
}

impl From<&VmSpec> for VmShape {
    fn from(spec: &VmSpec) -> Self {
        Self {
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            disk_bytes: spec.disk_bytes,
            disk_mode: spec.disk_mode,
            nics: spec.nics.clone(),
            labels: spec.labels.clone(),
            placement: spec.placement,
            restart: spec.restart,
        }
    }
}

impl From<&VmShape> for Claims {
    /// What one VM claims.
    fn from(shape: &VmShape) -> Self {
        Self {
            vcpus: u64::from(shape.vcpus),
            memory_bytes: shape.memory_bytes,
            disk_bytes: shape.disk_bytes,
            vms: 1,
        }
    }
}

/// What a host has to give, as its agent tells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostCapacity {
    /// Hardware threads.
    pub cpus: u32,
    /// All of it.
    pub memory_bytes: u64,
    /// Measured.
    pub memory_available_bytes: u64,
    /// Of the file system that holds the disks.
    pub disk_bytes: u64,
    /// Measured; what recycle could give back counts as free.
    pub disk_free_bytes: u64,
    /// As `uname -m` has it.
    pub cpu_arch: String,
    /// Linux bridges that VMs can be attached to; the first is the host's default.
    pub bridges: Vec<InterfaceName>,
}

/// Capacity held on a host by declared sizes: the sum over the VMs whose row has that host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Declared.
    pub vcpus: u64,
    /// Declared.
    pub memory_bytes: u64,
    /// Declared.
    pub disk_bytes: u64,
    /// How many.
    pub vms: u32,
}

/// A host, its queue and its claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRecord {
    /// Its id.
    pub id: HostId,
    /// As the agent told last; not unique.
    pub hostname: String,
    /// The journal that its queue is matched with.
    pub journal: JournalId,
    /// How many processes had opened that journal.
    pub start_count: u64,
    /// Of its agent.
    pub agent_version: String,
    /// The newest claim on its queue.
    pub term: Term,
    /// The last position given out.
    pub last_seq: Seq,
    /// All up to this one are journaled there.
    pub accepted_seq: Seq,
    /// Reports up to this one are stored.
    pub last_report: ReportSeq,
    /// Why it gets no new VMs; none: it gets them.
    pub cordoned: Option<String>,
    /// Why it is delivered nothing; none: it is delivered to.
    pub held: Option<String>,
    /// Why its log does not match; none: it does.
    pub diverged: Option<Cause>,
    /// This database was restored, and the host was not heard since.
    pub awaited: bool,
    /// It is ahead of this database.
    pub recovering: bool,
    /// Of the machine that it was matched on; none: it never told.
    pub product_uuid: Option<String>,
    /// Its newest hello.
    pub told: Option<Hello>,
    /// How it goes on as soon as its agent has done so; none: nothing was decided.
    pub reconciling: Option<NewQueue>,
    /// Why it will not come back; none: it may.
    pub retired: Option<String>,
    /// The host whose place it takes.
    pub becomes: Option<HostId>,
    /// Why it takes nothing or little.
    pub degraded: Vec<Cause>,
    /// None: it has not told yet.
    pub capacity: Option<HostCapacity>,
    /// By declared sizes.
    pub claims: Claims,
    /// By the coordinator's clock; stored seldom, so the newest is with [`crate::events::Events::host`].
    pub last_heartbeat: Option<Millis>,
}

/// What holds for the whole fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FleetRecord {
    /// Why nothing is delivered to any host; none: it is.
    pub held: Option<String>,
    /// Why nothing is placed: a host knows events that this database does not; none: all is well.
    pub recovering: Option<Cause>,
    /// VMs that may be destroyed in a minute, as a person set it, 0 for any number; none: as configured.
    pub destroy_limit: Option<u32>,
}

impl EventRecord {
    /// Its entry in its host's queue; none: it has none, or its body is not kept.
    #[must_use]
    pub fn queue_entry(&self) -> Option<QueueEntry> {
        Some(QueueEntry { seq: self.seq?, generation: self.generation, body: self.body.clone()? })
    }
}

/// An entry of a host's queue, to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueEntry {
    /// Its position.
    pub seq: Seq,
    /// Of the VM, by this event.
    pub generation: Generation,
    /// The bytes as accepted.
    pub body: Body,
}

/// An image of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageRecord {
    /// SHA-256 of its file.
    pub digest: ImageDigest,
    /// Tags that point at it, in order.
    pub names: Vec<ImageName>,
    /// The file's length.
    pub size_bytes: u64,
    /// The length of the disk in it.
    pub virtual_size_bytes: u64,
    /// `qcow2` or `raw`.
    pub format: String,
    /// When it came into the catalogue.
    pub added_at: Millis,
    /// The snapshot that made it, and of which VM; none: added by a person.
    pub made_by: Option<(EventId, VmId)>,
}

/// A network of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkSpec {
    /// Its name.
    pub name: NetworkName,
    /// On every host; none: the host's default.
    pub bridge: Option<InterfaceName>,
    /// None: no IPv4.
    pub ipv4: Option<Pool4>,
    /// None: no IPv6.
    pub ipv6: Option<Pool6>,
    /// DNS servers of its guests.
    pub nameservers: Vec<IpAddr>,
}

/// The IPv4 side of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool4 {
    /// Without host bits.
    pub subnet: Cidr,
    /// Default route of its guests.
    pub gateway: Option<Ipv4Addr>,
    /// First address given out.
    pub first: Ipv4Addr,
    /// Last address given out; not below `first`.
    pub last: Ipv4Addr,
}

/// The IPv6 side of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool6 {
    /// Without host bits.
    pub subnet: Cidr,
    /// Default route of its guests.
    pub gateway: Option<Ipv6Addr>,
}

/// A network, and how much of it is given out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkRecord {
    /// What it is.
    pub spec: NetworkSpec,
    /// Addresses given out.
    pub addresses_used: u32,
}
