//! A VM that is off and wanted on, or on and wanted off.

use super::super::world::{Settled, World};
use super::super::{Finding, Severity, Source};
use super::Rule;
use crate::hypervisor::Wanted;

pub(super) static RULE: Rule = Rule {
    code: "power-differs",
    severity: Severity::Warning,
    means: "The VM is not as events asked: its guest went off, somebody started it by hand, or it was not started yet.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let differs = |vm: Settled<'_>| {
        let domain = vm.ours()?;
        if domain.power == dewpoint_proto::vm_state::Power::Unknown {
            return None;
        }
        let (wanted, event) = match (vm.row.wanted, domain.is_on()) {
            (Wanted::On, false) => ("on", "start"),
            (Wanted::Off, true) => ("off", "stop"),
            _ => return None,
        };
        let text = format!("the VM {} is wanted {wanted}, and is {}", vm.name(), domain.power.as_str());
        let found = Finding::of_vm(&RULE, vm.vm, text)
            .saw(Source::Journal, format!("wanted {wanted}"))
            .saw(Source::Libvirt, &domain.detail)
            .advise(format!(
                "`dewpoint vm {event} {0}`, or the other way round if it is right as it is",
                vm.vm
            ));
        Some(found)
    };
    world.settled().filter_map(differs).collect()
}
