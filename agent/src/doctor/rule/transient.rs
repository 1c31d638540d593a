//! A running VM without a configuration that outlives its run.

use super::super::world::{Settled, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "transient",
    severity: Severity::Severe,
    means: "Somebody undefined the VM while it runs: when it goes off, libvirt forgets it.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let transient = world.settled().filter(|vm| vm.details().is_some_and(|details| !details.persistent));
    let finding = |vm: Settled<'_>| {
        Finding::of_vm(&RULE, vm.vm, format!("the VM {} has no persistent configuration", vm.name()))
            .saw(Source::Libvirt, "running, transient")
            .saw(Source::Journal, "there")
            .advise(format!(
                "while it still runs: `virsh dumpxml {0} > {0}.xml && virsh define {0}.xml`; its mark is in it",
                vm.vm
            ))
    };
    transient.map(finding).collect()
}
