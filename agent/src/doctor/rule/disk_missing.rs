//! A VM whose disk is not in its folder.

use super::super::world::World;
use super::super::{Finding, Severity, Source};
use super::Rule;
use crate::storage::survey::What;

pub(super) static RULE: Rule = Rule {
    code: "disk-missing",
    severity: Severity::Severe,
    means: "The VM cannot start; if it runs, its disk was deleted under it and is lost when it stops.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let Ok(journal) = &world.journal else { return Vec::new() };
    if world.disk.is_err() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (vm, row) in journal.vms.iter().filter(|(vm, _)| !world.is_busy(**vm)) {
        let Some(disk) = row.disk else { continue };
        let folder = world.folder(*vm);
        let is_it = |what: &What| matches!(what, What::Disk(event, _) if *event == disk);
        if folder.is_some_and(|folder| folder.entries.iter().any(|entry| is_it(&entry.what))) {
            continue;
        }
        let there = folder.map_or("the VM has no folder", |_| "its folder does not have it");
        findings.push(
            Finding::of_vm(&RULE, *vm, format!("the disk {disk} is not there"))
                .saw(Source::Journal, format!("disk in use: {disk}.qcow2"))
                .saw(Source::Disk, there)
                .advise(format!(
                    "look for it in `dewpoint-agent recycle ls` and `orphans ls`; if it is nowhere, send a `restore` \
                     event for {vm}, or destroy it. While it runs, a snapshot still saves what is on it"
                )),
        );
    }
    findings
}
