//! Events: none is lost, none ends twice or differently on the two sides, and what they claim adds up.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::chaos::history::{Answer, What};
use crate::chaos::world::World;

/// Promise 1: what a caller was told exists, exists, and has ended by now. So has everything else.
pub(super) fn acknowledged_events_have_ended(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("1, acknowledged is kept", detail);
    let taken = world.history.iter().filter_map(|line| match &line.what {
        What::Answered { event, answer: Answer::Taken { .. } } => Some(event.as_str()),
        _ => None,
    });
    let taken: BTreeSet<_> = taken.collect();
    let lost = taken.into_iter().filter(|id| world.event(id).is_none());
    let mut found: Vec<_> =
        lost.map(|id| wrong(format!("event {id} was acknowledged and is not there"))).collect();
    let open = world.fleet.events.iter().filter(|event| !event.ended);
    found.extend(
        open.map(|event| wrong(format!("event {} ({}) is still {}", event.id, event.kind, event.stage))),
    );
    found
}

/// Promise 2: one end each, and the same one.
pub(super) fn both_sides_agree(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("2, one end", detail);
    let theirs: BTreeMap<_, _> =
        world.journal.events.iter().map(|event| (event.id.as_str(), event)).collect();
    let mut found = Vec::new();
    for event in &world.fleet.events {
        if event.contradicted {
            found.push(wrong(format!("event {} has a report that says otherwise", event.id)));
        }
        // Without a seq it never went to the host.
        let Some(at_host) = theirs.get(event.id.as_str()) else {
            if event.seq > 0 {
                found.push(wrong(format!(
                    "event {} has seq {} and is not in the journal",
                    event.id, event.seq
                )));
            }
            continue;
        };
        let (ours, journal) = ((&event.stage, &event.reason), (&at_host.outcome, &at_host.reason));
        if ours != journal {
            found.push(wrong(format!(
                "event {} ({}) ended {ours:?} here and {journal:?} there",
                event.id, event.kind
            )));
        }
        if (event.seq, event.generation, &event.kind) != (at_host.seq, at_host.generation, &at_host.kind) {
            found.push(wrong(format!("event {} differs: {event:?}, {at_host:?}", event.id)));
        }
    }
    let unknown =
        world.journal.events.iter().filter(|event| event.delivered && world.event(&event.id).is_none());
    found.extend(unknown.map(|event| wrong(format!("event {} is in the journal alone", event.id))));
    found
}

/// Promise 2: one report of each event, which says how it ended, and is acknowledged by now.
pub(super) fn one_report_each(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("2, one report", detail);
    let mut reports: BTreeMap<&str, Vec<(&str, bool)>> = BTreeMap::new();
    for (event, outcome, acked) in &world.journal.reports {
        reports.entry(event).or_default().push((outcome, *acked));
    }
    let events = world.journal.events.iter();
    events
        .filter_map(|event| {
            let of = reports.get(event.id.as_str()).cloned().unwrap_or_default();
            (of != [(event.outcome.as_str(), true)]).then(|| {
                wrong(format!("event {} ended `{}`, its reports are {of:?}", event.id, event.outcome))
            })
        })
        .collect()
}

/// Promise 1: positions are given once, without gaps, and both sides have the same event at each.
pub(super) fn the_queue_has_no_gaps(world: &World) -> Vec<Violation> {
    let mut ours: Vec<_> =
        world.fleet.events.iter().filter(|e| e.seq > 0).map(|e| (e.seq, e.id.clone())).collect();
    ours.sort();
    let mut found = Vec::new();
    let expected = (1..).take(ours.len());
    if !ours.iter().map(|(seq, _)| *seq).eq(expected) {
        let seqs: Vec<_> = ours.iter().map(|(seq, _)| seq).collect();
        found.push(Violation::new("1, the queue", format!("the coordinator's positions are {seqs:?}")));
    }
    if ours != world.journal.queue {
        let theirs: BTreeSet<_> = world.journal.queue.iter().collect();
        let differ: Vec<_> = ours.iter().filter(|at| !theirs.contains(at)).collect();
        let text = format!("{} here, {} there; only here: {differ:?}", ours.len(), theirs.len());
        found.push(Violation::new("1, the queue", text));
    }
    found
}

/// Promise 6: of the events that a VM's host took, each has a generation above those before it; nothing has one above.
pub(super) fn generations_rise(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("6, newer wins", detail);
    let mut found = Vec::new();
    // In the order in which they were journaled: those that were submitted on the host have no seq.
    let events = world.journal.events.iter().filter(|e| e.kind != "cancel" && e.outcome != "refused");
    let mut last: BTreeMap<&str, u64> = BTreeMap::new();
    for event in events {
        let before = last.insert(&event.vm, event.generation);
        if before.is_some_and(|before| before >= event.generation) {
            found.push(wrong(format!(
                "event {} has generation {} after {before:?}",
                event.id, event.generation
            )));
        }
    }
    for vm in &world.fleet.vms {
        let Some(journal) = world.journal.vms.iter().find(|row| row.id == vm.id) else { continue };
        if journal.generation > vm.generation {
            let text =
                format!("VM {}: generation {} there, {} here", vm.id, journal.generation, vm.generation);
            found.push(wrong(text));
        }
    }
    for domain in &world.host.domains {
        let journal = world.journal.vms.iter().find(|row| row.id == domain.vm);
        if let Some(journal) = journal.filter(|row| row.generation < domain.generation) {
            let text = format!(
                "domain {}: marked {}, the journal {}",
                domain.vm, domain.generation, journal.generation
            );
            found.push(wrong(text));
        }
    }
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for line in &world.history {
        let What::Seen { vm, run } = &line.what else { continue };
        let Some(generation) = run.generation else { continue };
        let before = seen.insert(vm, generation).unwrap_or(0);
        if before > generation {
            found.push(wrong(format!("VM {vm} ran with generation {generation} after {before}")));
        }
    }
    found
}

/// Promise 10: what was turned away, and never taken, is not there. (Whoever had no answer may find it either way.)
pub(super) fn refused_means_refused(world: &World) -> Vec<Violation> {
    let mut answers: BTreeMap<&str, Vec<&Answer>> = BTreeMap::new();
    for line in &world.history {
        if let What::Answered { event, answer } = &line.what {
            answers.entry(event).or_default().push(answer);
        }
    }
    let refused =
        answers.iter().filter(|(_, of)| of.iter().all(|answer| matches!(answer, Answer::Refused { .. })));
    // An agent's refusal is an event that ended `refused`; one of the coordinator's leaves nothing.
    let there =
        refused.filter_map(|(id, _)| world.event(id)).filter(|e| (e.seq, e.stage.as_str()) != (0, "refused"));
    there
        .map(|event| {
            Violation::new("10, refused", format!("event {} was refused and is there: {event:?}", event.id))
        })
        .collect()
}

/// The sums are those of the VMs that are on the host.
pub(super) fn the_accounting_is_right(world: &World) -> Vec<Violation> {
    let on_host = world.fleet.vms.iter().filter(|vm| vm.on_host);
    let sums =
        on_host.fold([0; 4], |sum, vm| [sum[0] + vm.vcpus, sum[1] + vm.memory, sum[2] + vm.disk, sum[3] + 1]);
    if sums == world.fleet.claimed {
        return Vec::new();
    }
    vec![Violation::new(
        "accounting",
        format!("claimed {:?}, the VMs sum up to {sums:?}", world.fleet.claimed),
    )]
}
