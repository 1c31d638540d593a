//! `create`: builds a VM from an image.
//!
//! **Proof.** Powered on: the live domain bears the event's run. Left off: the persistent mark bears the event, and the
//! anti-spoofing rules are in force.
//!
//! **A crash between asking and seeing.** Disk and seed take their names only when they are whole, so a half-made one is
//! made again under the same id. A domain that was defined bears the event and is not defined again. Rules whose setting
//! was cut off are set again. A start that was asked for and not seen: libvirt carries it out or not; the domain is
//! looked at, waited for while it is busy, and started only when it is off.
//!
//! **Undo** removes what bears the event, disks at once: destroy's plan, for the event's own things alone.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Create, InitialPower};

use super::power::WENT_OFF;
use super::question::Question;
use super::{Next, Plan};
use crate::execute::history::{Aim, History};
use crate::execute::step::Step;
use crate::hypervisor::{Domain, Wanted};

/// Towards the VM.
///
/// # Errors
/// A wait, or giving up.
pub fn make(question: &Question<'_>, create: &Create) -> Plan {
    let id = question.id();
    let domain = question.domain()?;
    let files = question.files()?;
    if domain.is_some_and(|domain| !is_made_by(question, domain)) {
        return Err(question.give_up(exists("a domain of it is there")));
    }
    if domain.is_none() && files.is_some_and(|files| files.disks.keys().any(|disk| *disk != id)) {
        return Err(question.give_up(exists("disks of it are there")));
    }
    if let Some(domain) = domain {
        return switch_on(question, create, domain);
    }
    let mut steps = Vec::new();
    if !files.is_some_and(|files| files.disks.contains_key(&id)) {
        steps.push(if question.cached()? { Step::MakeDisk } else { Step::FetchImage });
    }
    if steps != [Step::FetchImage] && !files.is_some_and(|files| files.seeds.contains(&id)) {
        steps.push(Step::MakeSeed);
    }
    if is_unshielded(question)? {
        steps.push(Step::SetShield);
    }
    if steps.is_empty() {
        steps.push(Step::Define);
    }
    Ok(Next::Steps(steps))
}

/// The domain is defined: its rules are seen to be in force, and on with it, if it is to be.
fn switch_on(question: &Question<'_>, create: &Create, domain: &Domain) -> Plan {
    if domain.is_on() && create.power == InitialPower::On {
        return Ok(Next::done());
    }
    if !looks_at_rules(question.history) {
        // The journal that knew of the define is lost: repeating it is harmless, and nothing starts before a look.
        return Ok(Next::step(Step::Define));
    }
    if question.history.done(Step::Start) {
        return Ok(Next::noted(WENT_OFF));
    }
    if is_unshielded(question)? {
        return Ok(Next::step(Step::SetShield));
    }
    Ok(match create.power {
        InitialPower::Off => Next::done(),
        InitialPower::On => Next::step(Step::Start),
    })
}

/// Whether the anti-spoofing rules are looked at: each look is a process. Before the domain is defined there is nothing
/// that they could hold back, and whoever sets them looks at what is there; they are seen to be in force before the start.
#[must_use]
pub fn looks_at_rules(history: &History) -> bool {
    history.aim() == Aim::Undo || history.started(Step::Define)
}

/// Whether the rules are still to be set.
fn is_unshielded(question: &Question<'_>) -> Result<bool, Next> {
    if looks_at_rules(question.history) {
        return Ok(!question.shielded()?);
    }
    let any = !question.rules(question.spec()?).is_empty();
    Ok(any && !question.history.done(Step::SetShield))
}

/// What is wanted of a new VM.
#[must_use]
pub fn wanted(create: &Create) -> Wanted {
    match create.power {
        InitialPower::On => Wanted::On,
        InitialPower::Off => Wanted::Off,
    }
}

/// Back to nothing.
///
/// # Errors
/// A wait.
pub fn undo(question: &Question<'_>) -> Plan {
    let id = question.id();
    let domain = question.domain()?;
    if let Some(domain) = domain.filter(|domain| is_made_by(question, domain)) {
        return Ok(Next::step(if domain.is_on() { Step::PowerOff } else { Step::Undefine }));
    }
    let files = question.files()?;
    let mut steps = Vec::new();
    // Another domain of the VM, by another event, goes on under its own rules.
    if domain.is_none() && question.has_rules()? {
        steps.push(Step::ClearShield);
    }
    if files.is_some_and(|files| files.disks.contains_key(&id)) {
        steps.push(Step::RetireDisks);
    }
    if !steps.is_empty() {
        return Ok(Next::Steps(steps));
    }
    let Some(files) = files else { return Ok(Next::done()) };
    if files.disks.is_empty() {
        return Ok(Next::step(Step::RemoveFolder));
    }
    if files.seeds.contains(&id) || super::snapshot::has_leftovers(files, id) {
        return Ok(Next::step(Step::Discard));
    }
    Ok(Next::done())
}

fn is_made_by(question: &Question<'_>, domain: &Domain) -> bool {
    let mark = domain.mark.there().or(domain.live.there());
    mark.is_some_and(|mark| mark.event == question.id())
}

fn exists(text: &str) -> Cause {
    Cause::new(Reason::VmExists, format!("the VM exists already: {text}"))
        .advise("destroy it first, or create the VM under another id")
}
