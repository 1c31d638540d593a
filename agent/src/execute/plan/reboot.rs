//! `reboot`: a new run of a VM that is on. Soft: the guest is asked to go down first. Hard: a power cycle.
//!
//! libvirt's own reboot is not used: nothing in the domain tells one that happened from one that did not, and a
//! request that the guest ignores turns its next power-off into a reset. Going down and a new run leave a proof.
//!
//! **Proof.** The live domain bears the event's run.
//!
//! **A crash between asking and seeing.** While the old run is seen, the guest is asked (or the plug pulled) again. Off: the event
//! has begun, so it goes on to the start. The event's run is seen: done.
//!
//! **Undo** (the guest did not go; a cancel): the VM is on and wanted as before. One that is off by then is powered on.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Reboot, RebootManner, Stubborn};

use super::power::{go_down, turn_on};
use super::question::Question;
use super::{Next, Plan};
use crate::execute::step::Step;

/// Towards a new run.
///
/// # Errors
/// A wait, or giving up.
pub fn make(question: &Question<'_>, reboot: Reboot) -> Plan {
    let vm = question.vm()?;
    if vm.is_on() && vm.run() == Some(question.run()) {
        return Ok(Next::done());
    }
    if vm.is_on() {
        return Ok(match reboot.manner {
            RebootManner::Soft => go_down(question, &vm, Stubborn::Leave),
            RebootManner::Hard => Next::step(Step::PowerOff),
        });
    }
    if !question.history.begun() {
        return Ok(Next::Fail(
            Cause::new(Reason::VmNotRunning, "the VM is off, so there is nothing to reboot")
                .advise("start it instead"),
        ));
    }
    turn_on(question, &vm)
}
