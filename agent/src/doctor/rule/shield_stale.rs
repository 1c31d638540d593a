//! Anti-spoofing rules of taps that are nobody's.

use dewpoint_proto::names::InterfaceName;

use super::super::world::World;
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;
use crate::network::tap_prefix;

pub(super) static RULE: Rule = Rule {
    code: "shield-stale",
    severity: Severity::Note,
    means: "Left of VMs that are gone. A later VM with a tap of that name would be held to them.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let (Ok(shield), Ok(journal), Ok(domains)) = (&world.shield, &world.journal, &world.libvirt) else {
        return Vec::new();
    };
    // Taps are named after their VM's id, so whatever a domain is doing now, its taps are known.
    let known: Vec<String> = journal.vms.keys().chain(domains.keys()).map(|vm| tap_prefix(*vm)).collect();
    let stale: Vec<InterfaceName> = shield
        .taps
        .iter()
        .filter(|tap| !known.iter().any(|prefix| tap.starts_with(prefix)))
        .filter_map(|tap| tap.parse().ok())
        .collect();
    if stale.is_empty() {
        return Vec::new();
    }
    let names: Vec<&str> = stale.iter().map(InterfaceName::as_str).collect();
    vec![
        Finding::of_host(&RULE, "", format!("{} taps have rules, and are no VM's", stale.len()))
            .saw(Source::Network, format!("table bridge {}: {}", world.configured.table, names.join(", ")))
            .saw(Source::Journal, "no VM with such a tap")
            .saw(Source::Libvirt, "no domain with such a tap")
            .advise("let it be repaired")
            .repaired_by(Repair::ClearTaps(stale)),
    ]
}
