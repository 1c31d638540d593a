//! Whether a VM is started again, and when. Pure: the same question has the same answer.
//!
//! What happened is noted once, with the run that it happened to, before anything is done about it; what is noted
//! outlives the agent, so that libvirt forgetting its reasons changes nothing. Then:
//!
//! | it is off, or its guest is dead, because | `never` | `on-crash` | `always` |
//! |---|---|---|---|
//! | QEMU died or was ended by a signal, the guest panicked, or nobody knows | left | started | started |
//! | the guest powered itself off, or somebody destroyed its domain | left | left | started |
//! | somebody saved it or migrated it away: it may go on there | left | left | left |
//! | its host went down | started | started | started |
//!
//! A movable VM whose host went down, or that is off and nobody knows why (its host may have booted, under a journal that is
//! lost), is started once the coordinator has said that it is still there.

use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{Generation, RunId};
use dewpoint_proto::spec::{Placement, Restart};
use dewpoint_proto::vm_state::{Incident, IncidentKind, Power};

use super::incident::{ended_by_hand, is_dead, is_down, running_on, was_meant, why_off, why_paused};
pub use super::started::{answered, begun, failed};
use super::{Bounds, edited};
use crate::hypervisor::{Control, Domain, Seen, Wanted};
use crate::journal::VmRow;
use crate::journal::admission::Presence;
use crate::journal::kept::{ConfigSeen, Kept, Noted};
use crate::journal::moment::Moment;

/// A guest that reboots is heard of twice, by itself and by its firmware.
const ONE_REBOOT: Duration = Duration::from_secs(10);

/// Everything that is decided on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What the journal keeps of the VM.
    pub row: &'a VmRow,
    /// What is there.
    pub domain: &'a Seen<Domain>,
    /// What libvirt said of it, the oldest first; since the agent started, or since it was last noted.
    pub heard: &'a [String],
    /// Now.
    pub now: Moment,
    /// The coordinator's word on a movable VM.
    pub word: &'a Word,
    /// Held by an operator: no new steps.
    pub held: bool,
    /// Its domain's configuration, if it was looked at.
    pub config: Option<&'a ConfigSeen>,
    /// Bounds.
    pub bounds: &'a Bounds,
}

/// The coordinator's word on whether a movable VM is still this host's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Word {
    /// Not given, or too long ago.
    None,
    /// It was when the VM had this generation.
    Confirmed(Generation),
    /// It is not to be started here, and why.
    Refused(Cause),
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All is as wanted, or it is not the keeper's to judge.
    Rest,
    /// This is journaled first; then it is decided anew.
    Note(Box<Kept>),
    /// Power it on.
    Start(StartAs),
    /// A guest that is dead, in a QEMU that is not: pull the plug.
    PowerOff,
    /// Not now.
    Wait(Wait),
    /// It stays as it is until a person or an event changes that.
    Leave(Cause),
}

/// By which run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAs {
    /// A fresh one.
    New,
    /// The one that was journaled, whose start was not answered.
    Again(RunId),
}

/// Why nothing is done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wait {
    /// Shown to people.
    pub why: String,
    /// For how long at most; none: until something is heard.
    pub left: Option<Duration>,
    /// The coordinator is asked meanwhile.
    pub asks: bool,
}

/// Decides for a VM that no lane has an event of.
#[must_use]
pub fn keep(question: &Question<'_>) -> Keep {
    match of_power(question) {
        // What was edited waits for nothing, and nothing waits for it.
        next @ (Keep::Rest | Keep::Wait(_) | Keep::Leave(_)) => edited::note(question).unwrap_or(next),
        next => next,
    }
}

fn of_power(question: &Question<'_>) -> Keep {
    let row = question.row;
    if row.presence != Presence::There || row.unfinished {
        return Keep::Rest;
    }
    let domain = match question.domain {
        Seen::Unknown(why) => return wait(format!("the domain is not known: {why}")),
        Seen::Absent => return absent(question),
        Seen::There(domain) => domain,
    };
    if let Control::Busy(why) = &domain.control {
        return wait(format!("the domain is not free: {why}"));
    }
    if !is_ours(row, domain) {
        return Keep::Rest;
    }
    match (row.wanted, domain.power) {
        (_, Power::Unknown | Power::Absent | Power::ShuttingDown) => {
            wait(format!("the domain to settle: {}", domain.detail))
        }
        (Wanted::Off, _) => wanted_off(question, domain),
        (Wanted::On, Power::Running) => running(question, domain),
        (Wanted::On, Power::Paused) => paused(question, domain),
        (Wanted::On, Power::Off | Power::Crashed) => down(question, domain),
    }
}

/// A domain whose persistent mark is this VM's, of no newer generation: only that one is started.
pub(super) fn is_ours(row: &VmRow, domain: &Domain) -> bool {
    domain.mark.there().is_some_and(|mark| mark.vm == row.vm && mark.generation <= row.generation)
}

