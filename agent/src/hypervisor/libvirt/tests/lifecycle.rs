//! A VM's life, and what a new agent process finds of it.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::{EventId, Generation, RunId, VmId};
use dewpoint_proto::vm_state::Power;

use super::host::{TestVm, event, listening, raw, settings, there, until};
use crate::hypervisor::libvirt::Libvirt;
use crate::hypervisor::{BackupJob, Call, Control, FreezeSent, Hypervisor, Mark, Seen, Wanted};

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_is_defined_started_marked_powered_off_and_undefined() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let vm = TestVm::new("life");
    let id = vm.id();
    assert_eq!(libvirt.observe(id).await, Seen::Absent);

    libvirt.apply(Call::Define(Box::new(vm.spec.clone()))).await.unwrap();
    let off = there(&libvirt, id).await;
    assert_eq!(
        (off.power, off.name.as_str()),
        (Power::Off, format!("life.{}", &id.to_string()[28..]).as_str())
    );
    assert_eq!((off.mark, off.live), (Seen::There(vm.spec.mark.clone()), Seen::Absent));

    let mut events = listening(&libvirt).await;
    libvirt.apply(Call::Start(id)).await.unwrap();
    let on = there(&libvirt, id).await;
    assert_eq!(
        (on.power, on.control.clone(), on.backup.clone()),
        (Power::Running, Control::Idle, BackupJob::None)
    );
    assert_eq!(on.live, Seen::There(vm.spec.mark.clone()));
    event(&mut events, id, "started/booted").await;

    // A mark written while it runs is for the next run; this run keeps the one it was started with.
    let event_id = EventId::fresh();
    let next = Mark {
        generation: Generation(2),
        event: event_id,
        run: Some(RunId::from(event_id)),
        wanted: Wanted::Off,
        ..vm.spec.mark.clone()
    };
    libvirt.apply(Call::Mark(next.clone())).await.unwrap();
    let marked = there(&libvirt, id).await;
    assert_eq!((marked.mark, marked.live), (Seen::There(next), Seen::There(vm.spec.mark.clone())));

    libvirt.apply(Call::PowerOff(id)).await.unwrap();
    assert_eq!(event(&mut events, id, "stopped").await, "stopped/destroyed");
    let off = there(&libvirt, id).await;
    assert_eq!((off.power, off.detail.as_str(), off.live), (Power::Off, "shutoff/destroyed", Seen::Absent));
    assert_eq!(vm.qemu_count(), 0);

    libvirt.apply(Call::Undefine(id)).await.unwrap();
    assert_eq!(libvirt.observe(id).await, Seen::Absent);
    libvirt.apply(Call::Undefine(id)).await.expect("undefine is repeatable");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_agent_finds_the_same_vm_in_the_same_run() {
    let vm = TestVm::new("restart");
    let (before, pid) = {
        let libvirt = Libvirt::new(settings()).unwrap();
        libvirt.apply(Call::Define(Box::new(vm.spec.clone()))).await.unwrap();
        libvirt.apply(Call::Start(vm.id())).await.unwrap();
        (there(&libvirt, vm.id()).await, vm.pid())
    };
    let libvirt = Libvirt::new(settings()).unwrap();
    assert_eq!(there(&libvirt, vm.id()).await, before);
    assert_eq!(libvirt.list().await.unwrap()[&vm.id()], before);
    assert_eq!(vm.pid(), pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_what_runs_and_powering_off_what_is_off_fail_and_change_nothing() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let vm = TestVm::new("twice");
    libvirt.apply(Call::Define(Box::new(vm.spec.clone()))).await.unwrap();
    let refused = libvirt.apply(Call::PowerOff(vm.id())).await.unwrap_err();
    assert_eq!((refused.reason, refused.fields["libvirt_code"].as_str()), (Reason::HypervisorError, "55"));

    libvirt.apply(Call::Start(vm.id())).await.unwrap();
    let pid = vm.pid();
    let refused = libvirt.apply(Call::Start(vm.id())).await.unwrap_err();
    assert_eq!((refused.reason, refused.fields["libvirt_code"].as_str()), (Reason::HypervisorError, "55"));
    let refused = libvirt.apply(Call::Undefine(vm.id())).await.unwrap_err();
    assert_eq!(refused.reason, Reason::HypervisorError);
    assert_eq!(vm.pid(), pid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_qemu_is_seen_and_told() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let vm = TestVm::new("killed");
    libvirt.apply(Call::Define(Box::new(vm.spec.clone()))).await.unwrap();
    libvirt.apply(Call::Start(vm.id())).await.unwrap();
    let mut events = listening(&libvirt).await;
    nix::sys::signal::kill(vm.pid(), nix::sys::signal::Signal::SIGKILL).unwrap();
    assert_eq!(event(&mut events, vm.id(), "stopped").await, "stopped/failed");
    let seen = until(&libvirt, vm.id(), "off", |seen| seen.there().is_some_and(|d| !d.is_on())).await;
    assert_eq!(seen.there().unwrap().detail, "shutoff/crashed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_managed_save_does_not_bring_an_old_run_back() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let vm = TestVm::new("saved");
    libvirt.apply(Call::Define(Box::new(vm.spec.clone()))).await.unwrap();
    libvirt.apply(Call::Start(vm.id())).await.unwrap();
    raw().lookup_domain_by_uuid(vm.id().0).unwrap().managed_save(0).unwrap();
    let event_id = EventId::fresh();
    let next = Mark { run: Some(RunId::from(event_id)), ..vm.spec.mark.clone() };
    libvirt.apply(Call::Mark(next.clone())).await.unwrap();
    libvirt.apply(Call::Start(vm.id())).await.unwrap();
    assert_eq!(there(&libvirt, vm.id()).await.live, Seen::There(next));
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_for_an_absent_domain_fail() {
    let libvirt = Libvirt::new(settings()).unwrap();
    let nobody = VmId::fresh();
    for call in [
        Call::Start(nobody),
        Call::PowerOff(nobody),
        Call::AskShutdown(nobody),
        Call::Thaw { vm: nobody, sent: FreezeSent::Perhaps },
    ] {
        let refused = libvirt.apply(call).await.unwrap_err();
        assert_eq!(refused.fields["libvirt_code"], "42");
    }
}
