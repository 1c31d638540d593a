//! `stop`: asks the guest to go down, and forces it after a timeout when told to.
//!
//! **Proof.** The domain is off and its mark bears the event, with off wanted.
//!
//! **A crash between asking and seeing.** Asking is harmless to repeat, so it is asked again; the guest's time counts from the
//! first request that was answered, and anew after a host boot. A forced power-off is repeated only when the domain is
//! seen on with its control channel idle, so an abandoned one cannot hit a later run.
//!
//! **Undo** (the guest did not go; a cancel): on is wanted again and the VM runs on. A guest that goes down late, while that
//! is being written, is powered on again: the report says that the VM runs.

use dewpoint_proto::event::Stop;

use super::mark::desired;
use super::power::go_down;
use super::question::Question;
use super::{Next, Plan};
use crate::execute::step::Step;

/// Towards a VM that is off.
///
/// # Errors
/// A wait, or giving up.
pub fn make(question: &Question<'_>, stop: Stop) -> Plan {
    let vm = question.vm()?;
    if *vm.mark != desired(question, &vm) {
        return Ok(Next::step(Step::Mark));
    }
    if vm.is_on() {
        return Ok(go_down(question, &vm, stop.stubborn));
    }
    match question.before(Some(&vm)).run {
        Some(_) => Ok(Next::done()),
        None => Ok(Next::noted("it was off already")),
    }
}
