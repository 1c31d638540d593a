//! libvirt would start one of our VMs by itself.

use super::super::world::{Settled, World};
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "autostart",
    severity: Severity::Warning,
    means: "After a host boot libvirt would start the VM before anyone has looked whether it may run here.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let on = world.settled().filter(|vm| vm.details().is_some_and(|details| details.autostart));
    let finding = |vm: Settled<'_>| {
        Finding::of_vm(&RULE, vm.vm, format!("libvirt's autostart of the VM {} is on", vm.name()))
            .saw(Source::Libvirt, "autostart on")
            .saw(Source::Journal, "VMs are started by the agent alone")
            .advise(format!("let it be repaired, or `virsh autostart --disable {}`", vm.vm))
            .repaired_by(Repair::AutostartOff(vm.vm))
    };
    on.map(finding).collect()
}
