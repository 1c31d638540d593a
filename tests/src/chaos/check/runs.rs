//! Processes and runs: a VM has one process, a run is one power-on, and neither begins or ends without a reason.

use std::collections::BTreeMap;

use dewpoint_agent::execute::plan::mark::run_after_undo;

use super::Violation;
use crate::chaos::history::{Line, Seen, What};
use crate::chaos::plan::{FaultKind, GuestAct};
use crate::chaos::world::{FleetEvent, World};

/// The clocks are one machine's, but who looks may be late on a busy one.
const SLACK_MS: i64 = 6000;

/// Promise 2: never two processes of one VM.
pub(super) fn no_vm_twice(world: &World) -> Vec<Violation> {
    let twice = world.history.iter().filter_map(|line| match &line.what {
        What::Twice { vm, pids } => {
            Some(Violation::new("2, no VM twice", format!("VM {vm} ran as {pids:?} at once")))
        }
        _ => None,
    });
    twice.collect()
}

/// A process, and when it was seen first.
type Since<'a> = (i64, &'a (u32, String));

/// libvirt's word for a QEMU that has not been let go yet.
pub(super) const NOT_YET: &str = "paused/starting up";

/// Promise 2: a run is one process. One that libvirt gave up before its first instruction, for it died in the middle of the start,
/// was no power-on: the start is tried again, under the same run. Nor can anybody know of one that was ended by hand while its
/// agent or its libvirt was away.
pub(super) fn a_run_is_one_power_on(world: &World) -> Vec<Violation> {
    let mut processes: BTreeMap<(&str, &str), Since<'_>> = BTreeMap::new();
    let mut found = Vec::new();
    for line in &world.history {
        let What::Seen { vm, run: Seen { qemu: Some(qemu), run: Some(run), state, .. } } = &line.what else {
            continue;
        };
        if state == NOT_YET {
            continue;
        }
        let key = (vm.as_str(), run.as_str());
        let (since, first) = *processes.entry(key).or_insert((line.at_ms, qemu));
        if first == qemu {
            continue;
        }
        if !world.history.iter().any(|done| ends_it(done, vm, since, line.at_ms)) {
            let text = format!("run {run} of VM {vm} was process {first:?} and then {qemu:?}");
            found.push(Violation::new("2, one power-on", text));
        }
        processes.insert(key, (line.at_ms, qemu));
    }
    found
}

/// Promise 4: a process ends because an event, or something that was done to it, ended it. Restarts of daemons, cut wires and
/// full disks are no reasons.
pub(super) fn processes_end_for_a_reason(world: &World) -> Vec<Violation> {
    let mut before: BTreeMap<&str, Since<'_>> = BTreeMap::new();
    let mut found = Vec::new();
    for line in &world.history {
        let What::Seen { vm, run } = &line.what else { continue };
        let was = before.get(vm.as_str()).copied();
        if was.is_some_and(|(_, was)| run.qemu.as_ref() == Some(was)) {
            continue;
        }
        match &run.qemu {
            Some(qemu) => before.insert(vm, (line.at_ms, qemu)),
            None => before.remove(vm.as_str()),
        };
        let Some((since, was)) = was else { continue };
        if !has_reason(world, vm, since, line.at_ms) {
            let text = format!(
                "process {was:?} of VM {vm}, seen at {since}, was gone at {} for no reason",
                line.at_ms
            );
            found.push(Violation::new("4, untouched", text));
        }
    }
    found
}

/// Promise 2: a run is named by an event of its VM, or by the undoing of one; or it is a restart by policy, which only something that ended the run
/// before explains.
pub(super) fn runs_begin_for_a_reason(world: &World) -> Vec<Violation> {
    let mut seen: BTreeMap<(&str, &str), i64> = BTreeMap::new();
    for line in &world.history {
        if let What::Seen { vm, run: Seen { run: Some(run), .. } } = &line.what {
            seen.entry((vm.as_str(), run.as_str())).or_insert(line.at_ms);
        }
    }
    let unnamed = seen.iter().filter(|((vm, run), _)| !is_named(world, vm, run));
    let unexplained = unnamed.filter(|((vm, _), at)| {
        !world.history.iter().any(|line| ends_it(line, vm, 0, **at)) && !was_asked_to_go(world, vm, **at)
    });
    unexplained
        .map(|((vm, run), at)| {
            Violation::new("2, runs have names", format!("run {run} of VM {vm}, seen at {at}, is no event's"))
        })
        .collect()
}

/// A guest that an event asked to go down, and then let be, may go down late: by itself, as far as anybody can tell.
fn was_asked_to_go(world: &World, vm: &str, until: i64) -> bool {
    let asked =
        |event: &FleetEvent| matches!(event.kind.as_str(), "stop" | "reboot") && event.stage != "succeeded";
    world
        .fleet
        .events
        .iter()
        .any(|event| event.vm == vm && asked(event) && event.accepted_ms <= until + SLACK_MS)
}

pub(super) fn is_named(world: &World, vm: &str, run: &str) -> bool {
    let after_undo = |event: &FleetEvent| event.id.parse().map(|id| run_after_undo(id).to_string());
    let mut events = world.fleet.events.iter().filter(|event| event.vm == vm);
    events.any(|event| {
        event.id == run || (event.stage != "succeeded" && after_undo(event).is_ok_and(|of| of == run))
    })
}

/// Whether the end of a process, which was first seen at `since` and gone at `until`, is explained.
fn has_reason(world: &World, vm: &str, since: i64, until: i64) -> bool {
    let events = world.fleet.events.iter().filter(|event| event.vm == vm);
    let by_event = |event: &FleetEvent| {
        let ended = if event.finished_ms > 0 { event.finished_ms } else { i64::MAX };
        // A guest that was asked to go down may do so after the event gave it up.
        let lasting = matches!(event.kind.as_str(), "stop" | "reboot");
        let from = if lasting { since } else { until };
        event.kind != "snapshot" && event.accepted_ms <= until + SLACK_MS && ended >= from - SLACK_MS
    };
    events.into_iter().any(by_event) || world.history.iter().any(|line| ends_it(line, vm, since, until))
}

/// Whether this was done to a VM's process between those times, and may end it.
fn ends_it(line: &Line, vm: &str, since: i64, until: i64) -> bool {
    let What::FaultBegan { kind, vm: Some(of), .. } = &line.what else { return false };
    let ends = match kind {
        FaultKind::QemuIsKilled { .. } | FaultKind::DestroyedBehindOurBack { .. } => true,
        FaultKind::Guest { does, .. } => matches!(does, GuestAct::PowersOff | GuestAct::Panics),
        _ => false,
    };
    ends && of == vm && (since - SLACK_MS..=until + SLACK_MS).contains(&line.at_ms)
}
