//! A backup of a running VM is a whole image of its own.

use std::path::PathBuf;

use dewpoint_proto::cause::Reason;

use super::host::{TestVm, event, listening, qemu_img, settings, there, until};
use crate::hypervisor::libvirt::Libvirt;
use crate::hypervisor::{
    BackingFile, BackupJob, Call, DiskFormat, Domain, Freeze, FreezeSent, Hypervisor, Seen,
};

/// A running VM whose disk is an overlay on a base, with data in both.
async fn running(libvirt: &Libvirt, name: &str, bytes: u64) -> TestVm {
    let mut vm = TestVm::new(name);
    let base = vm.dir().join("base");
    std::fs::write(&base, vec![0xa5; 1 << 20]).unwrap();
    let (disk, size) = (vm.spec.disk.to_str().unwrap().to_owned(), bytes.to_string());
    qemu_img(&["create", "-q", "-f", "qcow2", "-F", "raw", "-b", base.to_str().unwrap(), &disk, &size]);
    std::process::Command::new("qemu-io")
        .args(["-f", "qcow2", "-c", "write -P 0x5a 64k 128k", &disk])
        .output()
        .unwrap();
    vm.spec.backing = vec![BackingFile { path: base, format: DiskFormat::Raw }];
    libvirt.apply(Call::Define(Box::new(vm.spec.clone()))).await.unwrap();
    libvirt.apply(Call::Start(vm.id())).await.unwrap();
    vm
}

fn target(vm: &TestVm, name: &str, bytes: u64) -> PathBuf {
    let path = vm.dir().join(name);
    qemu_img(&["create", "-q", "-f", "qcow2", path.to_str().unwrap(), &bytes.to_string()]);
    path
}

fn begin(vm: &TestVm, target: PathBuf) -> Call {
    Call::BeginBackup { vm: vm.id(), target, freeze: Freeze::IfItAnswers }
}

fn ended(seen: &Seen<Domain>) -> bool {
    seen.there().is_some_and(|domain| matches!(domain.backup, BackupJob::Completed | BackupJob::Failed(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_vm_is_backed_up_into_a_self_contained_image() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let vm = running(&libvirt, "backup", 8 << 20).await;
    let target = target(&vm, "target.qcow2", 8 << 20);
    let mut events = listening(&libvirt).await;
    libvirt.apply(begin(&vm, target.clone())).await.unwrap();
    event(&mut events, vm.id(), "job-completed").await;
    let seen = until(&libvirt, vm.id(), "backed up", ended).await;
    assert_eq!(seen.there().unwrap().backup, BackupJob::Completed);
    assert_eq!(there(&libvirt, vm.id()).await.backup, BackupJob::Completed, "also when asked again");

    libvirt.apply(Call::PowerOff(vm.id())).await.unwrap();
    let target = target.to_str().unwrap();
    assert!(!qemu_img(&["info", target]).contains("backing file"));
    qemu_img(&["compare", vm.spec.disk.to_str().unwrap(), target]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_backup_is_not_taken_for_the_first() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let vm = running(&libvirt, "second", 8 << 20).await;
    let first = target(&vm, "first.qcow2", 8 << 20);
    libvirt.apply(begin(&vm, first)).await.unwrap();
    until(&libvirt, vm.id(), "backed up", ended).await;
    let missing = vm.dir().join("missing.qcow2");
    libvirt.apply(begin(&vm, missing)).await.unwrap_err();
    assert_eq!(there(&libvirt, vm.id()).await.backup, BackupJob::None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aborted_backup_has_failed_and_leaves_its_target() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let vm = running(&libvirt, "abort", 8 << 20).await;
    libvirt.apply(Call::AbortBackup(vm.id())).await.expect("nothing to abort is no error");
    let file = target(&vm, "target.qcow2", 8 << 20);
    libvirt.apply(begin(&vm, file.clone())).await.unwrap();
    libvirt.apply(Call::AbortBackup(vm.id())).await.unwrap();
    until(&libvirt, vm.id(), "ended", ended).await;
    assert!(file.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_goes_off_fails_its_backup() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let vm = running(&libvirt, "off", 8 << 20).await;
    let file = target(&vm, "target.qcow2", 8 << 20);
    libvirt.apply(begin(&vm, file.clone())).await.unwrap();
    libvirt.apply(Call::PowerOff(vm.id())).await.unwrap();
    let off = there(&libvirt, vm.id()).await;
    assert!(!matches!(off.backup, BackupJob::Running { .. }), "{off:?}");
    let refused = libvirt.apply(begin(&vm, file)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::HypervisorError);
}

#[tokio::test(flavor = "multi_thread")]
async fn thawing_a_guest_without_an_agent_is_nothing_to_do() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let vm = running(&libvirt, "thaw", 8 << 20).await;
    libvirt.apply(Call::Thaw { vm: vm.id(), sent: FreezeSent::Perhaps }).await.unwrap();
}
