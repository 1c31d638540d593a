//! What goes into the store's transitions, and what comes out of them.

use std::net::IpAddr;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::{Body, KindName};
use dewpoint_proto::ids::{EventId, Generation, HostId, JournalId, ReportSeq, Seq, Term, VmId};
use dewpoint_proto::names::{ImageName, NetworkName};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::{ImageDigest, MacAddr};
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::VmState;
use serde::{Deserialize, Serialize};

use super::audit::Word;
use super::record::{Claims, EventRecord, HostCapacity, HostRecord};
use crate::events::stage::ForcedAs;
use crate::scheduler::Explanation;

/// SHA-256 of a caller's request in its parsed form: the same id with another request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestDigest(pub [u8; 32]);

/// A create, to be admitted.
#[derive(Clone, Debug)]
pub struct CreateAdmission {
    /// A create, with MACs and addresses chosen.
    pub body: Body,
    /// Of the caller's request.
    pub request: RequestDigest,
    /// What its NICs take from the networks; a taken one refuses the admission, and others are chosen.
    pub leases: Vec<Lease>,
    /// Hosts that fit, best first; the first whose claim still fits gets it.
    pub candidates: Vec<Candidate>,
    /// How they were ranked.
    pub explanation: Explanation,
    /// What becomes of it when none fits.
    pub unplaced: Unplaced,
}

/// A NIC's MAC address in a network, with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Of which network.
    pub network: NetworkName,
    /// Unique in it.
    pub mac: MacAddr,
    /// Each given out once.
    pub addresses: Vec<IpAddr>,
}

/// A host that fits, and the sums that its claims may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which host.
    pub host: HostId,
    /// With the new claim, none of these is exceeded.
    pub most: Claims,
    /// Counted for each VM on top of its declared memory: QEMU's own.
    pub memory_overhead_bytes: u64,
}

/// What becomes of a create that no host fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unplaced {
    /// It is refused, and leaves nothing behind.
    Refuse,
    /// It stays `pending`.
    Wait {
        /// Why it does.
        why: Cause,
        /// No other host will do, later too.
        only_host: Option<HostId>,
    },
}

/// What became of an admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Assigned to a host, with seq and generation.
    Assigned(Box<EventRecord>),
    /// Waiting for a host.
    Pending(Box<EventRecord>),
    /// The coordinator could end it, and did: a destroy or cancel of what was never assigned.
    Ended(Box<EventRecord>),
    /// The same request came before: nothing was changed.
    Seen(Box<EventRecord>),
    /// None of the candidates fits any more: rank again. Nothing was changed.
    ClaimLost,
    /// A MAC address or address is taken: choose others. Nothing was changed.
    LeaseTaken(Lease),
    /// Nothing was changed.
    Refused(Cause),
}

/// A change of a VM that exists, or a cancel.
#[derive(Clone, Debug)]
pub struct ChangeAdmission {
    /// Any kind but create.
    pub body: Body,
    /// Of the caller's request.
    pub request: RequestDigest,
    /// VMs that may be destroyed in a minute, unless a person set another number; 0: any number.
    pub destroys_a_minute: u32,
}

/// A person's answer for an event's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forcing {
    /// Which event.
    pub event: EventId,
    /// What they say became of it.
    pub ends: ForcedAs,
    /// Who, why and when.
    pub word: Word,
}

/// A create that waits for a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingCreate {
    /// Its record.
    pub record: EventRecord,
    /// No other host will do.
    pub only_host: Option<HostId>,
}

/// A pending event, tried again.
#[derive(Clone, Debug)]
pub struct PlaceAgain {
    /// Which event.
    pub event: EventId,
    /// Hosts that fit, best first.
    pub candidates: Vec<Candidate>,
    /// How they were ranked.
    pub explanation: Explanation,
    /// Why it stays pending, when it does.
    pub pending: Cause,
    /// Now.
    pub at: Millis,
}

/// What became of a pending event that was tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placed {
    /// Assigned to a host.
    Assigned(Box<EventRecord>),
    /// Still pending.
    StillPending,
    /// Not pending any more: expired, cancelled or assigned meanwhile.
    NotPending,
}

/// What a host says of itself and its journal when it connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Of the wire; from 2 on it answers when it is asked what it has.
    pub protocol: u32,
    /// Who.
    pub host: HostId,
    /// Its journal.
    pub journal: JournalId,
    /// With the journal: the epoch.
    pub start_count: u64,
    /// The highest seq journaled; 0: none yet.
    pub last_seq: Seq,
    /// The event at it.
    pub last_seq_event: Option<EventId>,
    /// The highest report written.
    pub last_report: ReportSeq,
    /// Of the agent.
    pub agent_version: String,
    /// For people.
    pub hostname: String,
    /// Of the machine; none: it does not tell.
    pub product_uuid: Option<String>,
    /// Why the agent does not believe its own journal.
    pub doubt: Option<Cause>,
}

