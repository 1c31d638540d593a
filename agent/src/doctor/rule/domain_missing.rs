//! A VM of the journal that libvirt has no domain of.

use super::super::world::World;
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "domain-missing",
    severity: Severity::Severe,
    means: "The VM is not there for libvirt: somebody undefined it, or migrated it away by hand. Its disk may be whole.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let missing = world.settled().filter(|vm| vm.inspected.is_none());
    let finding = |vm: super::super::world::Settled<'_>| {
        let disk = vm.row.disk.map_or_else(|| "none".to_owned(), |disk| format!("{disk}.qcow2"));
        Finding::of_vm(&RULE, vm.vm, format!("libvirt has no domain of the VM {}", vm.name()))
            .saw(Source::Journal, format!("there, with the disk {disk}"))
            .saw(Source::Libvirt, "no domain of this UUID")
            .advise(
                "look who undefined it (`journalctl -u libvirtd`). To have it again: destroy the VM without --now, which \
                 puts its disk into recycle, and build it from there with `dewpoint-agent recycle restore`",
            )
    };
    missing.map(finding).collect()
}
