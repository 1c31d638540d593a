//! Whether a step that was tried before may be tried again, and when.
//!
//! A plan names a step only when its effect is not seen, so a step that is named again either failed or did nothing.
//! Tries that were cut off by a crash do not count: they say nothing of the step. Nor does libvirt being away: that
//! waits. While undoing, and past the point of no return, a step is tried for ever, ever more slowly, and visibly.

use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};

use super::{Next, On, Question, Wait, too_late};
use crate::execute::history::{Aim, Try, TryEnd};
use crate::execute::step::Step;

/// Lets the steps through, makes them wait, or gives the event up.
#[must_use]
pub fn gate(question: &Question<'_>, steps: Vec<Step>) -> Next {
    let mut hold: Option<(Duration, String)> = None;
    for &step in &steps {
        if given_up(question, step).is_some_and(|_| may_undo(question)) {
            return given_up(question, step).map_or(Next::Steps(steps), Next::Undo);
        }
        let Some((ready, why)) = backoff(question, step) else { continue };
        if question.now < ready && hold.as_ref().is_none_or(|(until, _)| *until < ready) {
            hold = Some((ready, why));
        }
    }
    match hold {
        Some((until, why)) => Next::Wait(Wait { why, on: On::Clock, until: Some(until) }),
        None => Next::Steps(steps),
    }
}

/// How often a step may return before the event is given up.
#[must_use]
pub fn limit(question: &Question<'_>, step: Step) -> u32 {
    match step {
        Step::FetchImage | Step::Upload => question.settings.attempts_remote,
        _ => question.settings.attempts,
    }
}

/// Tries of a step under the present aim that count against its limit.
#[must_use]
pub fn counted(question: &Question<'_>, step: Step) -> u32 {
    let counts = |tried: &&Try| match &tried.end {
        TryEnd::Open => false,
        TryEnd::Done(_) => !is_asked_again(step),
        TryEnd::Failed(_, cause) => cause.reason != Reason::HypervisorDown,
    };
    u32::try_from(question.history.tries(step).filter(counts).count()).unwrap_or(u32::MAX)
}

/// Asking a guest again is part of the plan, not a failure: it may take its time to go down, and each backup that was cut
/// off may have left it frozen.
fn is_asked_again(step: Step) -> bool {
    matches!(step, Step::AskShutdown | Step::Thaw)
}

fn may_undo(question: &Question<'_>) -> bool {
    question.history.aim() == Aim::Do && too_late(question.event, question.history).is_none()
}

/// Why the step is not worth another try.
fn given_up(question: &Question<'_>, step: Step) -> Option<Cause> {
    let last = question.history.tries(step).rev().find(|tried| tried.end != TryEnd::Open)?;
    match &last.end {
        TryEnd::Failed(_, cause) if is_final(&cause.reason) => Some(cause.clone()),
        TryEnd::Failed(_, cause) if counted(question, step) >= limit(question, step) => Some(cause.clone()),
        TryEnd::Done(_) if counted(question, step) >= limit(question, step) => Some(without_effect(step)),
        _ => None,
    }
}

/// Trying again would say the same.
fn is_final(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::ImageRefused
            | Reason::DigestMismatch
            | Reason::DiskFull
            | Reason::Invalid
            | Reason::TooLarge
            | Reason::ForeignDomain
            | Reason::VmExists
    )
}

/// When a step that returned before is due again, and what to show until then.
fn backoff(question: &Question<'_>, step: Step) -> Option<(Duration, String)> {
    let returned = |tried: &&Try| !matches!(tried.end, TryEnd::Open);
    let times = question.history.tries(step).filter(returned).count();
    let last = question.history.tries(step).rev().find(|tried| !matches!(tried.end, TryEnd::Open))?;
    let (at, why) = match &last.end {
        TryEnd::Failed(at, cause) => ((*at)?, format!("{step} failed: {}; it is tried again", cause.text)),
        TryEnd::Done(at) if !is_asked_again(step) => {
            ((*at)?, format!("{step} had no effect that can be seen; it is tried again"))
        }
        TryEnd::Done(_) | TryEnd::Open => return None,
    };
    let doublings = u32::try_from(times.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    let pause = question.settings.backoff_first.saturating_mul(1 << doublings);
    Some((at.saturating_add(pause.min(question.settings.backoff_most)), why))
}

fn without_effect(step: Step) -> Cause {
    Cause::new(Reason::Unconfirmed, format!("{step} returned well each time, and its effect was never seen"))
        .advise("look at the host's log and at the VM's domain and files")
        .with("step", step)
}
