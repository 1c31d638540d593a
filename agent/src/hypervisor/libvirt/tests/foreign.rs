//! What is not ours is never touched, whatever it looks like.

use std::path::Path;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::{Generation, HostId, VmId};
use dewpoint_proto::vm_state::Power;

use super::host::{TestVm, raw, settings, there};
use crate::hypervisor::libvirt::xml::Owner;
use crate::hypervisor::libvirt::{Libvirt, Settings, mark, xml};
use crate::hypervisor::{Call, Freeze, FreezeSent, Hypervisor, Mark, Seen, domain_name};

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
        Call::BeginBackup { vm: vm.id(), target: vm.dir().join("target"), freeze: Freeze::IfItAnswers },
        Call::AbortBackup(vm.id()),
        Call::Thaw { vm: vm.id(), sent: FreezeSent::Perhaps },
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
    let copied = mark::to_xml(&Mark { vm: other, ..vm.spec.mark.clone() }, None);
    running_with(&vm, &copied.replace("<mark", &format!("<mark xmlns='{}'", mark::NAMESPACE)));
    nothing_touches(&vm, &libvirt).await;
    let domain = there(&libvirt, vm.id()).await;
    assert!(matches!(domain.mark, Seen::Unknown(why) if why.contains(&other.to_string())));
    assert_eq!(domain.claims, Some(other));
}

/// Two agents on one libvirt, or a host whose disk was cloned: each sees its own, and what was there before marks bore a host.
#[tokio::test(flavor = "multi_thread")]
async fn a_domain_of_another_host_is_foreign_and_one_without_a_host_is_ours() {
    let of = |host| Libvirt::new(Settings { host, ..settings() }).unwrap();
    let (ours, theirs, before) = (of(Some(HostId::fresh())), of(Some(HostId::fresh())), of(None));
    let vm = TestVm::new("theirs");
    theirs.apply(Call::Define(Box::new(vm.spec.clone()))).await.unwrap();
    theirs.apply(Call::Start(vm.id())).await.unwrap();
    nothing_touches(&vm, &ours).await;
    let seen = there(&ours, vm.id()).await;
    assert_eq!((&seen.mark, &seen.live, seen.claims), (&Seen::Absent, &Seen::Absent, None));
    assert!(ours.disk_files().await.unwrap().is_empty(), "its files are none of ours");
    assert_eq!(there(&theirs, vm.id()).await.mark, Seen::There(vm.spec.mark.clone()));

    let old = TestVm::new("old");
    before.apply(Call::Define(Box::new(old.spec.clone()))).await.unwrap();
    assert_eq!(there(&ours, old.id()).await.mark, Seen::There(old.spec.mark.clone()));
    let mark = Mark { generation: Generation(2), ..old.spec.mark.clone() };
    ours.apply(Call::Mark(mark.clone())).await.unwrap();
    assert_eq!(there(&ours, old.id()).await.mark, Seen::There(mark.clone()));
    assert_eq!(there(&theirs, old.id()).await.mark, Seen::Absent, "the next event says whose it is");
    assert_eq!(there(&before, old.id()).await.mark, Seen::There(mark), "an older agent reads it");
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
