//! The host: nothing is there without a VM, and no VM is there without what it is made of.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::chaos::by_hand::TITLE;
use crate::chaos::history::What;
use crate::chaos::plan::FaultKind;
use crate::chaos::world::World;

/// Promises 3 and 5: domains, folders, taps and rules each belong to a VM that is there, on both sides.
pub(super) fn nothing_is_left_over(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("3, nothing is left", detail);
    let there = world.there();
    let mut found = Vec::new();
    for vm in &world.fleet.vms {
        if vm.on_host != there.contains_key(vm.id.as_str()) {
            let (here, presence) = (vm.on_host, there.get(vm.id.as_str()).map(|row| &row.presence));
            found.push(wrong(format!("VM {}: on the host: {here}; the journal: {presence:?}", vm.id)));
        }
    }
    let domains = world.host.domains.iter().filter(|domain| !there.contains_key(domain.vm.as_str()));
    found.extend(domains.map(|domain| wrong(format!("domain {} belongs to no VM", domain.vm))));
    let folders = world.host.folders.iter().filter(|(vm, _)| !there.contains_key(vm.as_str()));
    found.extend(folders.map(|(vm, files)| wrong(format!("folder {vm} belongs to no VM: {files:?}"))));
    let (on, all): (BTreeSet<_>, BTreeSet<_>) = taps(world);
    let taps = world.host.taps.iter().filter(|tap| !on.contains(tap.as_str()));
    found.extend(taps.map(|tap| wrong(format!("tap {tap} belongs to no VM that is on"))));
    // Of a VM whose domain somebody undefined, only its rules tell the taps.
    let all_told = there.keys().all(|vm| world.host.domains.iter().any(|domain| domain.vm == *vm));
    let rules = world.host.shielded.iter().filter(|tap| all_told && !all.contains(tap.as_str()));
    found.extend(rules.map(|tap| wrong(format!("rules for {tap} belong to no VM"))));
    found
}

/// Taps of the VMs that are on, and of all.
fn taps(world: &World) -> (BTreeSet<&str>, BTreeSet<&str>) {
    let names = |only_on: bool| {
        let domains = world.host.domains.iter().filter(move |domain| domain.active || !only_on);
        domains.flat_map(|domain| domain.taps.iter().map(String::as_str)).collect()
    };
    (names(true), names(false))
}

/// Promise 3: each VM has its domain, its one disk, its seed, and rules for each tap; and nothing half made.
pub(super) fn every_vm_is_whole(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("3, whole", detail);
    let shielded: BTreeSet<_> = world.host.shielded.iter().collect();
    let mut found = Vec::new();
    for (vm, row) in world.there() {
        let files = world.host.folders.get(vm).cloned().unwrap_or_default();
        let disks: Vec<_> = files.iter().filter(|file| file.ends_with(".qcow2")).collect();
        if disks != [&format!("{}.qcow2", row.disk)] {
            found.push(wrong(format!("VM {vm} should have disk {} alone: {disks:?}", row.disk)));
        }
        if !files.contains(&format!("{}.seed", row.seed)) {
            found.push(wrong(format!("VM {vm} should have seed {}: {files:?}", row.seed)));
        }
        let half = files.iter().filter(|file| file.ends_with(".part") || file.contains("snapshot"));
        found.extend(half.map(|file| wrong(format!("VM {vm} has {file} lying about"))));
        let Some(domain) = world.host.domains.iter().find(|domain| domain.vm == vm) else {
            if !was_undefined(world, vm) {
                found.push(wrong(format!("VM {vm} has no domain")));
            }
            continue;
        };
        let bare = domain.taps.iter().filter(|tap| domain.active && !shielded.contains(tap));
        found.extend(bare.map(|tap| wrong(format!("VM {vm} is on, and {tap} is not shielded"))));
        if !domain.job.is_empty() {
            found.push(wrong(format!("VM {vm} has a job left: {}", domain.job)));
        }
        if !domain.persistent && !was_undefined(world, vm) {
            found.push(wrong(format!("VM {vm} runs, and is gone once it is off")));
        }
        if domain.persistent && (&domain.disk, &domain.seed) != (&row.disk, &row.seed) {
            found.push(wrong(format!("VM {vm}: its domain is marked {domain:?}, the journal says {row:?}")));
        }
    }
    found
}

fn was_undefined(world: &World, vm: &str) -> bool {
    world.history.iter().any(|line| match &line.what {
        What::FaultBegan { kind: FaultKind::UndefinedBehindOurBack { .. }, vm: Some(of), .. } => of == vm,
        _ => false,
    })
}

/// Promise 5: what somebody undefined is told as that, and what somebody edited stays as edited.
pub(super) fn what_somebody_did_is_told_and_left(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("5, by hand", detail);
    let mut found = Vec::new();
    for vm in world.there().into_keys() {
        let domain = world.host.domains.iter().find(|domain| domain.vm == vm);
        let expected = match domain {
            None => "DOMAIN_GONE",
            Some(domain) if !domain.persistent => "DOMAIN_CHANGED",
            Some(_) => "",
        };
        let told = world.vm(vm).map(|vm| vm.attention.as_str()).unwrap_or_default();
        if told != expected {
            found.push(wrong(format!("VM {vm}: its host tells `{told}`, not `{expected}`; {domain:?}")));
        }
        let edited =
            world.history.iter().any(|line| matches!(&line.what, What::Edited { vm: of } if of == vm));
        if let Some(domain) = domain.filter(|domain| edited && domain.title != TITLE) {
            found.push(wrong(format!("VM {vm} was edited, and its title is `{}`", domain.title)));
        }
    }
    found
}

/// No MAC and no address is two VMs', or that of one that is gone.
pub(super) fn addresses_are_one_vms(world: &World) -> Vec<Violation> {
    let wrong = |detail| Violation::new("addresses", detail);
    let gone: BTreeSet<_> = world.fleet.vms.iter().filter(|vm| vm.gone).map(|vm| &vm.id).collect();
    let mut found = Vec::new();
    for given in [&world.fleet.macs, &world.fleet.addresses] {
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        for (what, vm) in given {
            if let Some(other) = owners.insert(what, vm).filter(|other| other != vm) {
                found.push(wrong(format!("{what} is both {other}'s and {vm}'s")));
            }
            if gone.contains(vm) {
                found.push(wrong(format!("{what} is kept for {vm}, which is gone")));
            }
        }
    }
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for domain in &world.host.domains {
        for mac in &domain.macs {
            if let Some(other) = owners.insert(mac, &domain.vm) {
                found.push(wrong(format!("{mac} is in the domains of {other} and {}", domain.vm)));
            }
            if !world.fleet.macs.iter().any(|(given, vm)| given == mac && *vm == domain.vm) {
                found.push(wrong(format!("{mac} in the domain of {} was not given to it", domain.vm)));
            }
        }
    }
    found
}