fn wanted_off(question: &Question<'_>, domain: &Domain) -> Keep {
    let kept = &question.row.kept;
    let by_hand = IncidentKind::StartedByHand;
    if is_dead(domain.power) {
        return settled(kept);
    }
    if kept.noted.as_ref().is_some_and(|noted| noted.what == by_hand) {
        return Keep::Leave(
            Cause::new(Reason::DomainChanged, "it is wanted off, and somebody started it")
                .advise("send a stop or a start, so that what is wanted and what is are the same"),
        );
    }
    noted(question, domain, by_hand, live_run(domain))
}

/// It runs, as wanted: what was noted of its being off is over.
fn running(question: &Question<'_>, domain: &Domain) -> Keep {
    let kept = &question.row.kept;
    let run = live_run(domain);
    // A start that was said to have failed, and came late, is not somebody else's.
    let late =
        kept.incident.as_ref().is_some_and(|last| last.kind == IncidentKind::StartFailed && last.run == run);
    if let Some(noted) = kept.noted.as_ref().filter(|noted| is_down(noted.what) && !kept.starting && !late)
        && run == noted.run
    {
        let incident = happened(question, domain, IncidentKind::StartedByHand, run);
        return Keep::Note(Box::new(Kept { incident: Some(incident), noted: None, ..kept.clone() }));
    }
    if kept.noted.is_some() || kept.starting {
        // A run that the keeper did not begin is an event's: what came before it counts no more.
        let restarts = if run == kept.run || kept.starting { kept.restarts } else { 0 };
        return Keep::Note(Box::new(Kept { noted: None, starting: false, restarts, ..kept.clone() }));
    }
    match running_on(question.heard) {
        Some(kind) if !told_already(question, kind, run) => {
            let incident = Some(happened(question, domain, kind, run));
            // What it is now is seen anew, and is no second edit.
            let config = kept.config.clone().filter(|_| kind != IncidentKind::EditedByHand);
            Keep::Note(Box::new(Kept { incident, config, ..kept.clone() }))
        }
        _ => Keep::Rest,
    }
}

fn told_already(question: &Question<'_>, kind: IncidentKind, run: Option<RunId>) -> bool {
    question.row.kept.incident.as_ref().is_some_and(|last| {
        last.kind == kind && last.run == run && question.now.wall.since(last.at) < ONE_REBOOT
    })
}

fn paused(question: &Question<'_>, domain: &Domain) -> Keep {
    let Some(kind) = why_paused(&domain.detail) else { return Keep::Rest };
    let (kept, run) = (&question.row.kept, live_run(domain));
    if !kept.noted.as_ref().is_some_and(|noted| noted.what == kind && noted.run == run) {
        return noted(question, domain, kind, run);
    }
    let name = &domain.name;
    Keep::Leave(match kind {
        IncidentKind::PausedOnIoError => {
            Cause::new(Reason::StorageError, "its disk failed or is full, so libvirt paused it")
                .advise(format!("make room or mend the disk, then `virsh resume {name}`"))
        }
        _ => Cause::new(Reason::DomainChanged, "somebody paused it, and it stays so")
            .advise(format!("`virsh resume {name}` lets it run on")),
    })
}

/// Off, or with a dead guest, though wanted on.
fn down(question: &Question<'_>, domain: &Domain) -> Keep {
    let kept = &question.row.kept;
    if let (true, Some(run), false) = (kept.starting, kept.run, domain.is_on()) {
        return match ended_by_hand(&domain.detail, kept.noted.as_ref().map(|noted| noted.what)) {
            // It was carried out, and that run is over.
            Some(what) => noted(question, domain, what, Some(run)),
            None => not_held(question, Keep::Start(StartAs::Again(run))),
        };
    }
    let known = kept.noted.as_ref().filter(|noted| is_down(noted.what) && noted.run == question.row.run);
    match known {
        Some(known) => judged(question, domain, known),
        None => noted(question, domain, why_off(&domain.detail, question.heard), question.row.run),
    }
}

/// What the policy says of a VM whose going off was noted.
fn judged(question: &Question<'_>, domain: &Domain, known: &Noted) -> Keep {
    if let Some(cause) = left(question.row, known.what) {
        return Keep::Leave(cause);
    }
    let (kept, bounds) = (&question.row.kept, question.bounds);
    if matches!(known.what, IncidentKind::HostWentDown | IncidentKind::WentOff)
        && let Some(unconfirmed) = unconfirmed(question)
    {
        return unconfirmed;
    }
    if kept.restarts >= bounds.limit {
        return Keep::Leave(
            Cause::new(
                Reason::RestartLimit,
                format!("it was started {} times, and did not stay on", kept.restarts),
            )
            .advise("look at its console and at why it ends; a start event tries again"),
        );
    }
    let left = pause(bounds, known.what, kept.restarts).saturating_sub(question.now.since(&known.at));
    if !left.is_zero() {
        let count = format!("{} of {}", kept.restarts + 1, bounds.limit);
        let why = format!("to be started again, as {} ({count})", known.what.words());
        return Keep::Wait(Wait { why, left: Some(left), asks: false });
    }
    not_held(question, if domain.is_on() { Keep::PowerOff } else { Keep::Start(StartAs::New) })
}

