//! Disks and power: what the last event asked for, and what guests wrote is still there, on that disk and on those made
//! from its snapshots.

use std::collections::BTreeSet;

use super::Violation;
use crate::chaos::callers::user_data;
use crate::chaos::history::What;
use crate::chaos::plan::{FaultKind, GuestAct};
use crate::chaos::world::{FleetEvent, World};
use sha2::{Digest, Sha256};

/// Promise 2: a VM's disk is that of the last create or restore that succeeded, before and after the next start.
pub(super) fn the_disk_is_the_last_one_asked_for(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("2, the right disk", detail);
    let mut found = Vec::new();
    for domain in &world.host.domains {
        let Some(last) = world.succeeded(&domain.vm).filter(|event| makes_disk(event)).last() else {
            continue;
        };
        if domain.persistent && domain.disk != last.id {
            found.push(wrong(format!("VM {} has disk {}, not {}", domain.vm, domain.disk, last.id)));
        }
        if domain.active && domain.live_disk != last.id {
            found.push(wrong(format!(
                "VM {} runs from disk {}, not {}",
                domain.vm, domain.live_disk, last.id
            )));
        }
    }
    found
}

/// A VM is on when the last event that says so left it on, unless something that was done to it since turned it off.
pub(super) fn power_is_as_wanted(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("3, as wanted", detail);
    let mut found = Vec::new();
    for (vm, row) in world.there() {
        // Of a domain that somebody undefined there is nothing to start or to mark.
        let mut defined = world.host.domains.iter().filter(|domain| domain.persistent);
        let Some(domain) = defined.find(|domain| domain.vm == vm) else { continue };
        let Some((on, since)) = wanted(world, vm) else { continue };
        let word = if on { "on" } else { "off" };
        let fleet_on = world.fleet.vms.iter().any(|fleet| fleet.id == vm && fleet.wanted_on);
        if (row.wanted.as_str(), domain.wanted.as_str(), fleet_on) != (word, word, on) {
            let text = format!(
                "VM {vm} is wanted {word}; the journal says {}, its mark {}, the coordinator on: {fleet_on}",
                row.wanted, domain.wanted
            );
            found.push(wrong(text));
        }
        if !on && domain.active {
            found.push(wrong(format!("VM {vm} is wanted off and runs")));
        }
        if on && !domain.active && !may_be_off(world, vm, since) {
            found.push(wrong(format!(
                "VM {vm} is wanted on and off ({}), for no reason since {since}",
                domain.why
            )));
        }
        if domain.paused {
            found.push(wrong(format!("VM {vm} is paused after all was let go")));
        }
    }
    found
}

/// What the last event that succeeded left wanted, and when it was accepted.
fn wanted(world: &World, vm: &str) -> Option<(bool, i64)> {
    let said = world.succeeded(vm).filter_map(|event| match event.kind.as_str() {
        "create" => Some((!event.left_off, event.accepted_ms)),
        "start" | "reboot" => Some((true, event.accepted_ms)),
        "stop" => Some((false, event.accepted_ms)),
        _ => None,
    });
    said.last()
}

/// Something turned it off since: a fault; or its guest, which an event that gave up had asked to.
fn may_be_off(world: &World, vm: &str, since: i64) -> bool {
    let by_fault = world.history.iter().any(|line| match &line.what {
        What::FaultBegan { kind, vm: Some(of), .. } if of == vm && line.at_ms >= since => matches!(
            kind,
            FaultKind::QemuIsKilled { .. }
                | FaultKind::DestroyedBehindOurBack { .. }
                | FaultKind::Guest { does: GuestAct::PowersOff | GuestAct::Panics, .. }
        ),
        _ => false,
    });
    let asked = |event: &FleetEvent| {
        event.vm == vm && event.accepted_ms >= since && matches!(event.kind.as_str(), "stop" | "reboot")
    };
    by_fault || world.fleet.events.iter().any(asked)
}