/// What came of matching a host's log with ours. The term is raised in each case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostClaim {
    /// Deliver what follows `after`.
    Matched {
        /// Every write for the host is conditional on it.
        term: Term,
        /// The host has journaled all up to this one.
        after: Seq,
        /// Reports up to this one are stored.
        reports_acked: ReportSeq,
        /// Events that its hello proved accepted.
        changed: Vec<Changed>,
    },
    /// Deliver nothing; a person reconciles.
    Diverged {
        /// Every write for the host is conditional on it.
        term: Term,
        /// What does not match.
        cause: Cause,
    },
}

/// An event whose row changed, for watchers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Changed {
    /// Which event.
    pub event: EventId,
    /// Of which VM.
    pub vm: VmId,
    /// On which host; none: never assigned.
    pub host: Option<HostId>,
    /// Of which kind, to be told; none: it was not read.
    pub kind: Option<KindName>,
}

/// Whether the bytes of an image that a report names are here. A host uploads them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageBytes {
    /// They are, or none is named.
    Here,
    /// Somebody removed them before the report came, and so did not want the image: it is not put into the catalogue.
    Removed,
}

/// What a host tells of an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// Its number in the host's journal.
    pub report_seq: ReportSeq,
    /// Which event.
    pub event: EventId,
    /// None: submitted on the host.
    pub seq: Option<Seq>,
    /// Of the VM, by this event.
    pub generation: Generation,
    /// How it ended.
    pub outcome: Outcome,
    /// The VM as the event left it.
    pub vm: Option<VmState>,
    /// Only when it was submitted on the host.
    pub body: Option<Body>,
    /// None: never begun.
    pub begun_at: Option<Millis>,
    /// By the host's clock.
    pub finished_at: Millis,
    /// Not told by the host: seen when the report came.
    pub image_bytes: ImageBytes,
}

/// A host's claim under which a write is made, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Under {
    /// Whose queue.
    pub host: HostId,
    /// Lost: nothing is written.
    pub term: Term,
    /// By the coordinator's clock.
    pub at: Millis,
}

/// What a report came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Reports up to this one are stored: acknowledge it.
    pub acked: ReportSeq,
    /// Events and VMs whose rows changed.
    pub changed: Vec<Changed>,
    /// Addresses that are free again.
    pub released: Vec<(NetworkName, IpAddr)>,
    /// What the host's claims lost: a VM is proven gone.
    pub freed: Claims,
    /// What they gained: a VM that was made there.
    pub gained: Claims,
    /// What a person should look at: the report contradicts what was known; kept with the event.
    pub contradiction: Option<Cause>,
}

/// What a host's VM states came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// VMs whose row changed.
    pub changed: Vec<VmId>,
    /// VMs that this host has and that are not known, or are another host's.
    pub foreign: Vec<VmId>,
}

/// What a heartbeat brings that is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostFacts {
    /// None: it did not tell.
    pub capacity: Option<HostCapacity>,
    /// Why it takes nothing or little.
    pub degraded: Vec<Cause>,
}

/// What a switch is set to; who sets it says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// On.
    On,
    /// Off.
    Off,
}

/// What hold is set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HoldScope {
    /// All hosts, present and future.
    Fleet,
    /// One host.
    Host(HostId),
}

/// An image, to be put into the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageAddition {
    /// SHA-256 of its file, which is stored already.
    pub digest: ImageDigest,
    /// The tag to point at it; one that points at another image refuses.
    pub name: Option<ImageName>,
    /// The file's length.
    pub size_bytes: u64,
    /// The length of the disk in it.
    pub virtual_size_bytes: u64,
    /// `qcow2` or `raw`.
    pub format: String,
    /// Now.
    pub at: Millis,
}

/// How an image is named in a request: a digest is never taken for a name, and never the other way round.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub enum ImageSelector {
    /// By SHA-256.
    Digest(ImageDigest),
    /// By tag.
    Name(ImageName),
}

/// What became of a removal of an image or one of its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageRemoved {
    /// The tag is gone, others remain.
    Name,
    /// The image is out of the catalogue: its file may go.
    Image(ImageDigest),
}

/// What became of a host's switch or a catalogue's row.
pub type Settled<T> = Result<T, Cause>;

/// Which events are wanted; all given conditions hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// This one alone.
    pub event: Option<EventId>,
    /// Of this VM.
    pub vm: Option<VmId>,
    /// On this host.
    pub host: Option<HostId>,
    /// Those that have not ended.
    pub unfinished_only: bool,
}

/// Which VMs are wanted; all given conditions hold together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmFilter {
    /// This one alone.
    pub vm: Option<VmId>,
    /// Of that name.
    pub name: Option<String>,
    /// On this host, or last on it.
    pub host: Option<HostId>,
    /// Each `key` or `key=value` holds.
    pub labels: Vec<(String, Option<String>)>,
    /// Those that are gone, too.
    pub include_gone: bool,
}

/// What the accounting check found: sums that differ from the rows, now corrected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Miscount {
    /// Which host.
    pub host: HostId,
    /// As it was kept.
    pub kept: Claims,
    /// As the rows have it.
    pub counted: Claims,
}

/// A host as it is after its switch was set.
pub type HostSettled = Settled<Box<HostRecord>>;
