//! Restart policies: a VM that went off is started again as its policy says, so often and no more, and what is left off is said
//! to be.

use std::collections::{BTreeMap, BTreeSet};

use dewpoint_proto::spec::Restart;

use super::Violation;
use super::runs::{NOT_YET, is_named};
use crate::chaos::history::{Seen, What};
use crate::chaos::plan::{FaultKind, GuestAct, RESTART_LIMIT};
use crate::chaos::world::{FleetEvent, World};

/// A VM that ran for so long ran well, and counts anew: the agent's default.
const STEADY_MS: i64 = 600_000;

/// A run that no event names: the agent began it by the VM's policy.
struct Again<'a> {
    vm: &'a str,
    run: &'a str,
    at_ms: i64,
    /// How many in a row it makes, without a run of an event or a good one between.
    in_a_row: u32,
}

/// How many power-ons were by a policy.
#[must_use]
pub fn restarts(world: &World) -> usize {
    by_policy(world).len()
}

/// How often one was the last that its policy allows: the next crash leaves the VM off.
#[must_use]
pub fn given_up(world: &World) -> usize {
    by_policy(world).iter().filter(|again| again.in_a_row == RESTART_LIMIT).count()
}

fn by_policy(world: &World) -> Vec<Again<'_>> {
    #[derive(Default)]
    struct Row<'a> {
        runs: BTreeSet<&'a str>,
        in_a_row: u32,
        since: i64,
    }
    let mut rows: BTreeMap<&str, Row<'_>> = BTreeMap::new();
    let mut found = Vec::new();
    for line in &world.history {
        let What::Seen { vm, run: Seen { qemu: Some(_), run: Some(run), state, .. } } = &line.what else {
            continue;
        };
        let (vm, run) = (vm.as_str(), run.as_str());
        let row = rows.entry(vm).or_default();
        if state == NOT_YET || !row.runs.insert(run) {
            continue;
        }
        let ran_well = line.at_ms - row.since >= STEADY_MS;
        row.since = line.at_ms;
        if is_named(world, vm, run) {
            row.in_a_row = 0;
            continue;
        }
        row.in_a_row = if ran_well { 1 } else { row.in_a_row + 1 };
        found.push(Again { vm, run, at_ms: line.at_ms, in_a_row: row.in_a_row });
    }
    found
}

/// Promise 8, and the policy's word: `never` is never started again, the others at most so often in a row.
pub(super) fn restarts_are_as_the_policy_says(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("8, its policy", detail);
    let mut found = Vec::new();
    for Again { vm, run, at_ms, in_a_row } in by_policy(world) {
        let policy = world.vm(vm).map(|vm| vm.restart).unwrap_or_default();
        if policy == Restart::Never {
            found.push(wrong(format!(
                "VM {vm} is never to be started again, and was at {at_ms}, as run {run}"
            )));
        }
        if in_a_row > RESTART_LIMIT {
            found.push(wrong(format!(
                "VM {vm} was started again {in_a_row} times in a row, of {RESTART_LIMIT}: run {run} at {at_ms}"
            )));
        }
    }
    found
}

/// A VM that is wanted on and is off was left so by its policy, or was given up; and its host says so.
pub(super) fn what_is_off_is_left_off_by_its_policy(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("8, its policy", detail);
    let mut found = Vec::new();
    for domain in world.host.domains.iter().filter(|domain| domain.persistent && !domain.active) {
        let Some(vm) = world.vm(&domain.vm).filter(|vm| vm.wanted_on) else { continue };
        let given_up = vm.restarts >= RESTART_LIMIT;
        let left = match vm.restart {
            Restart::Never => true,
            Restart::OnCrash => given_up || went_by_itself(world, &vm.id),
            Restart::Always => given_up,
        };
        if !left {
            let text = format!(
                "VM {} is off; its policy is {}, and it was started again {} times ({})",
                vm.id, vm.restart, vm.restarts, domain.why
            );
            found.push(wrong(text));
        }
        if vm.keeping.is_empty() {
            found.push(wrong(format!("VM {} is wanted on and off, and its host does not say why", vm.id)));
        }
    }
    found
}

/// Its guest powered itself off, perhaps late, as an event had asked for; or somebody pulled the plug.
fn went_by_itself(world: &World, vm: &str) -> bool {
    let meant = |kind: &FaultKind| {
        matches!(
            kind,
            FaultKind::DestroyedBehindOurBack { .. } | FaultKind::Guest { does: GuestAct::PowersOff, .. }
        )
    };
    let by_fault = world.history.iter().any(
        |line| matches!(&line.what, What::FaultBegan { kind, vm: Some(of), .. } if of == vm && meant(kind)),
    );
    let asked = |event: &FleetEvent| event.vm == vm && matches!(event.kind.as_str(), "stop" | "reboot");
    by_fault || world.fleet.events.iter().any(asked)
}
