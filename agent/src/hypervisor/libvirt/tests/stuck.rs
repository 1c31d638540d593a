//! One QEMU that hangs stops nothing else, and a call that overran is not forgotten.

use std::time::{Duration, Instant};

use dewpoint_proto::cause::Reason;
use nix::sys::signal::{Signal, kill};

use super::host::{TestVm, impatient, settings, there, until};
use crate::hypervisor::libvirt::Libvirt;
use crate::hypervisor::{Call, Control, Domain, Hypervisor, Seen};

async fn running(libvirt: &Libvirt, name: &str) -> TestVm {
    let vm = TestVm::new(name);
    libvirt.apply(Call::Define(Box::new(vm.spec.clone()))).await.unwrap();
    libvirt.apply(Call::Start(vm.id())).await.unwrap();
    vm
}

fn is_idle(seen: &Seen<Domain>) -> bool {
    seen.there().is_some_and(|domain| domain.control == Control::Idle)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_qemu_makes_its_own_domain_busy_and_no_other() {
    let libvirt = Libvirt::new(impatient(Duration::from_millis(500))).unwrap();
    let (stuck, fine) = (running(&libvirt, "stuck").await, running(&libvirt, "fine").await);
    kill(stuck.pid(), Signal::SIGSTOP).unwrap();

    let began = Instant::now();
    let overran = libvirt.apply(Call::AskShutdown(stuck.id())).await.unwrap_err();
    assert_eq!(overran.reason, Reason::CallOverran);
    assert!(began.elapsed() < Duration::from_secs(5), "the deadline is kept");

    assert!(matches!(there(&libvirt, stuck.id()).await.control, Control::Busy(_)));
    let refused = libvirt.apply(Call::Mark(stuck.spec.mark.clone())).await.unwrap_err();
    assert_eq!(refused.reason, Reason::CallOverran, "one call at a time, past the deadline too");
    assert_eq!(there(&libvirt, fine.id()).await.control, Control::Idle);
    libvirt.apply(Call::Mark(fine.spec.mark.clone())).await.unwrap();
    assert_eq!(libvirt.list().await.unwrap().len(), 2);

    // A new agent did not make the call, and must not plan over it either.
    let restarted = Libvirt::new(settings()).unwrap();
    assert!(matches!(there(&restarted, stuck.id()).await.control, Control::Busy(_)));

    kill(stuck.pid(), Signal::SIGCONT).unwrap();
    until(&libvirt, stuck.id(), "idle", is_idle).await;
    until(&restarted, stuck.id(), "idle", is_idle).await;
    libvirt.apply(Call::Mark(stuck.spec.mark.clone())).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_qemu_can_be_powered_off() {
    let libvirt = Libvirt::new(impatient(Duration::from_millis(500))).unwrap();
    let stuck = running(&libvirt, "stuck").await;
    let pid = stuck.pid();
    kill(pid, Signal::SIGSTOP).unwrap();
    libvirt.apply(Call::AskShutdown(stuck.id())).await.unwrap_err();

    libvirt.apply(Call::PowerOff(stuck.id())).await.unwrap();
    let off = until(&libvirt, stuck.id(), "off and idle", is_idle).await;
    assert!(!off.there().unwrap().is_on());
    assert_eq!(stuck.qemu_count(), 0);
}
