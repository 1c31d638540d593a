//! A VM that stands still.

use dewpoint_proto::vm_state::Power;

use super::super::world::{Settled, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "paused",
    severity: Severity::Warning,
    means: "The guest does not run: its disk had an I/O error or is full, or somebody paused it.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let paused = |vm: Settled<'_>| {
        let domain = vm.ours()?;
        let advice = match domain.power {
            Power::Paused if domain.detail.contains("ioerror") => {
                "see that the host's disk has room and no errors (`df`, `dmesg`), then `virsh resume`"
            }
            Power::Paused => "find who paused it, then `virsh resume`",
            Power::Crashed => "the guest's kernel panicked: `dewpoint vm reboot --hard`; see its console.log",
            _ => return None,
        };
        let found =
            Finding::of_vm(&RULE, vm.vm, format!("the VM {} is {}", vm.name(), domain.power.as_str()))
                .saw(Source::Libvirt, &domain.detail)
                .advise(format!("{advice} {}", vm.vm));
        Some(found)
    };
    world.settled().filter_map(paused).collect()
}
