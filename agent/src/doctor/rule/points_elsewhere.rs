//! A domain whose XML names another file than its mark says.

use std::path::PathBuf;

use super::super::world::{Settled, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "points-elsewhere",
    severity: Severity::Severe,
    means: "Somebody edited the domain: its next start opens other files than events asked for.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    world.settled().filter_map(|vm| finding(world, &vm)).collect()
}

fn finding(world: &World, vm: &Settled<'_>) -> Option<Finding> {
    let mark = vm.ours()?.mark.there()?;
    let details = vm.details().filter(|details| details.persistent)?;
    let disk = world.path_in(vm.vm, &format!("{}.qcow2", mark.disk))?;
    let seed = world.path_in(vm.vm, &format!("{}.seed", mark.seed))?;
    let other = |found: &Option<PathBuf>, ours: &PathBuf| found.as_ref() != Some(ours);
    let (found, ours) = match (other(&details.disk, &disk), other(&details.seed, &seed)) {
        (true, _) => (&details.disk, disk),
        (false, true) => (&details.seed, seed),
        (false, false) => return None,
    };
    let found = found.as_ref().map_or_else(|| "none".to_owned(), |path| path.display().to_string());
    let text = format!("the domain of the VM {} names another file than its mark", vm.name());
    let finding = Finding::of_vm(&RULE, vm.vm, text)
        .saw(Source::Libvirt, found)
        .saw(Source::Disk, ours.display().to_string())
        .advise(format!(
            "if it was a mistake, a `restore` event writes the configuration anew; if the data folder was moved, move \
             it back or define the domain again ({})",
            vm.vm
        ));
    Some(finding)
}
