//! Decides what comes next for an event. Pure: the same question has the same answer, so that a plan made after a crash
//! goes on where the one before it stopped, and planning finished work yields no step.
//!
//! Plans compare stamps (the ids that disks, seeds and runs bear), never contents. What is unknown, or busy with an
//! earlier call, only waits. There is one file for each kind of event; each says at its top what proves that the event
//! happened, and what a crash between asking and seeing leads to. [`retry`] then says whether a step that was tried
//! before may be tried again, and when.

pub mod cancel;
pub mod create;
pub mod destroy;
pub mod mark;
pub mod power;
pub mod question;
pub mod reboot;
pub mod restore;
pub mod retry;
pub mod snapshot;
pub mod start;
pub mod stop;
#[cfg(test)]
mod tests;

use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Event, Kind};
use dewpoint_proto::outcome::Succeeded;

use crate::execute::history::{Aim, History};
use crate::execute::observed::Needs;
use crate::execute::step::Step;

pub use question::{Question, Server};

/// What comes next for an event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Apply these, at once: none depends on another. Never empty.
    Steps(Vec<Step>),
    /// Nothing can be decided or done now.
    Wait(Wait),
    /// It cannot be done: decide to undo it. Only under [`Aim::Do`].
    Undo(Cause),
    /// Seen to be done, or to be undone.
    Done(Succeeded),
    /// It cannot be done, and there is nothing to undo.
    Fail(Cause),
    /// It was not begun by its deadline.
    Expire(Cause),
}

/// Why nothing is done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Shown to people.
    pub why: String,
    /// What ends it.
    pub on: On,
    /// Decide again then at the latest; since the host booted.
    pub until: Option<Duration>,
}

/// What ends a wait. Whatever wakes a lane, it observes and plans anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// A change of the domain.
    Domain,
    /// A part that can be observed again.
    Sight,
    /// A backup that is at work: its progress is looked at.
    Backup,
    /// Time alone.
    Clock,
    /// The coordinator's word where its image server is.
    Server,
}

/// What a kind's plan answers. `Err` too is an answer: one that `?` leaves early with.
pub type Plan = Result<Next, Next>;

/// What comes next for an event that is the oldest unfinished one of its VM.
#[must_use]
pub fn plan(question: &Question<'_>) -> Next {
    if let Some(cause) = expired(question) {
        return Next::Expire(cause);
    }
    let next = match question.history.aim() {
        Aim::Do => to_do(question),
        Aim::Undo => to_undo(question),
    };
    match next.unwrap_or_else(|early| early) {
        Next::Steps(steps) => retry::gate(question, steps),
        next => next,
    }
}

fn to_do(question: &Question<'_>) -> Plan {
    match &question.event.kind {
        Kind::Create(create) => create::make(question, create),
        Kind::Start => start::make(question),
        Kind::Stop(stop) => stop::make(question, *stop),
        Kind::Reboot(reboot) => reboot::make(question, *reboot),
        Kind::Snapshot(_) => snapshot::make(question),
        Kind::Restore(restore) => restore::make(question, restore),
        Kind::Destroy(_) => destroy::make(question),
        // A cancel has no plan of its own: it acts through its target's (see `cancel`).
        Kind::Cancel(_) => Ok(Next::Done(Succeeded::default())),
    }
}

fn to_undo(question: &Question<'_>) -> Plan {
    // An event that never began changed nothing. Of a create it must be seen that nothing is there: its claim goes.
    if !question.history.begun() && !matches!(question.event.kind, Kind::Create(_)) {
        return Ok(Next::done());
    }
    match &question.event.kind {
        Kind::Create(_) => create::undo(question),
        Kind::Start | Kind::Stop(_) | Kind::Reboot(_) => power::undo(question),
        Kind::Snapshot(_) => snapshot::undo(question),
        Kind::Restore(_) => restore::undo(question),
        Kind::Destroy(_) | Kind::Cancel(_) => Ok(Next::Done(Succeeded::default())),
    }
}

/// What a plan looks at, so that nothing else is observed.
#[must_use]
pub fn needs(event: &Event, history: &History, server: &Server) -> Needs {
    let made = history.image().map(|image| image.digest);
    match &event.kind {
        Kind::Create(create) => Needs {
            files: true,
            shield: create::looks_at_rules(history),
            image: Some(create.source.digest),
            uploaded: None,
        },
        Kind::Start | Kind::Reboot(_) | Kind::Stop(_) => Needs { shield: true, ..Needs::default() },
        Kind::Snapshot(_) => {
            Needs { files: true, shield: false, image: made, uploaded: made.zip(server.known().cloned()) }
        }
        Kind::Restore(restore) => {
            Needs { files: true, shield: true, image: Some(restore.source.digest), uploaded: None }
        }
        Kind::Destroy(_) => Needs { files: true, shield: true, ..Needs::default() },
        Kind::Cancel(_) => Needs::default(),
    }
}

/// Whether an event can still be undone; if not, why.
#[must_use]
pub fn too_late(event: &Event, history: &History) -> Option<Cause> {
    let why = match &event.kind {
        Kind::Destroy(_) if history.begun() => "a destroy that has begun is carried through",
        Kind::Restore(_) if history.aim() == Aim::Do && history.started(Step::RetireDisks) => {
            "the restore is done, and the old disk is being taken away"
        }
        _ => return None,
    };
    Some(Cause::new(Reason::TooLate, why).with("event_id", event.id))
}

fn expired(question: &Question<'_>) -> Option<Cause> {
    let late = question.expires.is_some_and(|expires| question.now >= expires);
    let unbegun = !question.history.begun() && question.history.aim() == Aim::Do;
    (late && unbegun).then(|| {
        Cause::new(Reason::Expired, "the event was not begun by its deadline")
            .advise("send it again as a new event, with a later deadline or none")
    })
}

impl Next {
    /// One step.
    #[must_use]
    pub fn step(step: Step) -> Self {
        Self::Steps(vec![step])
    }

    /// Done, with something a person may want to know.
    #[must_use]
    pub fn noted(note: &str) -> Self {
        Self::Done(Succeeded { image: None, note: note.to_owned() })
    }

    /// Done.
    #[must_use]
    pub fn done() -> Self {
        Self::Done(Succeeded::default())
    }

    /// A wait without an end of its own.
    #[must_use]
    pub fn wait(on: On, why: impl Into<String>) -> Self {
        Self::Wait(Wait { why: why.into(), on, until: None })
    }
}
