//! What a host has, as it tells when the logs do not match; and what comes of it by a person's word.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{EventId, Generation, HostId, JournalId, Seq, Term, VmId};
use dewpoint_proto::names::NetworkName;
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::{ImageDigest, VmSpec};
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::VmState;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

use super::audit::Word;
use super::record::Claims;
use super::transition::Changed;

/// What a host has, by its journal, by libvirt and on its disks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Its VMs.
    pub vms: Vec<Holding>,
    /// What was asked for of its journal.
    pub entries: Vec<JournalEntry>,
    /// There is more in the queue than one account tells.
    pub truncated: bool,
}

/// A VM of ours, as found on a host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// As observed.
    pub state: VmState,
    /// As journaled; none: the journal does not know what it was built as.
    pub spec: Option<VmSpec>,
    /// Where it was found.
    pub found: Found,
    /// What could not be looked at; empty: all was.
    pub unseen: String,
    /// That its disk rests on.
    pub image: Option<ImageDigest>,
}

/// Where a VM was found on its host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The journal has it.
    pub journal: bool,
    /// libvirt has it, with our mark.
    pub libvirt: bool,
    /// It has a folder with our mark.
    pub disk: bool,
}

/// An event of a host's journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalEntry {
    /// None: submitted on the host.
    pub seq: Option<Seq>,
    /// Which event.
    pub event: EventId,
    /// Of which VM.
    pub vm: VmId,
    /// That it gives or gave the VM.
    pub generation: Generation,
    /// As the agent calls it.
    pub stage: String,
    /// None: dropped some days after the end.
    pub body: Option<Body>,
    /// None: unfinished.
    pub outcome: Option<Outcome>,
}

/// The account of a host that knows events which this database does not: taken into the rows as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakeOver {
    /// Which host.
    pub host: HostId,
    /// Under which it was told.
    pub term: Term,
    /// What it has.
    pub account: Account,
    /// Now.
    pub at: Millis,
}

/// What a take-over came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// Events whose rows are new or moved.
    pub changed: Vec<Changed>,
    /// VMs whose rows are new.
    pub vms: Vec<VmId>,
    /// What a person should look at: addresses that two VMs have.
    pub contradictions: Vec<Cause>,
}

/// How a host goes on after its journal was lost, or is another: stored until its agent has done it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewQueue {
    /// The journal that it is meant for.
    pub from: JournalId,
    /// Its id from then on.
    pub to: JournalId,
    /// The next event follows it.
    pub base: Seq,
    /// Stands at `base` in both logs: whoever has it has heard of this very decision.
    pub base_event: EventId,
    /// What the journal has unfinished is not gone on with.
    pub end_unfinished: bool,
}

/// What becomes of a diverged host, by a person's word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cure {
    /// The logs match; only the machine is another.
    Machine,
    /// A new queue begins.
    NewQueue {
        /// Agreed with the host.
        queue: NewQueue,
        /// What it does not have: it becomes unknown, for this cause.
        unknown: Vec<(EventId, Cause)>,
        /// What its journal ends.
        continued: Vec<EventId>,
        /// The generations of the host where they are higher.
        raised: Vec<(VmId, Generation)>,
        /// VMs that only the host knows.
        adopted: Vec<Holding>,
    },
}

/// A reconciliation, bound to what it was planned on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reconciliation {
    /// Which host.
    pub host: HostId,
    /// As it was when it was planned: else nothing is done.
    pub term: Term,
    /// As it was when it was planned.
    pub last_seq: Seq,
    /// What is done.
    pub cure: Cure,
    /// Who says so, and why.
    pub word: Word,
}

/// What a reconciliation, a retirement or the end of a recovery came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settlement {
    /// Events that are unknown now.
    pub changed: Vec<Changed>,
    /// VMs that are new, or gone.
    pub vms: Vec<VmId>,
    /// Addresses that are free again.
    pub released: Vec<(NetworkName, IpAddr)>,
    /// What the host's claims lost.
    pub freed: Claims,
}

/// A host that will not come back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// Which host.
    pub host: HostId,
    /// Of its VMs.
    pub disks: Disks,
    /// Who says so, and why.
    pub word: Word,
}

/// What a person says of the disks of a host that will not come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disks {
    /// Nothing: its VMs may still be there.
    NotSaid,
    /// They are gone for good.
    Gone,
}

/// A host without VMs that takes the place of a lost one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replacement {
    /// The lost one.
    pub old: HostId,
    /// The one that becomes it.
    pub new: HostId,
    /// Who says so, and why.
    pub word: Word,
}
