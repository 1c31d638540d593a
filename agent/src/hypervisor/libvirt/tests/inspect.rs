//! What a person who mends a host looks at, and the one switch that is turned then.

use super::host::{TestVm, raw, settings};
use crate::hypervisor::libvirt::Libvirt;
use crate::hypervisor::{Call, Details, Hypervisor, Inspected, Seen};

fn details(seen: &Inspected) -> &Details {
    match &seen.details {
        Seen::There(details) => details,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_tells_its_files_its_size_and_who_starts_it() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let (vm, other) = (TestVm::new("ill"), TestVm::new("well"));
    for one in [&vm, &other] {
        libvirt.apply(Call::Define(Box::new(one.spec.clone()))).await.unwrap();
    }
    raw().lookup_domain_by_uuid(vm.id().0).unwrap().set_autostart(true).unwrap();
    let all = libvirt.inspect(None).await.unwrap();
    let (ill, well) = (details(&all[&vm.id()]), details(&all[&other.id()]));
    assert!(ill.autostart && ill.persistent && !ill.managed_save && !well.autostart);
    assert_eq!((ill.disk.as_ref(), ill.seed.as_ref()), (Some(&vm.spec.disk), Some(&vm.spec.seed)));
    assert_eq!((ill.vcpus, ill.memory_bytes), (vm.spec.vcpus, vm.spec.memory_bytes));
    assert_eq!(all[&vm.id()].domain.mark, Seen::There(vm.spec.mark.clone()));

    for _ in 0..2 {
        libvirt.apply(Call::AutostartOff(vm.id())).await.unwrap();
        let one = libvirt.inspect(Some(vm.id())).await.unwrap();
        assert_eq!(one.keys().collect::<Vec<_>>(), [&vm.id()]);
        assert!(!details(&one[&vm.id()]).autostart, "and again changes nothing");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_domain_that_was_undefined_is_seen_to_be_transient() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let vm = TestVm::new("undefined");
    libvirt.apply(Call::Define(Box::new(vm.spec.clone()))).await.unwrap();
    libvirt.apply(Call::Start(vm.id())).await.unwrap();
    raw().lookup_domain_by_uuid(vm.id().0).unwrap().undefine().unwrap();
    let seen = libvirt.inspect(Some(vm.id())).await.unwrap();
    let seen = &seen[&vm.id()];
    assert!(!details(seen).persistent && seen.domain.is_on());
    assert_eq!((&seen.domain.mark, &seen.domain.live), (&Seen::Absent, &Seen::There(vm.spec.mark.clone())));
    assert_eq!(details(seen).disk.as_ref(), Some(&vm.spec.disk), "of the run");
}
