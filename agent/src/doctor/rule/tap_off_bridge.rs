//! A running VM whose tap is not in its bridge.

use super::super::world::World;
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "tap-off-bridge",
    severity: Severity::Severe,
    means: "The VM is cut off: the bridge was made anew (a network restart), or the tap was taken out of it.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let Ok(links) = &world.links else { return Vec::new() };
    let mut findings = Vec::new();
    for vm in world.settled().filter(|vm| vm.ours().is_some_and(|domain| domain.is_on())) {
        for nic in vm.details().into_iter().flat_map(|details| &details.nics) {
            let (Some(tap), Some(bridge)) = (&nic.tap, &nic.bridge) else { continue };
            let Some(master) = links.taps.get(tap) else { continue };
            if master.as_ref() == Some(bridge) || !links.bridges.contains(bridge) {
                continue;
            }
            let (Ok(tap), Ok(bridge)) = (tap.parse(), bridge.parse()) else { continue };
            let in_it = master.as_deref().unwrap_or("no bridge");
            findings.push(
                Finding::of_vm(
                    &RULE,
                    vm.vm,
                    format!("the tap {tap} of the VM {} is not in {bridge}", vm.name()),
                )
                .about(format!("{tap}"))
                .saw(Source::Libvirt, format!("{tap} belongs into {bridge}"))
                .saw(Source::Network, format!("{tap} is in {in_it}"))
                .advise("let it be repaired; then find what made the bridge anew")
                .repaired_by(Repair::BridgeTap(vm.vm, tap, bridge)),
            );
        }
    }
    findings
}
