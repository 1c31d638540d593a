//! A disk whose backing image is not beside it.

use super::super::world::World;
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;
use crate::storage::survey::What;

pub(super) static RULE: Rule = Rule {
    code: "base-missing",
    severity: Severity::Severe,
    means: "The disk cannot be opened: it holds only what differs from that image.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let Ok(disk) = &world.disk else { return Vec::new() };
    let mut findings = Vec::new();
    for (vm, folder) in world.our_folders().filter(|(vm, _)| !world.is_busy(*vm)) {
        for entry in &folder.entries {
            let What::Disk(event, Ok(Some(base))) = &entry.what else { continue };
            if folder.entries.iter().any(|other| other.what == What::Base(*base)) {
                continue;
            }
            let cached = disk.images.contains(base);
            let finding =
                Finding::of_vm(&RULE, vm, format!("the image that the disk {event} rests on is missing"))
                    .about(entry.name.clone())
                    .saw(Source::Disk, format!("{} rests on {base}.base, which is not there", entry.name));
            findings.push(if cached {
                finding
                    .saw(Source::Disk, "the image is in the cache")
                    .advise("let it be repaired: the image is linked beside the disk again")
                    .repaired_by(Repair::LinkBase(vm, *base))
            } else {
                finding.advise(format!(
                    "bring the image with this SHA-256 into images/ (its name is the digest), for instance from another \
                     host, then repair; VM {vm}"
                ))
            });
        }
    }
    findings
}
