//! A VM whose seed is not in its folder.

use super::super::world::World;
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;
use crate::storage::survey::What;

pub(super) static RULE: Rule = Rule {
    code: "seed-missing",
    severity: Severity::Severe,
    means: "The VM cannot start: its configuration names a seed that is not there.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let Ok(journal) = &world.journal else { return Vec::new() };
    let mut findings = Vec::new();
    for (vm, row) in journal.vms.iter().filter(|(vm, _)| !world.is_busy(**vm)) {
        // A folder that is not there at all is the disk's rule to tell.
        let (Some(seed), Some(folder)) = (row.seed, world.folder(*vm)) else { continue };
        if folder.entries.is_empty() || folder.entries.iter().any(|entry| entry.what == What::Seed(seed)) {
            continue;
        }
        let finding = Finding::of_vm(&RULE, *vm, format!("the seed {seed} is not there"))
            .saw(Source::Journal, format!("seed in use: {seed}.seed"))
            .saw(Source::Disk, "its folder does not have it");
        findings.push(match row.spec {
            Some(_) => finding
                .advise("let it be repaired: it is made anew from what the journal has of the VM")
                .repaired_by(Repair::MakeSeed(*vm, seed)),
            None => finding.advise("send a `restore` event, which makes a disk and a seed"),
        });
    }
    findings
}
