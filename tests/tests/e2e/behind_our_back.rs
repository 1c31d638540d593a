//! Domains that somebody changes with libvirt's own tools: named, with what to do, and never touched. Promise 5.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::wire::event::{IncidentKind, Power, Restart, VmState};
use dewpoint_proto::wire::fleet::CreateVmRequest;
use dewpoint_tests::caller::Ask;
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::host::files;
use dewpoint_tests::{request, shell};

/// The namespace of our mark.
const MARK: &str = "https://dewpoint.dev/ns/domain/1";

/// libvirt's own command.
fn virsh(args: &[&str]) {
    let args = ["-c", "qemu:///system"].iter().chain(args);
    let done = shell::output("virsh", args);
    assert!(done.status.success(), "virsh: {}", String::from_utf8_lossy(&done.stderr));
}

async fn made(fleet: &Fleet, name: &str) -> (String, String) {
    let create = CreateVmRequest { nics: Vec::new(), ..request::vm(&fleet.lab.name(name)) };
    let vm = fleet.caller.done(create).await.vm_id;
    let domain = fleet.domain(&vm).name;
    (vm, domain)
}

async fn told(fleet: &Fleet, vm: &str, says: &str) -> VmState {
    let attention = |seen: &VmState| seen.attention.as_ref().is_some_and(|cause| cause.text.contains(says));
    let seen = fleet.caller.until_told(vm, says, attention).await;
    assert!(seen.attention.as_ref().is_some_and(|cause| !cause.advice.is_empty()), "{seen:?}");
    seen
}

fn happened(seen: &VmState, kind: IncidentKind) -> bool {
    seen.incident.as_ref().is_some_and(|incident| incident.kind() == kind)
}

#[tokio::test]
async fn what_somebody_does_with_virsh_is_told_as_that_and_left() {
    let fleet = Fleet::start().await;
    let (vm, name) = made(&fleet, "web").await;
    virsh(&["suspend", &name]);
    let is_paused = |seen: &VmState| {
        seen.power() == Power::Paused
            && seen.keeping.contains("virsh resume")
            && happened(seen, IncidentKind::PausedByHand)
    };
    fleet.caller.until_told(&vm, "it is paused", is_paused).await;
    virsh(&["resume", &name]);
    let resumed = |seen: &VmState| seen.power() == Power::Running && seen.keeping.is_empty();
    fleet.caller.until_told(&vm, "it runs", resumed).await;

    virsh(&["destroy", &name]);
    let is_off = |seen: &VmState| {
        seen.power() == Power::Off
            && seen.keeping.contains("left as it is")
            && happened(seen, IncidentKind::DestroyedByHand)
    };
    fleet.caller.until_told(&vm, "it is left off", is_off).await;
    virsh(&["domrename", &name, &fleet.lab.name("mine")]);
    told(&fleet, &vm, "renamed").await;
    virsh(&["domrename", &fleet.lab.name("mine"), &name]);
    fleet.caller.until_told(&vm, "all is as it was made", |seen| seen.attention.is_none()).await;

    let disks = files(&fleet.agent.vm_dir(&vm));
    virsh(&["undefine", &name]);
    let gone = told(&fleet, &vm, "undefined").await;
    assert_eq!((gone.power(), gone.gone), (Power::Absent, false), "absent is not gone");
    assert_eq!(files(&fleet.agent.vm_dir(&vm)), disks, "its disks stay");
    fleet.caller.done(request::destroy_now(&vm)).await;
    fleet.assert_gone(&vm, None);
}

/// Promise 11: it may go on from where it was saved, so not even `always` starts it; an event does, and says what it takes.
#[tokio::test]
async fn what_somebody_saved_is_told_and_started_by_an_event_alone() {
    let fleet = Fleet::start().await;
    let create = CreateVmRequest { nics: Vec::new(), ..request::vm(&fleet.lab.name("web")) };
    let vm = fleet.caller.done(CreateVmRequest { restart: Restart::Always.into(), ..create }).await.vm_id;
    let name = fleet.domain(&vm).name;
    virsh(&["managedsave", &name]);
    let is_left = |seen: &VmState| {
        seen.power() == Power::Off
            && seen.keeping.contains("saved")
            && happened(seen, IncidentKind::SavedByHand)
    };
    fleet.caller.until_told(&vm, "it was saved, and is left off", is_left).await;
    let started = fleet.caller.done(request::start(&vm)).await;
    let domain = fleet.domain(&vm);
    assert_eq!((domain.active, domain.live("run")), (true, Some(started.event_id)), "booted anew");
    let as_wanted = |seen: &VmState| seen.power() == Power::Running && seen.keeping.is_empty();
    fleet.caller.until_told(&vm, "it runs", as_wanted).await;
}

#[tokio::test]
async fn a_copy_of_a_domain_that_claims_its_vm_is_named_and_left_alone() {
    let fleet = Fleet::start().await;
    let (vm, name) = made(&fleet, "web").await;
    let copy = dewpoint_proto::ids::VmId::fresh().to_string();
    let domain = fleet.domain(&vm);
    // As virt-clone would: another UUID, another name, the same metadata.
    let xml = domain.persistent.replace(&format!("<uuid>{vm}</uuid>"), &format!("<uuid>{copy}</uuid>"));
    let xml =
        xml.replace(&format!("<name>{name}</name>"), &format!("<name>{}</name>", fleet.lab.name("copy")));
    let file = fleet.lab.dir().join("copy.xml");
    std::fs::write(&file, xml).unwrap();
    virsh(&["define", &file.to_string_lossy()]);
    told(&fleet, &vm, "bears a copy of its mark").await;
    let run = fleet.domain(&vm).live("run");
    fleet.caller.done(request::hard_reboot(&vm)).await;
    assert_ne!(fleet.domain(&vm).live("run"), run, "the VM itself is cared for");
    assert!(!fleet.domain(&copy).active && fleet.domain(&copy).persistent.contains(&copy), "the copy is not");
    fleet.caller.done(request::destroy_now(&vm)).await;
    assert_eq!(fleet.domains().len(), 1, "the copy is still there");
}

#[tokio::test]
async fn a_domain_whose_mark_somebody_removed_is_named_and_not_touched_any_more() {
    let fleet = Fleet::start().await;
    let (vm, name) = made(&fleet, "web").await;
    let qemu = fleet.domain(&vm).qemu_pid();
    for copy in ["--live", "--config"] {
        virsh(&["metadata", &name, MARK, copy, "--remove"]);
    }
    told(&fleet, &vm, "no mark of Dewpoint").await;
    for request in [Ask::from(request::hard_reboot(&vm)), Ask::from(request::destroy_now(&vm))] {
        let event = fleet.caller.ask(request).await.unwrap();
        let (_, cause) = fleet.caller.did_not_succeed(&event.event_id).await;
        assert_eq!(cause.reason, Reason::ForeignDomain, "{cause:?}");
    }
    assert!(qemu.is_some() && fleet.domain(&vm).qemu_pid() == qemu, "it runs on");
    assert!(!files(&fleet.agent.vm_dir(&vm)).is_empty(), "on its disk");
}
