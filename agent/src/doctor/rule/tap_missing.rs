//! A running VM whose tap is not there.

use super::super::world::World;
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule =
    Rule { code: "tap-missing", severity: Severity::Severe, means: "The VM has no network.", find };

fn find(world: &World) -> Vec<Finding> {
    let Ok(links) = &world.links else { return Vec::new() };
    let mut findings = Vec::new();
    for vm in world.settled().filter(|vm| vm.ours().is_some_and(|domain| domain.is_on())) {
        let taps =
            vm.details().into_iter().flat_map(|details| &details.nics).filter_map(|nic| nic.tap.as_ref());
        for tap in taps.filter(|tap| !links.taps.contains_key(*tap)) {
            findings.push(
                Finding::of_vm(&RULE, vm.vm, format!("the tap {tap} of the VM {} is not there", vm.name()))
                    .about(tap.clone())
                    .saw(Source::Libvirt, format!("the domain has the tap {tap}"))
                    .saw(Source::Network, "no such interface")
                    .advise(format!("`dewpoint vm reboot --hard {}` makes it anew", vm.vm)),
            );
        }
    }
    findings
}
