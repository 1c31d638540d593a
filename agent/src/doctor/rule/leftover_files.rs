//! Half-made files, and seeds, snapshots and images that nothing uses.

use super::super::world::World;
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;
use crate::storage::survey::FolderSeen;
use crate::storage::survey::What;

pub(super) static RULE: Rule = Rule {
    code: "leftover-files",
    severity: Severity::Note,
    means: "Left by events that are over. They take room.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let (Ok(journal), Ok(domains)) = (&world.journal, &world.libvirt) else { return Vec::new() };
    let mut findings = Vec::new();
    for (vm, folder) in world.our_folders().filter(|(vm, _)| !world.is_busy(*vm)) {
        let Some(row) = journal.vms.get(&vm) else { continue };
        if super::is_unclear(domains, vm) {
            continue;
        }
        let domain = domains.get(&vm).map(|seen| &seen.domain);
        let marks =
            domain.into_iter().flat_map(|domain| [domain.mark.there(), domain.live.there()]).flatten();
        let seeds: Vec<_> = marks.map(|mark| mark.seed).chain(row.seed).collect();
        let mut left = left_over(folder, &seeds);
        let named = super::files_named(world, vm);
        left.retain(|name| !named.contains(name));
        if left.is_empty() {
            continue;
        }
        let finding =
            Finding::of_vm(&RULE, vm, format!("{} files of the VM's folder are left over", left.len()))
                .saw(Source::Disk, left.join(", "))
                .saw(Source::Journal, "no event is at work")
                .advise("let them be moved to the quarantine");
        // A domain that does not tell all of itself may have one of them open.
        findings.push(match super::all_clear(world) {
            true => finding.repaired_by(Repair::QuarantineFiles(vm, left)),
            false => finding,
        });
    }
    findings
}

fn left_over(folder: &FolderSeen, seeds: &[dewpoint_proto::ids::EventId]) -> Vec<String> {
    let bases: Vec<_> = folder
        .entries
        .iter()
        .filter_map(|entry| match &entry.what {
            What::Disk(_, Ok(base)) => Some(Ok(*base)),
            What::Disk(_, Err(_)) => Some(Err(())),
            _ => None,
        })
        .collect();
    // A disk that cannot be read may rest on any of them.
    let unread = bases.contains(&Err(()));
    let is_left = |what: &What| match what {
        What::Part(_) | What::Snapshot(_) => true,
        What::Seed(event) => !seeds.contains(event),
        What::Base(digest) => !unread && !bases.contains(&Ok(Some(*digest))),
        What::Ours | What::Disk(..) | What::Foreign => false,
    };
    folder.entries.iter().filter(|entry| is_left(&entry.what)).map(|entry| entry.name.clone()).collect()
}
