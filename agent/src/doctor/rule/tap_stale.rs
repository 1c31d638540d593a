//! A tap of one of our VMs that is off or gone.

use dewpoint_proto::ids::VmId;

use super::super::world::World;
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;
use crate::hypervisor::Inspected;
use crate::network::tap_prefix;

pub(super) static RULE: Rule = Rule {
    code: "tap-stale",
    severity: Severity::Note,
    means: "Left when QEMU and libvirt died together. The VM's next start may fail with \"device or resource busy\".",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let (Ok(links), Ok(journal), Ok(domains)) = (&world.links, &world.journal, &world.libvirt) else {
        return Vec::new();
    };
    let ours: Vec<(String, VmId)> =
        journal.vms.keys().chain(&journal.gone).map(|vm| (tap_prefix(*vm), *vm)).collect();
    let mut findings = Vec::new();
    for tap in links.taps.keys() {
        // Another agent's taps on this machine are named alike, and are of VMs that our journal never had.
        let Some((_, vm)) = ours.iter().find(|(prefix, _)| tap.starts_with(prefix)) else { continue };
        let (Ok(name), false) = (tap.parse(), world.is_busy(*vm) || may_hold(domains.get(vm))) else {
            continue;
        };
        findings.push(
            Finding::of_vm(&RULE, *vm, format!("the tap {tap} is there, and its VM is not running"))
                .about(tap.clone())
                .saw(Source::Network, format!("{tap} is there"))
                .saw(Source::Libvirt, domains.get(vm).map_or("no domain", |_| "off"))
                .advise("let it be repaired")
                .repaired_by(Repair::RemoveTap(name)),
        );
    }
    findings
}

/// Whether a QEMU may hold the VM's taps.
fn may_hold(seen: Option<&Inspected>) -> bool {
    seen.is_some_and(|seen| seen.domain.power != dewpoint_proto::vm_state::Power::Off)
}
