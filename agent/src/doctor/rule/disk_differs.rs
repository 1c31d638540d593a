//! The domain points at another disk, or another seed, than the journal has.

use super::super::world::{Settled, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "disk-differs",
    severity: Severity::Severe,
    means: "The next start boots another disk than events asked for.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let differs = |vm: Settled<'_>| {
        let mark = vm.ours()?.mark.there()?;
        let (disk, seed) = (vm.row.disk?, vm.row.seed?);
        let finding = || {
            Finding::of_vm(&RULE, vm.vm, format!("the domain of the VM {} has another disk or seed", vm.name()))
                .saw(Source::Journal, format!("disk {disk}, seed {seed}"))
                .saw(Source::Libvirt, format!("disk {}, seed {}", mark.disk, mark.seed))
                .advise(format!(
                    "see which of the two is right with `dewpoint-agent event show` for both ids; a `restore` event \
                     for {} gives it a known disk",
                    vm.vm
                ))
        };
        (mark.disk != disk || mark.seed != seed).then(finding)
    };
    world.settled().filter_map(differs).collect()
}
