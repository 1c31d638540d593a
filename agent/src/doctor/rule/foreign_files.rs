//! Files in a VM's folder that are not of our making.

use super::super::world::World;
use super::super::{Finding, Severity, Source};
use super::Rule;
use crate::storage::survey::What;

pub(super) static RULE: Rule = Rule {
    code: "foreign-files",
    severity: Severity::Note,
    means: "Somebody put files there. They are left alone; when the VM is destroyed, its folder goes to the quarantine with them.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (vm, folder) in world.our_folders() {
        let foreign = folder.entries.iter().filter(|entry| entry.what == What::Foreign);
        let names: Vec<&str> = foreign.map(|entry| entry.name.as_str()).collect();
        if !names.is_empty() {
            findings.push(
                Finding::of_vm(&RULE, vm, "the VM's folder holds files of others")
                    .saw(Source::Disk, names.join(", "))
                    .advise("ask whose they are, and move them elsewhere"),
            );
        }
    }
    findings
}
