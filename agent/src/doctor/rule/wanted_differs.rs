//! The domain's mark wants it otherwise than the journal does.

use super::super::world::{Settled, World};
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "wanted-differs",
    severity: Severity::Warning,
    means: "After a host boot the journal decides; who reads the domain alone is misled.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let differs = |vm: Settled<'_>| {
        let mark = vm.ours()?.mark.there()?;
        let older = mark.generation > vm.row.generation;
        let finding = || {
            Finding::of_vm(&RULE, vm.vm, format!("the mark of the VM {} wants it otherwise", vm.name()))
                .saw(Source::Journal, format!("wanted {:?}", vm.row.wanted).to_lowercase())
                .saw(Source::Libvirt, format!("wanted {:?}", mark.wanted).to_lowercase())
                .advise("the journal is right unless agent.db was restored from a copy: let it be repaired")
                .repaired_by(Repair::MarkWanted(vm.vm))
        };
        (mark.wanted != vm.row.wanted && !older).then(finding)
    };
    world.settled().filter_map(differs).collect()
}
