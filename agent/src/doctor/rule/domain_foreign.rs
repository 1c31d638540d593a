//! A domain with a VM's UUID that bears no mark of ours.

use super::super::world::{Settled, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "domain-foreign",
    severity: Severity::Severe,
    means: "Somebody defined another domain under the VM's UUID, or over it without its metadata. Dewpoint does not touch it.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let foreign = |vm: &Settled<'_>| {
        vm.inspected.is_some_and(|seen| {
            [&seen.domain.mark, &seen.domain.live]
                .into_iter()
                .all(|mark| *mark == crate::hypervisor::Seen::Absent)
        })
    };
    let finding = |vm: Settled<'_>| {
        let name = vm.inspected.map(|seen| seen.domain.name.as_str()).unwrap_or_default();
        Finding::of_vm(&RULE, vm.vm, format!("the domain of the VM {} bears no mark of Dewpoint", vm.name()))
            .saw(Source::Journal, "there")
            .saw(Source::Libvirt, format!("the domain `{name}` has its UUID and no mark"))
            .advise(format!(
                "look at it with `virsh dumpxml {}`; if it is the VM's own, defined anew by hand, undefine it and send \
                 the VM's event again; if it is somebody's, move it away",
                vm.vm
            ))
    };
    world.settled().filter(foreign).map(finding).collect()
}
