//! The coordinator counts a VM to this host that is not here.

use super::super::world::{Coordinator, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "coordinator-has-more",
    severity: Severity::Warning,
    means: "The coordinator holds capacity and addresses for a VM that this host does not have.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let (Coordinator::Seen(told), Ok(journal)) = (&world.coordinator, &world.journal) else {
        return Vec::new();
    };
    // One on its way here is no disagreement.
    let on_its_way = |vm: &super::super::world::VmTold| vm.unfinished.is_some();
    let missing = told.vms.iter().filter(|(vm, said)| !journal.vms.contains_key(vm) && !on_its_way(said));
    let finding = |(vm, said): (&_, &super::super::world::VmTold)| {
        let here = if journal.gone.contains(vm) { "it was here, and is gone" } else { "never heard of" };
        Finding::of_vm(&RULE, *vm, format!("the coordinator has the VM {} on this host", said.name))
            .saw(Source::Coordinator, format!("here, generation {}", said.generation))
            .saw(Source::Journal, here)
            .advise(format!(
                "if reports wait, the coordinator learns it from them; else `dewpoint vm destroy {vm}` frees what is \
                 held, and finds nothing to remove here"
            ))
    };
    missing.map(finding).collect()
}
