//! `start`: powers a VM on.
//!
//! **Proof.** The live domain bears the event's run. One that runs already is left running, and the outcome says so.
//!
//! **A crash between asking and seeing.** The run is in the persistent mark before the start is asked for. Afterwards the
//! domain either runs with that run: done; or is off: started again, under the same run; or is busy: waited for.
//!
//! **Undo** goes back to off, and to what was wanted, if the VM was off.

use super::mark::desired;
use super::power::turn_on;
use super::question::Question;
use super::{Next, Plan};
use crate::execute::step::Step;

/// Towards a VM that runs.
///
/// # Errors
/// A wait, or giving up.
pub fn make(question: &Question<'_>) -> Plan {
    let vm = question.vm()?;
    if !vm.is_on() {
        return turn_on(question, &vm);
    }
    if vm.run() == Some(question.run()) {
        return Ok(Next::done());
    }
    if *vm.mark != desired(question, &vm) {
        return Ok(Next::step(Step::Mark));
    }
    Ok(Next::noted("it was running already"))
}
