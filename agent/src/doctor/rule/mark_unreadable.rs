//! A domain whose mark cannot be read, or is another VM's.

use super::super::world::World;
use super::super::{Finding, Severity, Source};
use super::Rule;
use crate::hypervisor::{Domain, Seen};

pub(super) static RULE: Rule = Rule {
    code: "mark-unreadable",
    severity: Severity::Warning,
    means: "The domain was copied (a clone bears its original's mark), or its metadata was edited. Nothing is done with it.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let domains = world.libvirt.iter().flat_map(|domains| domains.values());
    domains.filter(|seen| world.is_of_us(seen)).filter_map(|seen| finding(&seen.domain)).collect()
}

fn finding(domain: &Domain) -> Option<Finding> {
    let why = [&domain.mark, &domain.live].into_iter().find_map(|mark| match mark {
        Seen::Unknown(why) => Some(why),
        Seen::There(_) | Seen::Absent => None,
    })?;
    let found = Finding::of_vm(&RULE, domain.vm, format!("the mark of the domain `{}` is not its own", domain.name))
        .saw(Source::Libvirt, why)
        .advise(format!(
            "look at it with `virsh dumpxml {0}`: for a clone, `virsh metadata {0} https://dewpoint.dev/ns/domain/1 \
             --remove` makes it nobody's",
            domain.vm
        ));
    Some(found)
}
