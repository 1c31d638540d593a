//! A VM of this host that the coordinator does not count to it.

use super::super::world::{Coordinator, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "coordinator-lacks",
    severity: Severity::Warning,
    means: "The VM takes room that the scheduler believes free, and callers cannot reach it.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let (Coordinator::Seen(told), Ok(journal)) = (&world.coordinator, &world.journal) else {
        return Vec::new();
    };
    // What has not been reported yet, the coordinator cannot know.
    let unreported = journal.tail.last_report > journal.tail.acknowledged;
    if unreported {
        return Vec::new();
    }
    let unknown = journal.vms.iter().filter(|(vm, _)| !told.vms.contains_key(vm) && !world.is_busy(**vm));
    let finding = |(vm, row): (&_, &crate::journal::VmRow)| {
        Finding::of_vm(&RULE, *vm, "the coordinator does not have this VM on this host")
            .saw(Source::Journal, format!("there, generation {}", row.generation))
            .saw(Source::Coordinator, "not on this host")
            .advise(format!(
                "see `dewpoint vm show {vm}` for where it believes it; a VM must not run on two hosts: decide which \
                 one is right, and destroy the other with `dewpoint-agent submit` on its host"
            ))
    };
    unknown.map(finding).collect()
}
