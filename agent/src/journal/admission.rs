//! What comes in, what is known when it does, and the answers: accept, refuse, already there.
//!
//! [`Journaled`] is the proof that an event is on disk: its fields are private to the journal, so whoever has one can
//! execute, and nobody else can.

use std::sync::Arc;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::{Body, BodyDigest, Event, KindName};
use dewpoint_proto::ids::{EventId, Generation, Seq, Term, VmId};
use prost::bytes::Bytes;

use super::moment::{Deadline, Moment};
use super::stage::Stage;

/// Where an event came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the coordinator, with what its envelope says.
    Delivered {
        /// Position in this host's queue.
        seq: Seq,
        /// The claim under which it was sent.
        term: Term,
        /// Of the VM.
        generation: Generation,
    },
    /// Submitted on this host; takes the VM's generation + 1.
    Local,
}

impl Origin {
    /// The seq, if it was delivered.
    #[must_use]
    pub fn seq(&self) -> Option<Seq> {
        match self {
            Self::Delivered { seq, .. } => Some(*seq),
            Self::Local => None,
        }
    }
}

/// An event on its way into the journal.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Where it came from.
    pub origin: Origin,
    /// What came.
    pub payload: Payload,
}

/// What came.
#[derive(Clone, Debug)]
pub enum Payload {
    /// An event.
    Event(Body),
    /// Bytes that are no event this version knows. They take their place in the queue and are refused.
    Unreadable(Unreadable),
}

impl Payload {
    /// The event, and its VM.
    #[must_use]
    pub fn named(&self) -> (EventId, VmId) {
        match self {
            Self::Event(body) => (body.event().id, body.event().vm),
            Self::Unreadable(found) => (found.event, found.vm),
        }
    }
}

/// Bytes that are no event this version knows, but name one.
#[derive(Clone, Debug)]
pub struct Unreadable {
    /// The event they name.
    pub event: EventId,
    /// The VM they name.
    pub vm: VmId,
    /// As they came.
    pub bytes: Bytes,
    /// Why they cannot be read.
    pub cause: Cause,
}

/// Proof that an event is on disk and accepted. Only the journal makes one. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journaled(Arc<Accepted>);

#[derive(Debug)]
struct Accepted {
    body: Body,
    origin: Origin,
    generation: Generation,
    supersedes: Option<EventId>,
    deadline: Option<Deadline>,
    accepted_at: Moment,
}

/// What [`Journaled`] is made from, inside the journal.
pub(super) struct Parts {
    pub(super) body: Body,
    pub(super) origin: Origin,
    pub(super) generation: Generation,
    pub(super) supersedes: Option<EventId>,
    pub(super) deadline: Option<Deadline>,
    pub(super) accepted_at: Moment,
}

impl Journaled {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { body, origin, generation, supersedes, deadline, accepted_at } = parts;
        Self(Arc::new(Accepted { body, origin, generation, supersedes, deadline, accepted_at }))
    }

    /// The event.
    #[must_use]
    pub fn event(&self) -> &Event {
        self.0.body.event()
    }

    /// The event with its bytes.
    #[must_use]
    pub fn body(&self) -> &Body {
        &self.0.body
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.event().id
    }

    /// The VM it changes.
    #[must_use]
    pub fn vm(&self) -> VmId {
        self.event().vm
    }

    /// Where it came from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.origin
    }

    /// The generation it gives the VM.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.0.generation
    }

    /// The unfinished event of the same VM that this one ends: a cancel's target, or what a destroy came upon.
    #[must_use]
    pub fn supersedes(&self) -> Option<EventId> {
        self.0.supersedes
    }

    /// Not begun by then: expires.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        self.0.deadline
    }

    /// When it was journaled.
    #[must_use]
    pub fn accepted_at(&self) -> Moment {
        self.0.accepted_at
    }
}

/// The journal's answer to a delivery. Whichever it is, it is on disk, and the delivery may be acknowledged.
#[derive(Clone, Debug)]
pub enum Admission {
    /// Accepted now.
    New(Journaled),
    /// Refused now, its report written with it.
    Refused(Cause),
    /// Was there already: the same event with the same body.
    Seen(Stage),
}

/// What the rules of intake ask of the journal, gathered inside the transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// The event of the same id.
    pub same_id: Option<BodyDigest>,
    /// The VM.
    pub vm: Option<KnownVm>,
    /// The VM's unfinished events, the oldest first; at most two.
    pub unfinished: Vec<KnownEvent>,
    /// For a cancel: where its target stands.
    pub target: Target,
}

/// A VM as intake sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownVm {
    /// The highest generation ever accepted.
    pub generation: Generation,
    /// Whether it is there.
    pub presence: Presence,
}

/// Whether a VM is on this host, as far as finished events tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its create was accepted and has not ended.
    Building,
    /// Built.
    There,
    /// Destroyed, or never built: a tombstone that keeps the generation.
    Gone,
}

impl Presence {
    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::There => "there",
            Self::Gone => "gone",
        }
    }

    /// The one of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Building, Self::There, Self::Gone].into_iter().find(|one| one.as_str() == name)
    }
}

/// An unfinished event of the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownEvent {
    /// Its id.
    pub id: EventId,
    /// Its kind; none: parked, of a kind that this version does not know.
    pub kind: Option<KindName>,
}

/// Where a cancel's target stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Target {
    /// Not known on this host, or of another VM.
    #[default]
    Missing,
    /// Unfinished.
    Unfinished,
    /// Over.
    Finished,
}

/// What is judged.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a> {
    /// Where it came from.
    pub origin: &'a Origin,
    /// The event.
    pub body: &'a Body,
}

/// Intake's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Take it.
    Accept {
        /// The unfinished event that it ends.
        supersedes: Option<EventId>,
    },
    /// Turn it away.
    Refuse(Cause),
    /// It is there already.
    Seen,
}

/// Intake's rules: pure. Called inside the journal's transaction.
pub type Judge = fn(&Known, &Offer<'_>) -> Verdict;
