//! Files that QEMU may not open, or that others may.

use super::super::world::World;
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "access",
    severity: Severity::Warning,
    means: "The VM may fail to start, or its disk may be read by users of the host. A copy or a restored backup often leaves this.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (vm, folder) in world.our_folders().filter(|(vm, _)| !world.is_busy(*vm)) {
        let of_files = folder.entries.iter().map(|entry| (entry.name.as_str(), &entry.access));
        let wrong: Vec<String> = std::iter::once((".", &folder.access))
            .chain(of_files)
            .filter_map(|(name, access)| access.as_ref().map(|access| (name, access)))
            .map(|(name, access)| format!("{name}: {} instead of {}", access.found, access.wanted))
            .collect();
        if wrong.is_empty() {
            continue;
        }
        let mut finding =
            Finding::of_vm(&RULE, vm, format!("{} files have another owner, group or mode", wrong.len()))
                .advise("let it be repaired; it harms no running VM")
                .repaired_by(Repair::Access(vm));
        for line in wrong {
            finding = finding.saw(Source::Disk, line);
        }
        findings.push(finding);
    }
    findings
}
