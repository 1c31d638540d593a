//! Powering a VM on and down: what start, stop, reboot, restore, and undoing them share.
//!
//! The run is written into the persistent mark before the start, so the live mark of a domain that runs proves which
//! event powered it on. Never: asks libvirt to reboot a guest (see `reboot`).

use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::Stubborn;
use dewpoint_proto::vm_state::Power;

use super::mark::{desired, run_after_undo};
use super::question::{Question, Vm};
use super::{Next, On, Plan, Wait, retry};
use crate::execute::history::{Try, TryEnd};
use crate::execute::step::Step;

/// What a person reads of a VM that went off by itself right after it was powered on.
pub const WENT_OFF: &str = "it was powered on, and has gone off since";

/// Powers on a VM that is off, with the event's mark. Done only when the start was answered and the VM is off all the
/// same: the guest went off by itself, and is not powered on twice.
///
/// # Errors
/// A wait, or giving up.
pub fn turn_on(question: &Question<'_>, vm: &Vm<'_>) -> Plan {
    let mut steps = Vec::new();
    if !question.shielded()? {
        steps.push(Step::SetShield);
    }
    if *vm.mark != desired(question, vm) {
        steps.push(Step::Mark);
    }
    if !steps.is_empty() {
        return Ok(Next::Steps(steps));
    }
    if question.history.done(Step::Start) {
        return Ok(Next::noted(WENT_OFF));
    }
    Ok(Next::step(Step::Start))
}

/// Brings down a VM that is on: asks the guest, again from time to time, until it is off or its time is over.
#[must_use]
pub fn go_down(question: &Question<'_>, vm: &Vm<'_>, stubborn: Stubborn) -> Next {
    if matches!(vm.domain.power, Power::Paused | Power::Crashed) {
        return too_stubborn(question, stubborn, "the guest is not running and cannot answer");
    }
    if retry::counted(question, Step::AskShutdown) >= question.settings.attempts
        && stubborn == Stubborn::Force
    {
        return Next::step(Step::PowerOff);
    }
    // Only an answered request counts: one that was cut off may never have reached the guest.
    let answered = |tried: &Try| tried.began.filter(|_| matches!(tried.end, TryEnd::Done(_)));
    let first = question.history.tries(Step::AskShutdown).find_map(answered);
    let last = question.history.tries(Step::AskShutdown).rev().find_map(answered);
    let (Some(first), Some(last)) = (first, last) else {
        return Next::step(Step::AskShutdown);
    };
    let deadline = first.saturating_add(question.guest_timeout());
    let again = last.saturating_add(question.settings.ask_again);
    if question.now >= deadline {
        return too_stubborn(question, stubborn, "the guest was asked to go down and did not");
    }
    if question.now >= again {
        return Next::step(Step::AskShutdown);
    }
    let why = format!("the guest to go down, for {} s at most", remaining(deadline, question.now));
    Next::Wait(Wait { why, on: On::Domain, until: Some(deadline.min(again)) })
}

/// Undoes a start, a stop or a reboot: the VM is on or off, and wanted so, as it was before.
///
/// # Errors
/// A wait, or giving up.
pub fn undo(question: &Question<'_>) -> Plan {
    let Some(vm) = question.vm_if_there()? else { return Ok(Next::done()) };
    let was_on = question.before(Some(&vm)).run.is_some();
    let by_us = [question.run(), run_after_undo(question.id())].map(Some);
    if vm.is_on() && !was_on && by_us.contains(&vm.run()) {
        return Ok(Next::step(Step::PowerOff));
    }
    if !vm.is_on() && was_on {
        return turn_on(question, &vm);
    }
    if *vm.mark != desired(question, &vm) {
        return Ok(Next::step(Step::Mark));
    }
    Ok(Next::done())
}

fn too_stubborn(question: &Question<'_>, stubborn: Stubborn, text: &str) -> Next {
    match stubborn {
        Stubborn::Force => Next::step(Step::PowerOff),
        Stubborn::Leave => question.give_up(
            Cause::new(Reason::GuestIgnoredRequest, text)
                .advise("look at its console; or force it: `stop --force`, `reboot --hard`")
                .with("timeout_seconds", question.guest_timeout().as_secs()),
        ),
    }
}

fn remaining(deadline: Duration, now: Duration) -> u64 {
    deadline.saturating_sub(now).as_secs().max(1)
}
