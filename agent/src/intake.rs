//! Whether a delivered event is accepted, refused, or there already: pure, called inside the journal's transaction.
//!
//! The rules, in this order:
//!
//! 1. An id that is known with the same bytes is there already; with other bytes it is refused.
//! 2. A delivered generation is above the highest ever accepted for the VM, tombstones included. A cancel has a
//!    generation of its own. An event submitted here takes the next one.
//! 3. A cancel names an unfinished event of the same VM.
//! 4. A create needs that the VM is not there; everything else that it is.
//! 5. A VM has one unfinished event. A cancel or a destroy may come on top of it and ends it; nothing comes on top of
//!    those two, so there are never more than two.
//! 6. Only events submitted here may name an image by a path of this host.
//!
//! A host that only observes refuses all that these rules would accept.
//!
//! Deadlines are not judged here: an event that comes too late is accepted, and expires.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Body, Cancel, Event, Kind, KindName};
use dewpoint_proto::ids::{EventId, Generation};

use crate::journal::admission::{Known, KnownEvent, Offer, Origin, Presence, Target, Verdict};

/// The highest generation that a journal can hold.
const HIGHEST: Generation = Generation(i64::MAX as u64 - 1);

/// Judges one delivery.
#[must_use]
pub fn judge(known: &Known, offer: &Offer<'_>) -> Verdict {
    if let Some(digest) = known.same_id {
        return if digest == offer.body.digest() {
            Verdict::Seen
        } else {
            Verdict::Refuse(reused(offer.body))
        };
    }
    match admit(known, offer) {
        Ok(supersedes) => Verdict::Accept { supersedes },
        Err(cause) => {
            let event = offer.body.event();
            Verdict::Refuse(cause.with("vm_id", event.vm))
        }
    }
}

/// Judges one delivery on a host that only observes: what is known is known, and nothing new is accepted.
#[must_use]
pub fn judge_observing(known: &Known, offer: &Offer<'_>) -> Verdict {
    match judge(known, offer) {
        Verdict::Accept { .. } => Verdict::Refuse(observing(offer.body.event())),
        other => other,
    }
}

fn observing(event: &Event) -> Cause {
    Cause::new(Reason::ObserveOnly, "this host only observes: its agent takes no events")
        .advise(
            "set observe_only = false in the host's agent.toml and restart its agent, or use another host",
        )
        .with("vm_id", event.vm)
}

fn admit(known: &Known, offer: &Offer<'_>) -> Result<Option<EventId>, Cause> {
    let event = offer.body.event();
    check_generation(known, offer.origin)?;
    if let Kind::Cancel(cancel) = &event.kind {
        check_target(known.target, *cancel)?;
    }
    check_presence(known, &event.kind)?;
    let supersedes = check_busy(&known.unfinished, event)?;
    check_local_path(offer)?;
    Ok(supersedes)
}

fn check_generation(known: &Known, origin: &Origin) -> Result<(), Cause> {
    let highest = known.vm.map_or(Generation(0), |vm| vm.generation);
    let offered = match origin {
        Origin::Delivered { generation, .. } => *generation,
        Origin::Local => highest.next(),
    };
    if offered > HIGHEST {
        return Err(Cause::new(Reason::Invalid, format!("generation {offered} is beyond all bounds"))
            .advise("check the coordinator's database")
            .with("generation", offered));
    }
    if offered > highest {
        return Ok(());
    }
    Err(Cause::new(
        Reason::StaleGeneration,
        format!("the event has generation {offered}, and {highest} was accepted already"),
    )
    .advise("look at the VM's newer events, then send a new one")
    .with("generation", offered)
    .with("highest", highest))
}

fn check_target(target: Target, cancel: Cancel) -> Result<(), Cause> {
    let id = cancel.target;
    match target {
        Target::Unfinished => Ok(()),
        Target::Finished => Err(Cause::new(Reason::TooLate, format!("the event {id} has ended already"))
            .advise("nothing is left to cancel; see how it ended")
            .with("target_event_id", id)),
        Target::Missing => {
            Err(Cause::new(Reason::EventNotFound, format!("this host has no event {id} of the VM"))
                .advise("check the event's id and its VM")
                .with("target_event_id", id))
        }
    }
}

fn check_presence(known: &Known, kind: &Kind) -> Result<(), Cause> {
    let there = known.vm.is_some_and(|vm| vm.presence != Presence::Gone);
    // While it is being built, the unfinished create is the better answer.
    let building =
        known.vm.is_some_and(|vm| vm.presence == Presence::Building) && !known.unfinished.is_empty();
    match kind.name() {
        KindName::Create if there && !building => {
            Err(Cause::new(Reason::VmExists, "the VM exists on this host already")
                .advise("restore it for a new disk, or destroy it first"))
        }
        KindName::Create => Ok(()),
        _ if there => Ok(()),
        _ => Err(Cause::new(Reason::VmNotFound, "this host has no such VM")
            .advise("check the VM's id and its host")),
    }
}

/// The event that this one ends, if it may come on top of one.
fn check_busy(unfinished: &[KnownEvent], event: &Event) -> Result<Option<EventId>, Cause> {
    let busy = |by: &KnownEvent| {
        let kind = by.kind.map_or("unknown", KindName::as_str);
        Cause::new(Reason::VmBusy, format!("the VM has an unfinished {kind} event, {}", by.id))
            .advise("wait for it, cancel it, or destroy the VM")
            .with("event_id", by.id)
            .with("kind", kind)
    };
    match (unfinished, &event.kind) {
        ([], _) => Ok(None),
        ([only], Kind::Cancel(cancel)) if only.id == cancel.target && can_be_cancelled(only) => {
            Ok(Some(only.id))
        }
        ([only], Kind::Destroy(_)) if can_be_cancelled(only) && only.kind != Some(KindName::Destroy) => {
            Ok(Some(only.id))
        }
        ([.., newest], _) => Err(busy(newest)),
    }
}

/// A parked event of an unknown kind cannot be ended by anyone here.
fn can_be_cancelled(event: &KnownEvent) -> bool {
    event.kind.is_some_and(|kind| kind != KindName::Cancel)
}

fn check_local_path(offer: &Offer<'_>) -> Result<(), Cause> {
    let image = match &offer.body.event().kind {
        Kind::Create(create) => &create.source,
        Kind::Restore(restore) => &restore.source,
        Kind::Start
        | Kind::Stop(_)
        | Kind::Reboot(_)
        | Kind::Snapshot(_)
        | Kind::Destroy(_)
        | Kind::Cancel(_) => return Ok(()),
    };
    if image.local_path.is_none() || *offer.origin == Origin::Local {
        return Ok(());
    }
    Err(Cause::new(Reason::Invalid, "a delivered event names an image by a path of this host")
        .advise("add the image to the catalogue, or submit the event on the host itself")
        .with("field", "source.local_path"))
}

fn reused(body: &Body) -> Cause {
    let id = body.event().id;
    Cause::new(Reason::EventIdReused, format!("the event id {id} was used before, for another request"))
        .advise("send the event under a fresh id")
        .with("event_id", id)
}

#[cfg(test)]
mod tests;
