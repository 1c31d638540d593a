//! A domain that has another name than we give.

use super::super::world::{Settled, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "renamed",
    severity: Severity::Note,
    means: "Somebody renamed the domain. Dewpoint goes by UUIDs; a later define gives it its name back, or fails if that is taken.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let renamed = |vm: Settled<'_>| {
        let (domain, name) = (vm.ours()?, vm.row.name.as_ref()?);
        let ours = crate::hypervisor::domain_name(name.as_str(), vm.vm);
        let finding = || {
            Finding::of_vm(&RULE, vm.vm, format!("the domain of the VM {name} is called `{}`", domain.name))
                .saw(Source::Libvirt, &domain.name)
                .saw(Source::Journal, &ours)
                .advise(format!("when the VM is off: `virsh domrename {} {ours}`", vm.vm))
        };
        (domain.name != ours).then(finding)
    };
    world.settled().filter_map(renamed).collect()
}
