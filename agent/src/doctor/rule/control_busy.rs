//! A domain whose control channel is not free.

use super::super::world::{Settled, World};
use super::super::{Finding, Severity, Source};
use super::Rule;
use crate::hypervisor::{BackupJob, Control};

pub(super) static RULE: Rule = Rule {
    code: "control-busy",
    severity: Severity::Warning,
    means: "An earlier call is still at work or QEMU does not answer: nothing is planned for this VM until it is over.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let stuck = |vm: Settled<'_>| {
        let domain = vm.ours()?;
        let why = match (&domain.control, &domain.backup) {
            (Control::Busy(why), _) | (_, BackupJob::Wedged(why)) => why,
            _ => return None,
        };
        let found = Finding::of_vm(&RULE, vm.vm, format!("the domain of the VM {} is stuck", vm.name()))
            .saw(Source::Libvirt, why)
            .advise(format!(
                "other VMs go on; if it lasts, look at its QEMU (`virsh domcontrol {0}`, `ps`), and `virsh destroy {0}` \
                 pulls its plug",
                vm.vm
            ));
        Some(found)
    };
    world.settled().filter_map(stuck).collect()
}
