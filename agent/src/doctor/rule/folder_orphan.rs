//! A folder that bears our mark, of a VM that the journal does not have.

use super::super::world::World;
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;
use crate::storage::survey::What;

pub(super) static RULE: Rule = Rule {
    code: "folder-orphan",
    severity: Severity::Warning,
    means: "Left of a VM that is gone, or of a journal that was lost. It may hold somebody's disk.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let Ok(journal) = &world.journal else { return Vec::new() };
    let mut findings = Vec::new();
    for (vm, folder) in world.our_folders() {
        // With a domain it is that one's orphan.
        if journal.vms.contains_key(&vm) || world.may_be_used(vm) {
            continue;
        }
        let disks = folder.entries.iter().filter(|entry| matches!(entry.what, What::Disk(..))).count();
        let here = if journal.gone.contains(&vm) { "the VM is gone" } else { "never heard of" };
        findings.push(
            Finding::of_vm(&RULE, vm, format!("the folder vms/{vm} is of no VM that we have"))
                .saw(Source::Disk, format!("{} files, {disks} of them disks", folder.entries.len()))
                .saw(Source::Journal, here)
                .saw(Source::Libvirt, "no domain uses it")
                .advise("let it be moved to the quarantine; then see `dewpoint-agent orphans ls`")
                .repaired_by(Repair::QuarantineFolder(vm)),
        );
    }
    findings
}
