//! A configuration that somebody wrote anew while nobody listened: the agent or libvirt was away, or the VM is off. Pure.
//!
//! The journal keeps the digest of what was last seen, with the VM's generation. Another digest of the same generation, by the
//! same libvirt, is an edit; any other difference is an event's or libvirt's own, and is taken as it is.

use dewpoint_proto::vm_state::IncidentKind;

use super::decide::{Keep, Question, happened, is_ours, live_run};
use crate::journal::admission::Presence;
use crate::journal::kept::{ConfigSeen, Kept};

/// What is to be noted of the configuration that was looked at; none: nothing is new.
pub(super) fn note(question: &Question<'_>) -> Option<Keep> {
    let (row, seen) = (question.row, question.config?);
    let domain = question.domain.there().filter(|domain| is_ours(row, domain))?;
    let settled = row.presence == Presence::There && !row.unfinished;
    let known = row.kept.config.as_ref();
    if !settled || seen.generation != row.generation || known == Some(seen) {
        return None;
    }
    let incident = if known.is_some_and(|known| is_edit(known, seen)) {
        Some(happened(question, domain, IncidentKind::EditedByHand, live_run(domain)))
    } else {
        row.kept.incident.clone()
    };
    Some(Keep::Note(Box::new(Kept { incident, config: Some(seen.clone()), ..row.kept.clone() })))
}

fn is_edit(known: &ConfigSeen, seen: &ConfigSeen) -> bool {
    known.generation == seen.generation && known.digest.written_by == seen.digest.written_by
}
