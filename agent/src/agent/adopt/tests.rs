use std::path::PathBuf;

use dewpoint_proto::ids::{EventId, Generation, RunId, VmId};
use dewpoint_proto::spec::{Placement, Restart};
use dewpoint_proto::vm_state::Power;

use super::*;
use crate::hypervisor::fake::FakeHypervisor;
use crate::hypervisor::fake::world::{Content, World};
use crate::hypervisor::{Call, DomainSpec, Wanted};
use crate::journal::fixture::{Folder, accepted_create, id, spec, vm};
use crate::storage::fake::FakeStorage;

pub(in crate::agent) fn adoption(world: &World, journal: &Journal) -> Adoption {
    Adoption {
        journal: journal.clone(),
        hypervisor: Arc::new(FakeHypervisor::new(world.clone())),
        storage: Arc::new(FakeStorage::new(world.clone())),
    }
}

fn mark(vm: VmId, disk: EventId) -> Mark {
    Mark {
        vm,
        generation: Generation(7),
        event: disk,
        run: Some(RunId(disk.0)),
        wanted: Wanted::On,
        disk,
        seed: disk,
    }
}

/// A running VM with its folder, as an agent left it.
pub(in crate::agent) async fn built(world: &World, vm: VmId, disk: EventId) {
    world.change(|state| {
        let folder = state.folders.entry(vm).or_default();
        folder.disks.insert(disk, Content::DiskOf(disk));
        folder.seeds.insert(disk);
    });
    let hypervisor = FakeHypervisor::new(world.clone());
    let spec = DomainSpec {
        name: "web".into(),
        vcpus: 1,
        memory_bytes: 1 << 30,
        disk: PathBuf::from(format!("/fake/{disk}.qcow2")),
        backing: Vec::new(),
        seed: "/fake/seed".into(),
        nics: Vec::new(),
        console_log: "/fake/console".into(),
        mark: mark(vm, disk),
    };
    hypervisor.apply(Call::Define(Box::new(spec))).await.unwrap();
    hypervisor.apply(Call::Start(vm)).await.unwrap();
}

#[tokio::test]
async fn a_new_journal_takes_over_what_bears_both_marks_and_touches_nothing() {
    let (world, folder) = (World::default(), Folder::new());
    built(&world, vm(1), id(1)).await;
    built(&world, vm(2), id(2)).await;
    world.change(|state| state.folders.remove(&vm(2)));
    world.change(|state| state.domains.insert(vm(3), crate::hypervisor::fake::domain::FakeDomain::foreign()));
    let before = world.state();
    let journal = folder.open();
    adoption(&world, &journal).try_once().await.unwrap();

    let rows = journal.vms().await.unwrap();
    let [row] = rows.as_slice() else { panic!("{rows:?}") };
    assert_eq!((row.vm, row.generation, row.wanted), (vm(1), Generation(7), Wanted::On));
    assert_eq!((row.disk, row.run), (Some(id(1)), Some(RunId(id(1).0))));
    let after = world.state();
    assert_eq!(after.runs, before.runs);
    assert_eq!(after.folders, before.folders);
    assert!(after.domains.values().all(|domain| domain.power == Power::Running || domain.spec.is_none()));
    // Once is enough: what a person changes later is not taken over behind their back.
    built(&world, vm(4), id(4)).await;
    adoption(&world, &journal).try_once().await.unwrap();
    assert_eq!(journal.vms().await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_vm_is_made_of_is_taken_over_with_it_unless_it_is_of_another() {
    let (world, folder) = (World::default(), Folder::new());
    for n in [1, 2, 3] {
        built(&world, vm(n), id(n)).await;
    }
    let movable = VmSpec { placement: Placement::Movable, restart: Restart::Always, ..spec() };
    let told = movable.clone();
    world.change(move |state| {
        state.folders.get_mut(&vm(1)).unwrap().made_of = Some((id(1), told.clone()));
        // Of another event: perhaps of a VM of that id before this one.
        state.folders.get_mut(&vm(2)).unwrap().made_of = Some((id(9), told.clone()));
    });
    let journal = folder.open();
    adoption(&world, &journal).try_once().await.unwrap();
    let specs: Vec<_> = journal.vms().await.unwrap().into_iter().map(|row| (row.vm, row.spec)).collect();
    assert_eq!(specs, [(vm(1), Some(movable)), (vm(2), None), (vm(3), None)]);
}

#[tokio::test]
async fn a_journal_that_was_used_takes_nothing_over() {
    let (world, folder) = (World::default(), Folder::new());
    built(&world, vm(1), id(1)).await;
    let journal = folder.open();
    accepted_create(&journal, 9).await;
    adoption(&world, &journal).try_once().await.unwrap();
    assert!(journal.vm(vm(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn while_libvirt_is_away_it_waits() {
    let (world, folder) = (World::default(), Folder::new());
    built(&world, vm(1), id(1)).await;
    world.script().always("list-domains", crate::hypervisor::fake::script::Fault::fails());
    let journal = folder.open();
    adoption(&world, &journal).try_once().await.unwrap_err();
    assert!(journal.awaits_adoption().await.unwrap());
    world.script().heal();
    adoption(&world, &journal).try_once().await.unwrap();
    assert_eq!(journal.vms().await.unwrap().len(), 1);
}
