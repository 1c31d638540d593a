//! A domain that bears our mark, of a VM that the journal does not have.

use super::super::world::{World, bears_mark};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "domain-orphan",
    severity: Severity::Warning,
    means: "The VM runs or waits here, and no event reaches it: the journal was lost or replaced, or the VM was destroyed meanwhile.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let (Ok(journal), Ok(domains)) = (&world.journal, &world.libvirt) else { return Vec::new() };
    let ours = domains.values().filter(|seen| bears_mark(&seen.domain) && world.is_of_us(seen));
    let orphans = ours.map(|seen| &seen.domain).filter(|domain| !journal.vms.contains_key(&domain.vm));
    let finding = |domain: &crate::hypervisor::Domain| {
        let here = if journal.gone.contains(&domain.vm) { "it is gone" } else { "never heard of" };
        Finding::of_vm(&RULE, domain.vm, format!("the domain `{}` bears our mark, and is none of our VMs", domain.name))
            .saw(Source::Libvirt, format!("{} ({})", domain.power.as_str(), domain.detail))
            .saw(Source::Journal, here)
            .advise(
                "see `dewpoint-agent orphans ls`; then `orphans adopt` takes it into the journal, `orphans remove` \
                 removes it with its disk going to recycle",
            )
    };
    orphans.map(finding).collect()
}
