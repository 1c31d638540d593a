//! What happened to a VM that no event asked for, and what its host does about it.

use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::IncidentKind;
use dewpoint_proto::wire::event::{Incident, VmState};
use serde::Serialize;

use crate::text::{instant, since};
use crate::view::{CauseView, filled};

/// The same as JSON, among what was observed.
#[derive(Serialize)]
pub(super) struct LifeView {
    incident: Option<IncidentView>,
    keeping: Option<String>,
    restarts: u32,
    restart_at: Option<String>,
    attention: Option<CauseView>,
}

#[derive(Serialize)]
struct IncidentView {
    kind: &'static str,
    at: Option<String>,
    detail: Option<String>,
    run: Option<String>,
}

impl From<&VmState> for LifeView {
    fn from(seen: &VmState) -> Self {
        Self {
            incident: seen.incident.as_ref().map(|incident| IncidentView {
                kind: kind(incident).as_str(),
                at: instant(incident.at_ms),
                detail: filled(&incident.detail),
                run: filled(&incident.run),
            }),
            keeping: filled(&seen.keeping),
            restarts: seen.restarts,
            restart_at: instant(seen.restart_at_ms),
            attention: seen.attention.as_ref().map(CauseView::from),
        }
    }
}

fn kind(incident: &Incident) -> IncidentKind {
    incident.kind().into()
}

/// `the guest powered itself off (shutoff/shutdown) 3m ago`; empty: nothing is known of.
pub(super) fn happened(seen: Option<&VmState>, now: Millis) -> String {
    let Some(incident) = seen.and_then(|seen| seen.incident.as_ref()) else { return String::new() };
    let detail = if incident.detail.is_empty() { String::new() } else { format!(" ({})", incident.detail) };
    format!("{}{detail}, {}", kind(incident).words(), since(incident.at_ms, now))
}

/// What its host does about it; empty: nothing is to be done.
pub(super) fn keeping(seen: Option<&VmState>, now: Millis) -> String {
    let Some(seen) = seen else { return String::new() };
    let due = seen.restart_at_ms.saturating_sub(now.0);
    match seen.keeping.as_str() {
        "" => String::new(),
        keeping if due > 0 => format!("{keeping}, in {} s", due.div_euclid(1000) + 1),
        keeping => keeping.to_owned(),
    }
}

/// What somebody changed behind the agent's back, and what to do.
pub(super) fn attention(seen: Option<&VmState>) -> String {
    let Some(cause) = seen.and_then(|seen| seen.attention.as_ref()) else { return String::new() };
    if cause.advice.is_empty() { cause.text.clone() } else { format!("{}; {}", cause.text, cause.advice) }
}

/// A word for a line that follows a VM: ` (guest-powered-off)`; empty: nothing happened to the run that is on.
pub(crate) fn word(seen: Option<&VmState>) -> String {
    let of_now = |seen: &&VmState| {
        seen.incident.as_ref().is_some_and(|last| seen.run.is_empty() || last.run == seen.run)
    };
    let incident = seen.filter(of_now).and_then(|seen| seen.incident.as_ref());
    incident.map_or_else(String::new, |incident| format!(" ({})", kind(incident)))
}
