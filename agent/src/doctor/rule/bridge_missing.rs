//! A bridge that VMs or the configuration name, and that is not there.

use std::collections::BTreeSet;

use super::super::world::World;
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "bridge-missing",
    severity: Severity::Severe,
    means: "VMs with an interface in it cannot start.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let (Ok(links), Ok(journal)) = (&world.links, &world.journal) else { return Vec::new() };
    let default = &world.configured.bridge;
    let nics = journal.vms.values().filter_map(|row| row.spec.as_ref()).flat_map(|spec| &spec.nics);
    let named: BTreeSet<&str> = nics.map(|nic| nic.bridge.as_ref().unwrap_or(default).as_str()).collect();
    let missing = named.into_iter().filter(|bridge| !links.bridges.contains(*bridge));
    let finding = |bridge: &str| {
        Finding::of_host(&RULE, bridge, format!("the bridge {bridge} is not there"))
            .saw(Source::Journal, format!("VMs have interfaces in {bridge}"))
            .saw(Source::Network, "no bridge of that name")
            .saw(Source::Configuration, format!("network.bridge is {default}"))
            .advise(format!(
                "make it, as your distribution keeps bridges: `ip link add {bridge} type bridge` for now"
            ))
    };
    missing.map(finding).collect()
}
