//! A VM of the journal that was taken over without what it is made of.

use super::super::world::{Settled, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "spec-unknown",
    severity: Severity::Warning,
    means: "The VM is known by its mark alone: off, it is left off whatever its restart policy was, and its size, addresses and \
            placement are not known, so that most events of it fail.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let unknown = world.settled().filter(|vm| vm.row.spec.is_none());
    unknown.map(|vm| finding(world, &vm)).collect()
}

fn finding(world: &World, vm: &Settled<'_>) -> Finding {
    let folder = if world.folder(vm.vm).is_some() { "a folder of it is there" } else { "no folder of it" };
    let domain = if vm.ours().is_some() { "a domain with our mark" } else { "no domain with our mark" };
    Finding::of_vm(&RULE, vm.vm, format!("the journal does not know what the VM {} is made of", vm.name()))
        .saw(Source::Journal, "a row without a spec")
        .saw(Source::Disk, folder)
        .saw(Source::Libvirt, domain)
        .advise(format!(
            "`dewpoint-agent orphans adopt {0}` reads it from its folder, seed and domain; or `dewpoint host reconcile HOST`, if \
             the coordinator knows it",
            vm.vm
        ))
}
