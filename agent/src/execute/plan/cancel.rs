//! `cancel` and superseding: what an event that came later does to the one before it. Pure.
//!
//! **Proof.** A cancel succeeds when its target ended cancelled, and fails `TOO_LATE` otherwise. It changes nothing itself:
//! the decision to undo is journaled with its target, and final.
//!
//! **A crash between asking and seeing.** A cancel stays unfinished until its target has ended, so after a crash it is decided
//! again, from where the target stands.
//!
//! A `destroy` supersedes whatever was unfinished before it: that stops at its next step, is not undone, and ends cancelled;
//! then the destroy plans from what it observes.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Event, Kind};
use dewpoint_proto::ids::EventId;
use dewpoint_proto::outcome::Outcome;

use super::too_late;
use crate::execute::history::{Aim, History};
use crate::journal::Journaled;

/// What a cancel does now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancelling {
    /// Decide to undo the target. One that has not begun is looked at too: that nothing is left of it, is seen.
    Undo,
    /// The target is being undone: its end decides.
    Wait,
    /// The cancel itself ends.
    Finish(Outcome),
}

/// Where the target of a cancel stands.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Unfinished.
    Open(&'a Journaled, &'a History),
    /// Ended.
    Ended(&'a Outcome),
    /// This journal does not know it.
    Unknown,
}

/// What a cancel does, given where its target stands.
#[must_use]
pub fn decide(target: Target<'_>) -> Cancelling {
    match target {
        Target::Open(proof, history) => {
            match carried_through(proof).or_else(|| too_late(proof.event(), history)) {
                Some(cause) => Cancelling::Finish(Outcome::Failed(cause)),
                None if history.aim() == Aim::Undo => Cancelling::Wait,
                None => Cancelling::Undo,
            }
        }
        Target::Ended(Outcome::Cancelled(_)) => Cancelling::Finish(Outcome::success()),
        Target::Ended(outcome) => Cancelling::Finish(Outcome::Failed(Cause::new(
            Reason::TooLate,
            format!("the event had ended already: {}", outcome.name()),
        ))),
        Target::Unknown => Cancelling::Finish(Outcome::Failed(
            Cause::new(Reason::EventNotFound, "this host does not know the event to be cancelled")
                .advise("look at the VM's events, and cancel one that is unfinished"),
        )),
    }
}

/// A destroy that came upon an unfinished event has ended that without undoing it, so somebody must clear up.
fn carried_through(proof: &Journaled) -> Option<Cause> {
    let destroy = matches!(proof.event().kind, Kind::Destroy(_));
    proof.supersedes().filter(|_| destroy).map(|event| {
        Cause::new(Reason::TooLate, "the destroy has ended an unfinished event, and is carried through")
            .advise("create the VM anew once it has ended; its disks may be in the recycle folder")
            .with("superseded", event)
    })
}

/// Why the target of a cancel ends.
#[must_use]
pub fn cancelled(by: &Event) -> Cause {
    let text = if by.note.is_empty() {
        "it was cancelled".to_owned()
    } else {
        format!("it was cancelled: {}", by.note)
    };
    Cause::new(Reason::CancelledByCaller, text).with("cancelled_by", by.id)
}

/// Why an event ends that a destroy came after.
#[must_use]
pub fn superseded(by: EventId) -> Cause {
    Cause::new(Reason::Superseded, "a destroy of the VM came after it").with("superseded_by", by)
}
