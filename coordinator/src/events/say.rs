//! What is logged of an event's life here: one line for each thing that happened, with the same fields as on its host.
//!
//! Lines that a session leads to have the host from the session's span.

use dewpoint_common::message;
use dewpoint_proto::ids::EventId;
use dewpoint_proto::outcome::Outcome;

use crate::store::{Changed, EventRecord, HoldScope, Switch, Word};

/// It has a host, and its place in that host's queue.
pub(super) fn assigned(record: &EventRecord) {
    let (event_id, vm_id, kind) = (record.id, record.vm, record.kind);
    let (host_id, seq) = (record.host.map(|host| host.to_string()), record.seq.map(|seq| seq.0));
    tracing::info!(message_id = message::EVENT_ACCEPTED, %event_id, %vm_id, host_id, %kind, seq,
        generation = record.generation.0, "accepted, and assigned to {}", record.hostname.as_deref().unwrap_or("a host"));
}

/// It was taken and has no host yet, or never had one.
pub(super) fn without_host(record: &EventRecord) {
    let (event_id, vm_id, kind) = (record.id, record.vm, record.kind);
    match (&record.outcome, &record.pending) {
        (Some(outcome), _) => {
            let (outcome, reason) = (outcome.name(), outcome.cause().map(|cause| cause.reason.to_string()));
            tracing::info!(message_id = message::EVENT_ENDED, %event_id, %vm_id, %kind, outcome, reason, "{outcome}");
        }
        (None, pending) => {
            let reason = pending.as_ref().map(|cause| cause.reason.to_string());
            tracing::info!(message_id = message::EVENT_ACCEPTED, %event_id, %vm_id, %kind, reason,
                "accepted, and pending: no host has room");
        }
    }
}

/// Their host has begun these.
pub(super) fn begun(changed: &[Changed]) {
    for Changed { event, vm, kind, .. } in changed {
        let kind = kind.map(tracing::field::display);
        tracing::info!(message_id = message::EVENT_BEGUN, event_id = %event, vm_id = %vm, kind, "begun");
    }
}

/// An event ended, if this is news.
pub(super) fn ended(event: EventId, outcome: &Outcome, changed: &[Changed]) {
    let Some(news) = changed.iter().find(|changed| changed.event == event) else { return };
    let (name, vm_id, kind) = (outcome.name(), news.vm, news.kind.map(tracing::field::display));
    match outcome.cause() {
        None => {
            tracing::info!(message_id = message::EVENT_ENDED, event_id = %event, %vm_id, kind, outcome = name, "{name}")
        }
        Some(cause) => {
            let (reason, advice) = (&cause.reason, &cause.advice);
            tracing::info!(message_id = message::EVENT_ENDED, event_id = %event, %vm_id, kind, outcome = name, %reason,
                advice, "{name}: {}", cause.text);
        }
    }
}

/// A person holds a host or the fleet, or no longer does.
pub(super) fn held(scope: HoldScope, hold: Switch, word: &Word) {
    let (host_id, whom) = match scope {
        HoldScope::Fleet => (None, "the fleet"),
        HoldScope::Host(host) => (Some(host.to_string()), "the host"),
    };
    let (who, why) = (&word.who, &word.reason);
    match hold {
        Switch::On => tracing::warn!(
            message_id = message::HELD,
            host_id,
            who,
            why,
            "{whom} is held: nothing is delivered"
        ),
        Switch::Off => {
            tracing::warn!(message_id = message::RELEASED, host_id, who, why, "{whom} is no longer held")
        }
    }
}

/// These were not begun by their deadline, and never had a host.
pub(super) fn expired(changed: &[Changed]) {
    for Changed { event, vm, kind, .. } in changed {
        let kind = kind.map(tracing::field::display);
        tracing::info!(message_id = message::EVENT_ENDED, event_id = %event, vm_id = %vm, kind, outcome = "expired",
            "expired: no host had room by its deadline");
    }
}
