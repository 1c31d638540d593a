//! `destroy`: removes a VM with its disks.
//!
//! **Proof.** Domain, anti-spoofing rules and folder are all seen to be absent. A VM that was gone already is a success, and
//! the outcome says so.
//!
//! **A crash between asking and seeing.** Each part is there or absent, so what is left is removed: nothing is done twice that
//! matters. Disks are taken away only after the domain is proven absent.
//!
//! **No undo.** Once begun it is carried through, however often a step fails. A domain that bears no mark of ours is never
//! touched, nor are the files beside it.

use super::question::Question;
use super::{Next, Plan};
use crate::execute::step::Step;

/// Towards nothing.
///
/// # Errors
/// A wait; or the end, for a foreign domain.
pub fn make(question: &Question<'_>) -> Plan {
    if let Some(domain) = question.domain()? {
        return Ok(Next::step(if domain.is_on() { Step::PowerOff } else { Step::Undefine }));
    }
    let files = question.files()?;
    let mut steps = Vec::new();
    if question.has_rules()? {
        steps.push(Step::ClearShield);
    }
    if files.is_some_and(|files| !files.disks.is_empty()) {
        steps.push(Step::RetireDisks);
    }
    if !steps.is_empty() {
        return Ok(Next::Steps(steps));
    }
    if files.is_some() {
        return Ok(Next::step(Step::RemoveFolder));
    }
    Ok(if question.history.begun() { Next::done() } else { Next::noted("it was gone already") })
}