/// Why its policy leaves it off; none: it does not.
pub(super) fn left(row: &VmRow, what: IncidentKind) -> Option<Cause> {
    use IncidentKind as Kind;
    let Some(spec) = &row.spec else {
        return Some(
            Cause::new(Reason::VmNotFound, "the journal does not know what the VM is made of").advise(
                "it was made under another journal: reconcile the host, or `dewpoint-agent orphans adopt` it",
            ),
        );
    };
    match what {
        Kind::HostWentDown => return None,
        Kind::MigratedAway => {
            return Some(
                Cause::new(Reason::VmElsewhere, "somebody migrated it away, and it may run there")
                    .advise("look where it runs; a start event starts it here"),
            );
        }
        Kind::SavedByHand => {
            return Some(
                Cause::new(Reason::DomainChanged, "somebody saved it, and starting it would discard that")
                    .advise("`virsh start` restores it; a start event boots it anew"),
            );
        }
        _ => {}
    }
    let starts = match spec.restart {
        Restart::Never => false,
        Restart::OnCrash => !was_meant(what),
        Restart::Always => true,
    };
    (!starts).then(|| {
        let text = format!("{}, and its restart policy `{}` leaves it off", what.words(), spec.restart);
        Cause::new(Reason::VmNotRunning, text)
            .advise("a start event starts it; a stop says that it is to be off")
    })
}

/// A movable VM is not started after a boot of its host, or what may have been one, before the coordinator says that it is
/// still there.
fn unconfirmed(question: &Question<'_>) -> Option<Keep> {
    let row = question.row;
    if row.spec.as_ref().is_none_or(|spec| spec.placement == Placement::Bound) {
        return None;
    }
    match question.word {
        Word::Confirmed(generation) if *generation == row.generation => None,
        Word::Refused(cause) => {
            Some(Keep::Wait(Wait { why: format!("left off: {}", cause.text), left: None, asks: true }))
        }
        Word::Confirmed(_) | Word::None => {
            let why = "the coordinator to confirm that it is still this host's".to_owned();
            Some(Keep::Wait(Wait { why, left: None, asks: true }))
        }
    }
}

fn absent(question: &Question<'_>) -> Keep {
    let row = question.row;
    if row.wanted == Wanted::Off {
        return settled(&row.kept);
    }
    let moved = question.heard.iter().any(|word| word == "stopped/migrated");
    let known = row.kept.noted.as_ref().is_some_and(|noted| noted.what == IncidentKind::MigratedAway);
    if moved && !known {
        let (what, run) = (IncidentKind::MigratedAway, row.run);
        let incident = Incident { kind: what, at: question.now.wall, detail: String::new(), run };
        let noted = Some(Noted { what, run, at: question.now });
        return Keep::Note(Box::new(Kept { incident: Some(incident), noted, ..row.kept.clone() }));
    }
    Keep::Leave(super::attention::gone(row))
}

/// As wanted: nothing that was noted holds any more.
fn settled(kept: &Kept) -> Keep {
    if kept.noted.is_none() && !kept.starting {
        return Keep::Rest;
    }
    Keep::Note(Box::new(Kept { noted: None, starting: false, restarts: 0, ..kept.clone() }))
}

fn noted(question: &Question<'_>, domain: &Domain, what: IncidentKind, run: Option<RunId>) -> Keep {
    let (kept, now) = (&question.row.kept, question.now);
    let ran_well = kept.last.is_some_and(|last| now.since(&last) >= question.bounds.steady);
    Keep::Note(Box::new(Kept {
        incident: Some(happened(question, domain, what, run)),
        noted: Some(Noted { what, run, at: now }),
        restarts: if ran_well || run != kept.run { 0 } else { kept.restarts },
        starting: false,
        ..kept.clone()
    }))
}

pub(super) fn happened(
    question: &Question<'_>,
    domain: &Domain,
    kind: IncidentKind,
    run: Option<RunId>,
) -> Incident {
    Incident { kind, at: question.now.wall, detail: domain.detail.clone(), run }
}

pub(super) fn live_run(domain: &Domain) -> Option<RunId> {
    domain.live.there().and_then(|mark| mark.run)
}

/// How long a VM stays off before it is started again. After a boot of the host it was off for long enough.
#[must_use]
pub fn pause(bounds: &Bounds, what: IncidentKind, restarts: u32) -> Duration {
    match (what, restarts) {
        (IncidentKind::HostWentDown, 0) => Duration::ZERO,
        _ => bounds.backoff_first.saturating_mul(1 << restarts.min(16)).min(bounds.backoff_most),
    }
}

fn not_held(question: &Question<'_>, next: Keep) -> Keep {
    if question.held { wait("an operator to release the host".to_owned()) } else { next }
}

fn wait(why: String) -> Keep {
    Keep::Wait(Wait { why, left: None, asks: false })
}
