//! What a guest, its QEMU or its host does without an event: told as what it was, and made up for by the VM's policy.

use dewpoint_proto::wire::event::{IncidentKind, Placement, Power, Restart, VmState};
use dewpoint_proto::wire::fleet::CreateVmRequest;
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::guest::Guest;
use dewpoint_tests::host::rules;
use dewpoint_tests::journal::{Journal, Moment};
use dewpoint_tests::lab::Lab;
use dewpoint_tests::process::signal;
use dewpoint_tests::volume::Volume;
use dewpoint_tests::wait::{BOOT, until};
use dewpoint_tests::{request, shell};
use nix::sys::signal::Signal;

fn kept(name: &str, restart: Restart) -> CreateVmRequest {
    CreateVmRequest { restart: restart.into(), ..request::vm(name) }
}

async fn made(fleet: &Fleet, name: &str, restart: Restart) -> (String, Guest) {
    let vm = fleet.caller.done(kept(&fleet.lab.name(name), restart)).await.vm_id;
    let guest = fleet.guest(&vm).await;
    (vm, guest)
}

fn happened(seen: &VmState, kind: IncidentKind) -> bool {
    seen.incident.as_ref().is_some_and(|incident| incident.kind() == kind)
}

fn pull(fleet: &Fleet, vm: &str) {
    signal(fleet.domain(vm).qemu_pid().unwrap(), Signal::SIGKILL);
}

/// Promise 2: one run, known to all.
fn assert_one_run(fleet: &Fleet, vm: &str, seen: &VmState) {
    let domain = fleet.domain(vm);
    let run = Some(seen.run.clone());
    assert_eq!((domain.live("run"), domain.mark("run")), (run.clone(), run));
    assert!(rules(&fleet.lab).contains(&domain.tap().unwrap()), "a VM that runs is shielded");
}

#[tokio::test]
async fn a_vm_that_crashes_is_on_again_and_one_that_powers_itself_off_is_left() {
    let fleet = Fleet::start().await;
    let (vm, guest) = made(&fleet, "web", Restart::OnCrash).await;
    let first = guest.until_up().await;
    let created = fleet.domain(&vm).live("run");

    pull(&fleet, &vm);
    let second = guest.until_rebooted(&first).await;
    let is_on_after = |kind| {
        move |seen: &VmState| seen.power() == Power::Running && happened(seen, kind) && seen.restarts > 0
    };
    let crashed = fleet.caller.until_told(&vm, "QEMU died", is_on_after(IncidentKind::QemuCrashed)).await;
    assert_ne!(Some(crashed.run.clone()), created, "a run of its own");
    assert_one_run(&fleet, &vm, &crashed);

    guest.does("crash").await;
    let third = guest.until_rebooted(&second).await;
    let panicked =
        fleet.caller.until_told(&vm, "it panicked", is_on_after(IncidentKind::GuestPanicked)).await;
    assert_ne!(panicked.run, crashed.run);
    assert_one_run(&fleet, &vm, &panicked);

    guest.does("reboot").await;
    guest.until_rebooted(&third).await;
    let rebooted =
        fleet.caller.until_told(&vm, "it rebooted", is_on_after(IncidentKind::GuestRebooted)).await;
    assert_eq!(rebooted.run, panicked.run, "a reboot of its own is the same run");

    guest.does("poweroff").await;
    let is_left = |seen: &VmState| {
        seen.power() == Power::Off
            && seen.keeping.contains("left as it is")
            && happened(seen, IncidentKind::GuestPoweredOff)
    };
    let off = fleet.caller.until_told(&vm, "it is left off", is_left).await;
    assert!(off.wanted_on && !fleet.domain(&vm).active);
    let started = fleet.caller.done(request::start(&vm)).await;
    assert_eq!(fleet.domain(&vm).live("run"), Some(started.event_id));
}

#[tokio::test]
async fn never_leaves_it_off_and_always_does_not() {
    let fleet = Fleet::start().await;
    let (never, first) = made(&fleet, "never", Restart::Never).await;
    let (always, second) = made(&fleet, "always", Restart::Always).await;
    let before = second.until_up().await;
    second.does("poweroff").await;
    first.until_up().await;
    pull(&fleet, &never);
    let is_left =
        |seen: &VmState| seen.keeping.contains("`never`") && happened(seen, IncidentKind::QemuCrashed);
    fleet.caller.until_told(&never, "it is left off", is_left).await;
    second.until_rebooted(&before).await;
    let is_on =
        |seen: &VmState| seen.power() == Power::Running && happened(seen, IncidentKind::GuestPoweredOff);
    fleet.caller.until_told(&always, "it is on again", is_on).await;
    assert!(!fleet.domain(&never).active);
}

