//! A VM of the journal that libvirt has no domain of.
//!
//! It can be defined again where nothing speaks against it: its disk and its seed are there and nobody else opens them, its
//! name is free, and nobody is known to have moved it elsewhere. Defining starts nothing by itself.

use dewpoint_proto::vm_state::IncidentKind;

use super::super::world::{Coordinator, Scope, Settled, World};
use super::super::{Finding, Repair, Severity, Source};
use super::Rule;
use crate::hypervisor::domain_name;
use crate::storage::survey::What;

pub(super) static RULE: Rule = Rule {
    code: "domain-missing",
    severity: Severity::Severe,
    means: "The VM is not there for libvirt: somebody undefined it, or migrated it away by hand. Its disk may be whole.",
    find,
};

fn find(world: &World) -> Vec<Finding> {
    let missing = world.settled().filter(|vm| vm.inspected.is_none());
    missing.map(|vm| finding(world, &vm)).collect()
}

fn finding(world: &World, vm: &Settled<'_>) -> Finding {
    let disk = vm.row.disk.map_or_else(|| "none".to_owned(), |disk| format!("{disk}.qcow2"));
    let finding = Finding::of_vm(&RULE, vm.vm, format!("libvirt has no domain of the VM {}", vm.name()))
        .saw(Source::Journal, format!("there, with the disk {disk}"))
        .saw(Source::Libvirt, "no domain of this UUID");
    match hindrance(world, vm) {
        None => finding
            .advise(
                "look who undefined it (`journalctl -u libvirtd`), and that it runs nowhere else: then let it be repaired, \
                 and it is started as its restart policy says",
            )
            .repaired_by(Repair::Define(vm.vm)),
        Some(why) => finding.advise(format!(
            "it is not defined again by itself: {why}. Look who undefined it (`journalctl -u libvirtd`). To have it again: \
             destroy the VM without --now, which puts its disk into recycle, and build it from there with \
             `dewpoint-agent recycle restore`"
        )),
    }
}

/// Why it is not to be defined again without more thought; none: it can be.
fn hindrance(world: &World, vm: &Settled<'_>) -> Option<&'static str> {
    let row = vm.row;
    let (Some(disk), Some(seed), Some(_)) = (row.disk, row.seed, &row.spec) else {
        return Some("the journal does not know what it is made of");
    };
    let entries = world.folder(vm.vm).map(|folder| folder.entries.as_slice()).unwrap_or_default();
    let has = |wanted: What| entries.iter().any(|entry| entry.what == wanted);
    let rests_on = entries.iter().find_map(|entry| match &entry.what {
        What::Disk(event, Ok(base)) if *event == disk => Some(*base),
        _ => None,
    });
    let whole = rests_on.is_some_and(|base| base.is_none_or(|base| has(What::Base(base))));
    if !whole || !has(What::Seed(seed)) {
        return Some("its disk or its seed is not whole in its folder");
    }
    if world.scope != Scope::Host {
        return Some("other domains were not looked at (`doctor` without --vm does)");
    }
    if world.may_be_used(vm.vm) {
        return Some("another domain opens its files, or does not tell which it opens");
    }
    let name = row.name.as_ref().map(|name| domain_name(name.as_str(), vm.vm));
    let mut domains = world.libvirt.iter().flat_map(|domains| domains.values());
    if domains.any(|seen| Some(&seen.domain.name) == name.as_ref()) {
        return Some("another domain has its name");
    }
    if row.kept.incident.as_ref().is_some_and(|last| last.kind == IncidentKind::MigratedAway) {
        return Some("it was migrated away by hand, and may run there");
    }
    match &world.coordinator {
        Coordinator::Seen(told) if !told.vms.contains_key(&vm.vm) => {
            Some("the coordinator does not count it to this host")
        }
        _ => None,
    }
}
