//! A disk in a VM's folder that neither the journal nor the domain names.

use super::super::world::World;
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;
use crate::storage::survey::What;

pub(super) static RULE: Rule = Rule {
    code: "disk-unused",
    severity: Severity::Warning,
    means: "It takes room, and is of an event that was not finished in order. It may hold somebody's data.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let (Ok(journal), Ok(domains)) = (&world.journal, &world.libvirt) else { return Vec::new() };
    let mut findings = Vec::new();
    for (vm, folder) in world.our_folders().filter(|(vm, _)| !world.is_busy(*vm)) {
        let Some(row) = journal.vms.get(&vm) else { continue };
        let domain = domains.get(&vm).map(|seen| &seen.domain);
        let marks =
            domain.into_iter().flat_map(|domain| [domain.mark.there(), domain.live.there()]).flatten();
        let used: Vec<_> = marks.map(|mark| mark.disk).chain(row.disk).collect();
        let named = super::files_named(world, vm);
        for entry in &folder.entries {
            let What::Disk(event, _) = &entry.what else { continue };
            if used.contains(event) || named.contains(&entry.name) || super::is_unclear(domains, vm) {
                continue;
            }
            let finding = Finding::of_vm(&RULE, vm, format!("the disk {event} is nobody's"))
                .about(entry.name.clone())
                .saw(Source::Disk, format!("{} is there", entry.name))
                .saw(Source::Journal, "names another one")
                .saw(Source::Libvirt, "no domain names it")
                .advise("let it be moved to the quarantine, and look at what is on it");
            // A domain that does not tell all of itself may have it open.
            findings.push(match super::all_clear(world) {
                true => finding.repaired_by(Repair::QuarantineFiles(vm, vec![entry.name.clone()])),
                false => finding,
            });
        }
    }
    findings
}
