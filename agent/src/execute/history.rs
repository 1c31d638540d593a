//! What has been tried for an event so far, from its journal entries alone.
//!
//! One function, [`History::record`], takes live entries and those read back after a crash, so that a plan made before
//! a crash and one made after it rest on the same history. A try without a return was cut off, or is at work.

use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::spec::ImageRef;

use crate::execute::step::Step;
use crate::hypervisor::Consistency;
use crate::journal::entry::{Before, Entry, UndoneAs};

/// What has been tried for an event so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    tries: Vec<Try>,
    undo: Option<Undoing>,
    before: Option<Before>,
    image: Option<ImageRef>,
    consistency: Option<Consistency>,
}

/// One start of a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Try {
    /// Which step.
    pub step: Step,
    /// When it was journaled, since the host booted; none: before the last boot, so that timers begin anew.
    pub began: Option<Duration>,
    /// What came of it.
    pub end: TryEnd,
}

/// What came of a try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TryEnd {
    /// It is at work, or was cut off: it may have taken effect.
    Open,
    /// Its call or job returned well, at that time since the host booted.
    Done(Option<Duration>),
    /// Its call or job returned an error, at that time; it may have taken effect all the same.
    Failed(Option<Duration>, Cause),
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Undoing {
    cause: Cause,
    ends: UndoneAs,
    /// Tries before this one were for doing.
    from: usize,
}

/// Whether an event is being done or undone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// Towards what it asks for.
    Do,
    /// Back to how the VM was.
    Undo,
}

impl History {
    /// Takes in the next entry. `at`: since the host booted; none when it was written before the last boot.
    pub fn record(&mut self, entry: &Entry, at: Option<Duration>) {
        match entry {
            Entry::StepStarted { step, before, .. } => {
                if self.before.is_none() {
                    self.before.clone_from(before);
                }
                self.tries.push(Try { step: *step, began: at, end: TryEnd::Open });
            }
            Entry::StepDone { step, image, consistency } => {
                if image.is_some() {
                    self.image.clone_from(image);
                }
                if consistency.is_some() {
                    self.consistency.clone_from(consistency);
                }
                self.close(*step, TryEnd::Done(at));
            }
            Entry::StepFailed { step, cause } => self.close(*step, TryEnd::Failed(at, cause.clone())),
            Entry::UndoDecided { cause, ends } => {
                self.undo = Some(Undoing { cause: cause.clone(), ends: *ends, from: self.tries.len() });
            }
            Entry::Finished { .. } | Entry::Acknowledged => {}
        }
    }

    /// Whether its first step is journaled.
    #[must_use]
    pub fn begun(&self) -> bool {
        !self.tries.is_empty()
    }

    /// Done or undone.
    #[must_use]
    pub fn aim(&self) -> Aim {
        if self.undo.is_some() { Aim::Undo } else { Aim::Do }
    }

    /// Why it is undone, and how it will have ended.
    #[must_use]
    pub fn undoing(&self) -> Option<(&Cause, UndoneAs)> {
        self.undo.as_ref().map(|undo| (&undo.cause, undo.ends))
    }

    /// How the VM was before its first step.
    #[must_use]
    pub fn before(&self) -> Option<&Before> {
        self.before.as_ref()
    }

    /// The image it made.
    #[must_use]
    pub fn image(&self) -> Option<&ImageRef> {
        self.image.as_ref()
    }

    /// How the guest's file systems stand in the latest backup; none: there was no backup of a VM that is on.
    #[must_use]
    pub fn consistency(&self) -> Option<&Consistency> {
        self.consistency.as_ref()
    }

    /// How often a step was started, for its next entry.
    #[must_use]
    pub fn attempts(&self, step: Step) -> u32 {
        u32::try_from(self.tries.iter().filter(|tried| tried.step == step).count()).unwrap_or(u32::MAX)
    }

    /// How many tries returned well; shown.
    #[must_use]
    pub fn steps_done(&self) -> u32 {
        let done = self.tries.iter().filter(|tried| matches!(tried.end, TryEnd::Done(_))).count();
        u32::try_from(done).unwrap_or(u32::MAX)
    }

    /// Every try, in order.
    #[must_use]
    pub fn all(&self) -> &[Try] {
        &self.tries
    }

    /// The tries of a step under the present aim, in order.
    pub fn tries(&self, step: Step) -> impl DoubleEndedIterator<Item = &Try> {
        let from = self.undo.as_ref().map_or(0, |undo| undo.from);
        self.tries.iter().skip(from).filter(move |tried| tried.step == step)
    }

    /// Whether a try of a step, under the present aim, returned well.
    #[must_use]
    pub fn done(&self, step: Step) -> bool {
        self.tries(step).any(|tried| matches!(tried.end, TryEnd::Done(_)))
    }

    /// Whether a step was ever started.
    #[must_use]
    pub fn started(&self, step: Step) -> bool {
        self.tries.iter().any(|tried| tried.step == step)
    }

    fn close(&mut self, step: Step, end: TryEnd) {
        let open = self.tries.iter_mut().rev().find(|tried| tried.step == step && tried.end == TryEnd::Open);
        if let Some(open) = open {
            open.end = end;
        }
    }
}
