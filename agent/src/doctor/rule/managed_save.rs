//! One of our VMs has a saved memory image.

use super::super::world::{Settled, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "managed-save",
    severity: Severity::Note,
    means: "A start by `virsh` would go on from the saved image, with the configuration of then. The agent discards it at its next start.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let saved = world.settled().filter(|vm| vm.details().is_some_and(|details| details.managed_save));
    let finding = |vm: Settled<'_>| {
        Finding::of_vm(&RULE, vm.vm, format!("the VM {} has a managed save", vm.name()))
            .saw(Source::Libvirt, "managed save image there")
            .advise(format!(
                "to go on from it: `virsh start {0}`; to discard it: `dewpoint vm start {0}`, or \
                 `virsh managedsave-remove {0}`",
                vm.vm
            ))
    };
    saved.map(finding).collect()
}
