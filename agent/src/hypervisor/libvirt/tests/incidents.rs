//! How a VM ends, or goes on otherwise, on real libvirt, is told as what it was: state and events, as the keeper takes
//! them.

use dewpoint_proto::vm_state::{IncidentKind, Power};
use nix::sys::signal::{Signal, kill};
use tokio::sync::broadcast;

use super::host::{TestVm, event, listening, raw, settings, there, until};
use crate::execute::keep::incident::{running_on, why_off, why_paused};
use crate::hypervisor::libvirt::Libvirt;
use crate::hypervisor::{Call, Domain, DomainEvent, Hypervisor, Seen};

struct Running {
    libvirt: Libvirt,
    vm: TestVm,
    events: broadcast::Receiver<DomainEvent>,
}

impl Running {
    async fn new(name: &str) -> Self {
        let libvirt = Libvirt::new(settings()).unwrap();
        let vm = TestVm::new(name);
        let mut events = listening(&libvirt).await;
        libvirt.apply(Call::Define(Box::new(vm.spec.clone()))).await.unwrap();
        libvirt.apply(Call::Start(vm.id())).await.unwrap();
        event(&mut events, vm.id(), "started").await;
        Self { libvirt, vm, events }
    }

    fn handle(&self) -> virt::domain::Domain {
        raw().lookup_domain_by_uuid(self.vm.id().0).unwrap()
    }

    async fn off(&self) -> Domain {
        let off = |seen: &Seen<Domain>| seen.there().is_some_and(|domain| domain.power == Power::Off);
        match until(&self.libvirt, self.vm.id(), "off", off).await {
            Seen::There(domain) => domain,
            other => panic!("{other:?}"),
        }
    }

    /// What libvirt said of it, up to and with this word.
    async fn heard(&mut self, last: &str) -> Vec<String> {
        let mut heard = Vec::new();
        while !heard.iter().any(|word: &String| word.starts_with(last)) {
            heard.push(event(&mut self.events, self.vm.id(), "").await);
        }
        heard
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_qemu_that_dies_is_told_from_one_that_is_ended_and_one_that_is_destroyed() {
    for (name, told) in [
        ("killed", IncidentKind::QemuCrashed),
        ("ended", IncidentKind::QemuStopped),
        ("destroyed", IncidentKind::DestroyedByHand),
    ] {
        let mut running = Running::new(name).await;
        match told {
            IncidentKind::QemuCrashed => kill(running.vm.pid(), Signal::SIGKILL).unwrap(),
            IncidentKind::QemuStopped => kill(running.vm.pid(), Signal::SIGTERM).unwrap(),
            _ => running.handle().destroy().unwrap(),
        }
        let (domain, heard) = (running.off().await, running.heard("stopped").await);
        assert_eq!(why_off(&domain.detail, &heard), told, "{} {heard:?}", domain.detail);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_told_and_the_run_goes_on() {
    let mut running = Running::new("reset").await;
    let before = there(&running.libvirt, running.vm.id()).await;
    running.handle().reset().unwrap();
    let heard = running.heard("reboot").await;
    assert_eq!(running_on(&heard), Some(IncidentKind::GuestRebooted));
    let after = there(&running.libvirt, running.vm.id()).await;
    assert_eq!((after.power, &after.live), (Power::Running, &before.live));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_vm_that_somebody_pauses_is_told_as_that() {
    let running = Running::new("paused").await;
    running.handle().suspend().unwrap();
    let paused = there(&running.libvirt, running.vm.id()).await;
    assert_eq!(why_paused(&paused.detail), Some(IncidentKind::PausedByHand), "{}", paused.detail);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_that_somebody_writes_anew_is_told() {
    let mut running = Running::new("edited").await;
    let xml = running.handle().xml_desc(virt_sys::VIR_DOMAIN_XML_INACTIVE).unwrap();
    raw()
        .define_domain_xml(&xml.replace("<vcpu placement='static'>1<", "<vcpu placement='static'>2<"))
        .unwrap();
    let heard = running.heard("defined").await;
    assert_eq!(running_on(&heard), Some(IncidentKind::EditedByHand));
}
