//! How an event ended, and how it left its VM, as the last entry of its journal. Pure.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::Kind;
use dewpoint_proto::ids::{Generation, ReportSeq, VmId};
use dewpoint_proto::outcome::{Outcome, Succeeded};
use dewpoint_proto::vm_state::{Power, VmState};

use super::history::History;
use super::plan::Question;
use crate::hypervisor::{Domain, Seen, Wanted};
use crate::journal::entry::{Entry, Leaves, UndoneAs};

/// The outcome of an event whose plan is done: a success, or that it was undone.
#[must_use]
pub(super) fn when_done(history: &History, done: Succeeded) -> Outcome {
    match history.undoing() {
        None => Outcome::Succeeded(done),
        Some((cause, UndoneAs::Failed)) => Outcome::Failed(cause.clone()),
        Some((cause, UndoneAs::Cancelled)) => Outcome::Cancelled(cause.clone()),
    }
}

/// The outcome of an event that cannot go on: its cause, or, when it was being undone, why it was.
#[must_use]
pub(super) fn when_failed(history: &History, cause: Cause) -> Outcome {
    match history.undoing() {
        None => Outcome::Failed(cause),
        Some((why, UndoneAs::Failed)) => Outcome::Failed(why.clone().with("not_undone", cause.text)),
        Some((why, UndoneAs::Cancelled)) => Outcome::Cancelled(why.clone().with("not_undone", cause.text)),
    }
}

/// The last entry of an event, with the VM as its plan just saw it.
#[must_use]
pub(super) fn entry(question: &Question<'_>, outcome: Outcome) -> Entry {
    let leaves = leaves(question, &outcome);
    let vm = match &leaves {
        Some(Leaves::Gone) => Some(gone(question)),
        Some(Leaves::Vm { .. }) | None => seen(question),
    };
    Entry::Finished { outcome, vm, leaves }
}

/// The last entry of an event that ends without a look at its VM: what came after it looks.
#[must_use]
pub(super) fn unseen(outcome: Outcome) -> Entry {
    Entry::Finished { outcome, vm: None, leaves: None }
}

/// What later events of the VM start from.
fn leaves(question: &Question<'_>, outcome: &Outcome) -> Option<Leaves> {
    let Seen::There(domain) = &question.observed.domain else {
        // Intake took the create because there was no such VM, and an event that never began has made none.
        let proven = question.observed.domain == Seen::Absent || !question.history.begun();
        return (proven && leaves_nothing(question, outcome)).then_some(Leaves::Gone);
    };
    if foreign_to(question.event.vm, domain) {
        let built_nothing = matches!(question.event.kind, Kind::Create(_));
        return built_nothing.then_some(Leaves::Gone);
    }
    let mark = domain.mark.there().filter(|_| question.history.begun())?;
    let run = domain.live.there().and_then(|live| live.run).or(mark.run);
    Some(Leaves::Vm { disk: mark.disk, seed: mark.seed, wanted: mark.wanted, run })
}

/// Whether nothing of the VM is on this host once the event has ended this way, given that its domain is absent.
fn leaves_nothing(question: &Question<'_>, outcome: &Outcome) -> bool {
    match &question.event.kind {
        Kind::Destroy(_) => matches!(outcome, Outcome::Succeeded(_)),
        // Files of an earlier life of the VM are there: that is not nothing.
        Kind::Create(_) => outcome.cause().is_none_or(|cause| cause.reason != Reason::VmExists),
        _ => false,
    }
}

fn foreign_to(vm: VmId, domain: &Domain) -> bool {
    let ours = domain.mark.there().or(domain.live.there()).is_some_and(|mark| mark.vm == vm);
    !ours && domain.mark == Seen::Absent
}

fn seen(question: &Question<'_>) -> Option<VmState> {
    let domain = question.observed.domain.there()?;
    domain.mark.there().or(domain.live.there()).filter(|mark| mark.vm == question.event.vm)?;
    Some(VmState {
        name: question.spec.map_or_else(|| domain.name.clone(), |spec| spec.name.to_string()),
        ..state_of(domain)
    })
}

/// What a domain says of its VM.
#[must_use]
pub(super) fn state_of(domain: &Domain) -> VmState {
    let mark = domain.mark.there().or(domain.live.there());
    VmState {
        vm: domain.vm,
        name: domain.name.clone(),
        generation: mark.map_or(Generation(0), |mark| mark.generation),
        power: domain.power,
        power_detail: domain.detail.clone(),
        wanted_on: mark.is_some_and(|mark| mark.wanted == Wanted::On),
        run: domain.live.there().or(mark).filter(|_| domain.is_on()).and_then(|mark| mark.run),
        disk: mark.map(|mark| mark.disk),
        // The journal knows the report's number.
        as_of: ReportSeq(0),
        gone: false,
        life: Box::default(),
    }
}

fn gone(question: &Question<'_>) -> VmState {
    VmState {
        vm: question.event.vm,
        name: question.spec.map(|spec| spec.name.to_string()).unwrap_or_default(),
        generation: question.generation,
        power: Power::Absent,
        power_detail: String::new(),
        wanted_on: false,
        run: None,
        disk: None,
        as_of: ReportSeq(0),
        gone: true,
        life: Box::default(),
    }
}