/// Promise 9: a guest that writes to a disk that has no room is paused by libvirt, loses nothing, and is not resumed blindly.
#[tokio::test]
async fn a_guest_whose_disk_runs_full_is_paused_told_and_goes_on_when_somebody_says_so() {
    let lab = Lab::new();
    let volume = Volume::mount(&lab.dir().join("agent"), 16 << 30);
    let fleet = Fleet::start_in(lab).await;
    let (vm, guest) = made(&fleet, "web", Restart::Always).await;
    guest.until_up().await;
    guest.mark("before").await;
    let run = fleet.domain(&vm).live("run");
    volume.fill();
    let is_paused = |seen: &VmState| {
        seen.power() == Power::Paused
            && seen.keeping.contains("virsh resume")
            && happened(seen, IncidentKind::PausedOnIoError)
    };
    // Each marker is a commit of its file system, and sooner or later one needs room.
    let mut marks = 0_u32;
    until("the guest is paused on its full disk, and that is told", BOOT, async || {
        marks += 1;
        let _ = guest.try_mark(&format!("mark-{marks}")).await;
        let told = fleet.caller.vm(&vm).await.map_err(|cause| cause.to_string())?.observed;
        told.clone().filter(is_paused).map(drop).ok_or_else(|| format!("{told:?}"))
    })
    .await;
    volume.free();
    assert_eq!(fleet.domain(&vm).live("run"), run, "nobody powered it off");
    let told = fleet.caller.vm(&vm).await.unwrap().observed.unwrap();
    assert!(is_paused(&told), "room alone resumes nothing: {told:?}");
    shell::run("virsh", ["-q", "-c", "qemu:///system", "resume", &fleet.domain(&vm).name]);
    let is_on = |seen: &VmState| seen.power() == Power::Running && seen.keeping.is_empty();
    fleet.caller.until_told(&vm, "it runs on", is_on).await;
    guest.until_up().await;
    guest.mark("after").await;
    assert_eq!(fleet.domain(&vm).live("run"), run, "the same run");
}

/// Promise 11.
#[tokio::test]
async fn after_a_power_cut_bound_vms_start_alone_and_movable_ones_when_the_coordinator_is_there() {
    let mut fleet = Fleet::start().await;
    let (bound, guest) = made(&fleet, "bound", Restart::Never).await;
    let movable = kept(&fleet.lab.name("movable"), Restart::Always);
    let movable = CreateVmRequest { placement: Placement::Movable.into(), ..movable };
    let movable = fleet.caller.done(movable).await.vm_id;
    let off = fleet.caller.done(request::vm_left_off(&fleet.lab.name("off"))).await.vm_id;
    let before = guest.until_up().await;

    fleet.coordinator.kill();
    fleet.agent.kill();
    for vm in [&bound, &movable] {
        pull(&fleet, vm);
    }
    let _ = shell::output("nft", ["delete", "table", "bridge", &fleet.lab.table()]);
    fleet.agent.after_a_boot();
    fleet.agent.start().await;
    guest.until_rebooted(&before).await;
    assert!(rules(&fleet.lab).contains(&fleet.domain(&bound).tap().unwrap()), "shielded before the start");
    assert!(!fleet.domain(&movable).active, "it waits for the coordinator");

    fleet.coordinator.start().await;
    let is_on = |seen: &VmState| seen.power() == Power::Running && happened(seen, IncidentKind::HostWentDown);
    for vm in [&bound, &movable] {
        let seen = fleet.caller.until_told(vm, "it is on again", is_on).await;
        assert_one_run(&fleet, vm, &seen);
    }
    assert!(!fleet.domain(&off).active, "it is wanted off");
}

/// Promise 3: what was half done when the power went is finished first, without a coordinator, and told once there is one.
#[tokio::test]
async fn a_power_cut_in_the_middle_of_a_build_or_a_reboot_leaves_neither_half_done() {
    let mut fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    let journal = Journal::of(&fleet.agent);
    let create = fleet.caller.ask(request::vm(&fleet.lab.name("db"))).await.unwrap();
    let reboot = fleet.caller.ask(request::hard_reboot(&vm)).await.unwrap();
    journal.until(&create.event_id, Moment::Step("define")).await;
    journal.until(&reboot.event_id, Moment::Step("power-off")).await;

    fleet.coordinator.kill();
    fleet.agent.kill();
    for domain in fleet.domains() {
        if let Some(pid) = domain.qemu_pid() {
            signal(pid, Signal::SIGKILL);
        }
    }
    let _ = shell::output("nft", ["delete", "table", "bridge", &fleet.lab.table()]);
    fleet.agent.after_a_boot();
    fleet.agent.start().await;
    for event in [&create, &reboot] {
        until("it is finished while nobody is there to tell", BOOT, async || {
            match journal.stage(&event.event_id) {
                Some(stage) if stage == "finished" => Ok(()),
                stage => Err(format!("{stage:?}")),
            }
        })
        .await;
    }

    fleet.coordinator.start().await;
    for event in [&create, &reboot] {
        fleet.caller.succeeded(&event.event_id).await;
        let domain = fleet.domain(&event.vm_id);
        assert_eq!((domain.active, domain.live("run")), (true, Some(event.event_id.clone())));
        assert!(rules(&fleet.lab).contains(&domain.tap().unwrap()), "a VM that runs is shielded");
        assert_eq!(journal.reports(&event.event_id), 1);
    }
    assert_eq!(fleet.domains().len(), 2);
}
