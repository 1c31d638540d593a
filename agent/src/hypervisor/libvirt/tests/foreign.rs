//! What is not ours is never touched, whatever it looks like.

use std::path::Path;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::VmId;
use dewpoint_proto::vm_state::Power;

use super::host::{TestVm, raw, settings, there};
use crate::hypervisor::libvirt::xml::Owner;
use crate::hypervisor::libvirt::{Libvirt, mark, xml};
use crate::hypervisor::{Call, Hypervisor, Mark, Seen, domain_name};

/// A running domain with the VM's UUID, whose metadata is as given.
fn running_with(vm: &TestVm, metadata: &str) {
    let ours = xml::domain(&settings(), Owner::NotOurs, &vm.spec).unwrap();
    let (before, rest) = ours.split_once("<metadata>").unwrap();
    let (_, after) = rest.split_once("</metadata>").unwrap();
    let domain = raw().define_domain_xml(&format!("{before}<metadata>{metadata}</metadata>{after}")).unwrap();
    domain.create().unwrap();
}

fn every_call(vm: &TestVm) -> Vec<Call> {
    vec![
        Call::Define(Box::new(vm.spec.clone())),
        Call::Mark(vm.spec.mark.clone()),
        Call::Start(vm.id()),
        Call::PowerOff(vm.id()),
        Call::AskShutdown(vm.id()),
        Call::Undefine(vm.id()),
        Call::BeginBackup { vm: vm.id(), target: vm.dir().join("target") },
        Call::AbortBackup(vm.id()),
        Call::Thaw(vm.id()),
        Call::AutostartOff(vm.id()),
    ]
}

async fn nothing_touches(vm: &TestVm, libvirt: &Libvirt) {
    let domain = raw().lookup_domain_by_uuid(vm.id().0).unwrap();
    let (pid, before) = (vm.pid(), domain.xml_desc(0).unwrap());
    for call in every_call(vm) {
        let name = call.name();
        let refused = libvirt.apply(call).await.expect_err(name);
        assert_eq!(refused.reason, Reason::ForeignDomain, "{name}");
    }
    assert_eq!((vm.pid(), domain.xml_desc(0).unwrap()), (pid, before));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_without_a_mark_is_listed_and_left_alone() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let vm = TestVm::new("foreign");
    running_with(&vm, "");
    nothing_touches(&vm, &libvirt).await;
    let domain = &libvirt.list().await.unwrap()[&vm.id()];
    assert_eq!((&domain.power, &domain.mark, &domain.live), (&Power::Running, &Seen::Absent, &Seen::Absent));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mark_that_cannot_be_read_is_unknown_and_the_domain_left_alone() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let vm = TestVm::new("hostile");
    let element = |inner: &str| format!("<d:mark xmlns:d='{}' {inner}/>", mark::NAMESPACE);
    running_with(&vm, &element("vm='../../etc' generation='NaN'"));
    nothing_touches(&vm, &libvirt).await;
    let domain = there(&libvirt, vm.id()).await;
    assert!(matches!(domain.mark, Seen::Unknown(why) if why.contains("vm")));
}

/// `virt-clone` copies metadata: a clone bears the mark of the VM that it was copied from.
#[tokio::test(flavor = "multi_thread")]
async fn a_clone_with_another_vms_mark_is_left_alone() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let (vm, other) = (TestVm::new("clone"), VmId::fresh());
    let copied = mark::to_xml(&Mark { vm: other, ..vm.spec.mark.clone() });
    running_with(&vm, &copied.replace("<mark", &format!("<mark xmlns='{}'", mark::NAMESPACE)));
    nothing_touches(&vm, &libvirt).await;
    let domain = there(&libvirt, vm.id()).await;
    assert!(matches!(domain.mark, Seen::Unknown(why) if why.contains(&other.to_string())));
    assert_eq!(domain.claims, Some(other));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_another_domain_has_is_refused() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let (vm, other) = (TestVm::new("taken"), TestVm::new("other"));
    let ours = xml::domain(&settings(), Owner::NotOurs, &other.spec).unwrap();
    let name = domain_name("taken", vm.id());
    let theirs = ours.replace(&domain_name("other", other.id()), &name);
    raw().define_domain_xml(&theirs).unwrap();
    let refused = libvirt.apply(Call::Define(Box::new(vm.spec.clone()))).await.unwrap_err();
    assert_eq!(refused.reason, Reason::ForeignDomain);
    assert_eq!(refused.fields["uuid"], other.id().to_string());
    assert_eq!(libvirt.observe(vm.id()).await, Seen::Absent);
    assert!(Path::new(&vm.spec.disk).exists());
}
