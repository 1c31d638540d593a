//! What the journal tells: rows as values.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::{BodyDigest, KindName};
use dewpoint_proto::ids::{Epoch, EventId, Generation, ReportSeq, RunId, Seq, Term, VmId};
use dewpoint_proto::names::VmName;
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::VmSpec;
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::VmState;
use prost::bytes::Bytes;

use super::admission::{Journaled, Origin, Presence};
use super::entry::Entry;
use super::kept::Kept;
use super::moment::{ClockOffset, Moment};
use super::stage::Stage;
use crate::hypervisor::Wanted;

/// An entry with when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The entry.
    pub entry: Entry,
    /// When.
    pub at: Moment,
}

/// An event to go on with after a start.
#[derive(Clone, Debug)]
pub struct Unfinished {
    /// The proof.
    pub proof: Journaled,
    /// Where it stands.
    pub stage: Stage,
    /// Its entries, the oldest first.
    pub history: Vec<Written>,
}

/// An unfinished event that this version cannot go on with. It blocks its VM and is reported as degraded; nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parked {
    /// The event.
    pub event: EventId,
    /// Its VM.
    pub vm: VmId,
    /// Its kind, as stored.
    pub kind: String,
    /// Why, and what to do.
    pub cause: Cause,
}

/// All that a start has to go on with.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// In the order of acceptance.
    pub events: Vec<Unfinished>,
    /// What cannot be gone on with.
    pub parked: Vec<Parked>,
}

/// What the journal keeps of a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VmRow {
    /// Which VM.
    pub vm: VmId,
    /// Its name.
    pub name: Option<VmName>,
    /// The highest generation ever accepted.
    pub generation: Generation,
    /// Whether it is there.
    pub presence: Presence,
    /// What events asked for.
    pub wanted: Wanted,
    /// The event that made the disk in use.
    pub disk: Option<EventId>,
    /// The event that made the seed in use.
    pub seed: Option<EventId>,
    /// The latest run.
    pub run: Option<RunId>,
    /// What it was built as; none once gone.
    pub spec: Option<VmSpec>,
    /// What happened to it without an event.
    pub kept: Kept,
    /// It has an unfinished event, known to this version or not.
    pub unfinished: bool,
}

/// An event, as the journal keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventRow {
    /// Its place in the order of acceptance.
    pub n: i64,
    /// Its id.
    pub id: EventId,
    /// Its VM.
    pub vm: VmId,
    /// Where it came from.
    pub origin: Origin,
    /// The generation it gives or gave the VM; what was offered, if refused.
    pub generation: Generation,
    /// Its kind, as stored: one of [`KindName`], or a newer one.
    pub kind: String,
    /// Of its bytes.
    pub digest: BodyDigest,
    /// Its bytes; gone some days after the end.
    pub body: Option<Bytes>,
    /// `accepted`, `running`, `undoing`, `finished` or `reported`.
    pub stage: String,
    /// The event that it ended.
    pub supersedes: Option<EventId>,
    /// Not begun by then: expires.
    pub not_after: Option<Millis>,
    /// Wall clock.
    pub accepted_at: Millis,
    /// Wall clock, of the first step.
    pub begun_at: Option<Millis>,
    /// Wall clock.
    pub finished_at: Option<Millis>,
    /// How it ended.
    pub outcome: Option<Outcome>,
}

impl EventRow {
    /// Its kind, its id and its VM, as causes name them.
    pub(super) fn named(&self) -> (&str, EventId, VmId) {
        (&self.kind, self.id, self.vm)
    }

    /// Its kind, if this version knows it.
    #[must_use]
    pub fn kind_name(&self) -> Option<KindName> {
        KindName::from_name(&self.kind)
    }
}

/// An entry as stored: of any kind, known or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryRow {
    /// Its place in the journal.
    pub n: i64,
    /// Its kind, as stored.
    pub kind: String,
    /// The version of that kind.
    pub version: u32,
    /// Its JSON.
    pub json: String,
    /// When.
    pub at: Moment,
}

impl EntryRow {
    /// The entry, if this version knows it.
    ///
    /// # Errors
    /// A cause that says what cannot be read.
    pub fn entry(&self) -> Result<Entry, Cause> {
        Entry::from_stored(&self.kind, self.version, &self.json)
    }
}

/// A report, whole: it needs no other row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportRow {
    /// Its number.
    pub n: ReportSeq,
    /// Of which event.
    pub event: EventId,
    /// The event's seq; none: submitted here.
    pub seq: Option<Seq>,
    /// The generation it gave the VM.
    pub generation: Generation,
    /// How it ended.
    pub outcome: Outcome,
    /// The VM as it was left; none when nothing was known of it.
    pub vm: Option<VmState>,
    /// The event's bytes, when it was submitted here.
    pub body: Option<Bytes>,
    /// Wall clock, of the first step.
    pub begun_at: Option<Millis>,
    /// Wall clock.
    pub finished_at: Millis,
}

/// Where the journal ends: what Hello tells the coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tail {
    /// Journal id and start count.
    pub epoch: Epoch,
    /// The highest seq journaled, and the event at it.
    pub last: Option<(Seq, EventId)>,
    /// The highest report written; 0: none.
    pub last_report: ReportSeq,
    /// The highest report acknowledged; 0: none.
    pub acknowledged: ReportSeq,
    /// What the newest Welcome said.
    pub session: Session,
}

/// What the newest Welcome said, kept for when there is no coordinator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The highest term ever welcomed by; 0: none.
    pub term: Term,
    /// The coordinator's clock.
    pub clock: Option<ClockOffset>,
    /// Held by an operator: no new steps.
    pub hold: bool,
}

/// Which events are listed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Of this VM alone.
    pub vm: Option<VmId>,
    /// Unfinished ones alone.
    pub unfinished: bool,
}

/// A part of a list, the newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Only rows before this one; none: from the newest.
    pub before: Option<i64>,
    /// How many; at most 1000 are given.
    pub limit: u32,
}

/// Something was written.
#[derive(Clone, Debug)]
pub struct Change {
    /// Of which event.
    pub event: EventId,
    /// Of which VM.
    pub vm: VmId,
    /// Where the event stands now.
    pub stage: Stage,
    /// What was written; empty: it was accepted.
    pub entries: Vec<Entry>,
}