/// Promise 2: each guest that is on answers, is who its VM is, has its VM's seed, and finds on its disk what was written last.
pub(super) fn guests_have_what_they_wrote(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("2, what was written", detail);
    let mut found = Vec::new();
    for (vm, answered) in &world.host.guests {
        let guest = match answered {
            Ok(guest) => guest,
            Err(why) => {
                found.push(wrong(format!("the guest of VM {vm} does not answer: {why}")));
                continue;
            }
        };
        let seed = hex::encode(Sha256::digest(user_data(vm)));
        if (&guest.instance_id, &guest.user_data_sha256) != (vm, &seed) {
            found.push(wrong(format!("the guest of VM {vm} has another's seed: {guest:?}")));
        }
        let Some(disk) = world.succeeded(vm).filter(|event| makes_disk(event)).last() else { continue };
        let may_be = written(world, disk, i64::MAX, made_with(world, disk, 0));
        if !may_be.contains(&guest.marker) {
            let text =
                format!("VM {vm}, disk {}: its marker is {:?}, not one of {may_be:?}", disk.id, guest.marker);
            found.push(wrong(text));
        }
    }
    found
}

fn makes_disk(event: &FleetEvent) -> bool {
    matches!(event.kind.as_str(), "create" | "restore")
}

/// Markers that a disk may have; none: it was never written.
type Markers = BTreeSet<Option<String>>;

/// How deep a disk may come from snapshots of disks from snapshots.
const DEPTH: u32 = 64;

/// What may be the marker of a disk at a time: the last write that was confirmed, any that may have come after; or, while
/// none was confirmed, what it was made with.
fn written(world: &World, disk: &FleetEvent, until: i64, made_with: Markers) -> Markers {
    let mut may_be = made_with;
    for line in &world.history {
        let What::Marked { vm, marker, from_ms, confirmed } = &line.what else { continue };
        if vm != &disk.vm || *from_ms > until || !may_be_on(world, disk, *from_ms, line.at_ms) {
            continue;
        }
        // It was there in time, and on this disk for sure: whatever was there before it is gone.
        if *confirmed && line.at_ms <= until && is_on(world, disk, *from_ms, line.at_ms) {
            may_be.clear();
        }
        may_be.insert(Some(marker.clone()));
    }
    may_be
}

/// The marker that a disk begins with.
fn made_with(world: &World, disk: &FleetEvent, depth: u32) -> Markers {
    let made_it = world.fleet.events.iter().find(|event| !event.made.is_empty() && event.made == disk.image);
    let Some(snapshot) = made_it.filter(|_| depth < DEPTH) else { return BTreeSet::from([None]) };
    let before = world.succeeded(&snapshot.vm).filter(|event| makes_disk(event));
    let Some(source) = before.filter(|event| event.generation < snapshot.generation).last() else {
        return BTreeSet::from([None]);
    };
    // The copy is of some instant while the snapshot was at work.
    let first = made_with(world, source, depth + 1);
    let mut may_be = written(world, source, snapshot.accepted_ms, first.clone());
    may_be.extend(written(world, source, snapshot.finished_ms, first));
    for line in &world.history {
        if let What::Marked { vm, marker, from_ms, .. } = &line.what
            && vm == &snapshot.vm
            && *from_ms <= snapshot.finished_ms
            && line.at_ms >= snapshot.accepted_ms
        {
            may_be.insert(Some(marker.clone()));
        }
    }
    may_be
}

/// The disk was the one in use at some instant between these.
fn may_be_on(world: &World, disk: &FleetEvent, from: i64, until: i64) -> bool {
    let next = restores_after(world, disk)
        .filter(|event| event.stage == "succeeded")
        .min_by_key(|event| event.generation);
    disk.accepted_ms <= until && next.is_none_or(|next| from <= next.finished_ms)
}

/// It was in use at every instant between these: no restore, not even one that was undone, was at work.
fn is_on(world: &World, disk: &FleetEvent, from: i64, until: i64) -> bool {
    let at_work = |event: &FleetEvent| event.accepted_ms <= until && from <= event.finished_ms;
    disk.finished_ms <= from && !restores_after(world, disk).any(at_work)
}

fn restores_after<'a>(world: &'a World, disk: &'a FleetEvent) -> impl Iterator<Item = &'a FleetEvent> {
    let later = world.fleet.events.iter().filter(|event| event.vm == disk.vm && event.kind == "restore");
    later.filter(|event| event.generation > disk.generation)
}
