//! The keeper on an agent that lives, is cut off, and comes back after a boot of the host: what is wanted on is on
//! again, once, by one run; what is to be left is left. Promises 2, 3, 5 and 11.

use dewpoint_agent::execute::keep::decide::Word;
use dewpoint_agent::hypervisor::Call;
use dewpoint_agent::hypervisor::fake::script::Fault;
use dewpoint_agent::hypervisor::fake::world::{Guest, World};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Kind, Stop, Stubborn};
use dewpoint_proto::ids::{RunId, VmId};
use dewpoint_proto::spec::{Placement, Restart};
use dewpoint_proto::vm_state::{IncidentKind, Power};

use crate::rig::{PATIENCE, Rig, create_kept};

fn stop() -> Kind {
    Kind::Stop(Stop { stubborn: Stubborn::Force, timeout_seconds: None })
}

fn host_with_vm(restart: Restart) -> (Rig, VmId) {
    let mut rig = Rig::new();
    let vm = vm_on(&mut rig, restart, Placement::Bound);
    (rig, vm)
}

fn vm_on(rig: &mut Rig, restart: Restart, placement: Placement) -> VmId {
    let vm = VmId::fresh();
    let made = rig.send(vm, create_kept(restart, placement));
    assert_eq!(rig.ended(made).name(), "succeeded");
    vm
}

fn goes_off(rig: &Rig, vm: VmId, detail: &str) {
    rig.world.change(|state| state.power_off(vm, detail));
}

fn is_on(world: &World, vm: VmId) -> bool {
    world.state().domains.get(&vm).is_some_and(|domain| domain.power == Power::Running)
}

fn runs_of(world: &World, vm: VmId) -> Vec<RunId> {
    world.state().runs.iter().filter(|(of, ..)| *of == vm).map(|(_, run, _)| *run).collect()
}

/// On, by the run that everyone knows of, and powered on as often as that.
fn assert_on(rig: &Rig, vm: VmId, power_ons: usize, at: &str) {
    let (state, row) = (rig.world.state(), rig.row(vm).expect("a row"));
    assert_eq!(state.wrongs, Vec::<String>::new(), "{at}");
    let runs = runs_of(&rig.world, vm);
    assert_eq!(runs.len(), power_ons, "{at}: {runs:?}");
    let domain = &state.domains[&vm];
    let live = domain.live.as_ref().and_then(|mark| mark.run);
    let persistent = domain.spec.as_ref().and_then(|spec| spec.mark.run);
    assert_eq!([live, persistent, row.run], [runs.last().copied(); 3], "{at}");
    assert!(state.rules.contains_key(&vm), "{at}: anti-spoofing rules are set");
}

fn happened(rig: &Rig, vm: VmId) -> Option<IncidentKind> {
    rig.row(vm).and_then(|row| row.kept.incident).map(|incident| incident.kind)
}

#[test]
fn a_restart_by_policy_cut_at_any_point_is_one_run() {
    let (rig, vm) = host_with_vm(Restart::OnCrash);
    rig.world.fuse().mend();
    goes_off(&rig, vm, "shutoff/crashed");
    rig.until(|world| is_on(world, vm));
    rig.until_kept(vm, |kept| kept.noted.is_none() && !kept.starting);
    assert_on(&rig, vm, 2, "uncut");
    let points = rig.world.fuse().trace();
    assert!(points.iter().any(|point| point == "start: sent"), "{points:?}");
    for (point, at) in points.iter().enumerate() {
        let (mut rig, vm) = host_with_vm(Restart::OnCrash);
        rig.world.fuse().burn_at(point);
        goes_off(&rig, vm, "shutoff/crashed");
        rig.until_or_cut(|world| runs_of(world, vm).len() == 2);
        rig.kill();
        rig.start();
        rig.until(|world| is_on(world, vm));
        rig.until_kept(vm, |kept| kept.noted.is_none() && !kept.starting);
        assert_on(&rig, vm, 2, &format!("cut at {point} ({at})"));
        assert_eq!(happened(&rig, vm), Some(IncidentKind::QemuCrashed));
    }
}

/// libvirt is slow to answer as long as it ends any VM's QEMU.
#[test]
fn what_is_told_while_libvirt_is_slow_to_answer_is_heard() {
    let (rig, vm) = host_with_vm(Restart::OnCrash);
    let script = rig.world.script();
    script.always("inspect-domains", Fault::fails());
    rig.world.change(|state| state.tell(vm, "defined/updated"));
    rig.until(|world| world.script().made("inspect-domains") > 0);
    ["list-domains", "inspect-domains"].iter().for_each(|look| script.shut(look));
    let lists = script.made("list-domains");
    rig.until(|world| world.script().made("list-domains") > lists);
    rig.world.change(|state| {
        state.tell(vm, "crashed/panicked");
        state.power_off_untold(vm, "shutoff/crashed");
        state.tell(vm, "stopped/crashed");
    });
    script.let_go("list-domains");
    rig.until(|world| is_on(world, vm));
    assert_eq!(happened(&rig, vm), Some(IncidentKind::GuestPanicked));
}

/// Its state changes first, and other connections may see that before this one is told.
#[test]
fn an_end_that_is_seen_before_it_is_told_of_is_not_misjudged() {
    let (mut rig, vm) = host_with_vm(Restart::OnCrash);
    rig.is_told_within(PATIENCE);
    let looks = rig.world.script().made("observe-domain");
    rig.world.change(|state| state.power_off_untold(vm, "shutoff/crashed"));
    rig.until(|world| world.script().made("observe-domain") > looks);
    rig.world.change(|state| {
        state.tell(vm, "crashed/panicked");
        state.tell(vm, "stopped/crashed");
    });
    rig.until(|world| is_on(world, vm));
    assert_eq!(happened(&rig, vm), Some(IncidentKind::GuestPanicked));
}

#[test]
fn a_guest_that_powers_itself_off_stays_off_unless_always() {
    let (rig, vm) = host_with_vm(Restart::OnCrash);
    goes_off(&rig, vm, "shutoff/shutdown");
    rig.until_left(vm, |keeping| keeping.contains("powered itself off"));
    assert_eq!(happened(&rig, vm), Some(IncidentKind::GuestPoweredOff));
    assert_eq!(runs_of(&rig.world, vm).len(), 1);
    let (rig, vm) = host_with_vm(Restart::Always);
    goes_off(&rig, vm, "shutoff/shutdown");
    rig.until(|world| is_on(world, vm));
    rig.until_kept(vm, |kept| kept.noted.is_none() && !kept.starting);
    assert_on(&rig, vm, 2, "always");
}

#[test]
fn what_was_left_off_is_left_by_the_next_agent_though_libvirt_forgot_why() {
    let (mut rig, vm) = host_with_vm(Restart::OnCrash);
    goes_off(&rig, vm, "shutoff/shutdown");
    rig.until_left(vm, |keeping| keeping.contains("powered itself off"));
    rig.kill();
    rig.world.change(|state| {
        if let Some(domain) = state.domains.get_mut(&vm) {
            domain.detail = "shutoff/unknown".to_owned();
        }
    });
    rig.start();
    rig.until_left(vm, |keeping| keeping.contains("powered itself off"));
    assert_eq!(runs_of(&rig.world, vm).len(), 1);
}

/// Promise 11: it may run there, and the next agent knows that, though libvirt does not.
#[test]
fn what_somebody_migrated_away_is_started_by_an_event_alone() {
    let (mut rig, vm) = host_with_vm(Restart::Always);
    goes_off(&rig, vm, "shutoff/migrated");
    rig.until_left(vm, |keeping| keeping.contains("migrated it away"));
    rig.kill();
    rig.world.change(|state| {
        if let Some(domain) = state.domains.get_mut(&vm) {
            domain.detail = "shutoff/unknown".to_owned();
        }
    });
    rig.start();
    rig.until_left(vm, |keeping| keeping.contains("migrated it away"));
    assert_eq!(happened(&rig, vm), Some(IncidentKind::MigratedAway));
    assert_eq!(runs_of(&rig.world, vm).len(), 1);
    let started = rig.send(vm, Kind::Start);
    assert_eq!(rig.ended(started).name(), "succeeded");
    assert_on(&rig, vm, 2, "an event starts it");
}

#[test]
fn a_vm_that_never_stays_on_is_left_after_its_limit_and_an_event_tries_again() {
    let (mut rig, vm) = host_with_vm(Restart::Always);
    let limit = usize::try_from(Rig::RESTARTS).expect("small");
    for nth in 0..=limit {
        rig.until(|world| is_on(world, vm) && runs_of(world, vm).len() == nth + 1);
        rig.until_kept(vm, |kept| kept.noted.is_none() && !kept.starting);
        goes_off(&rig, vm, "shutoff/crashed");
    }
    rig.until_left(vm, |keeping| keeping.contains("did not stay on"));
    assert_eq!(runs_of(&rig.world, vm).len(), limit + 1);
    let started = rig.send(vm, Kind::Start);
    assert_eq!(rig.ended(started).name(), "succeeded");
    rig.until_kept(vm, |kept| kept.restarts == 0 && kept.noted.is_none());
    goes_off(&rig, vm, "shutoff/crashed");
    rig.until(|world| is_on(world, vm));
}

#[test]
fn an_event_goes_before_a_restart_that_waits() {
    let (mut rig, vm) = host_with_vm(Restart::Always);
    rig.world.script().always("start", Fault::fails());
    goes_off(&rig, vm, "shutoff/crashed");
    rig.until_kept(vm, |kept| kept.restarts > 1);
    let stopped = rig.send(vm, stop());
    assert_eq!(rig.ended(stopped).name(), "succeeded");
    rig.world.script().heal();
    rig.until_kept(vm, |kept| kept.noted.is_none());
    assert!(!is_on(&rig.world, vm), "it is wanted off");
    assert_eq!(runs_of(&rig.world, vm).len(), 1);
}

#[test]
fn a_start_that_fails_is_told_and_tried_again() {
    let (rig, vm) = host_with_vm(Restart::OnCrash);
    rig.world.script().on("start", 1, Fault::fails());
    rig.world.script().on("start", 2, Fault::lies());
    goes_off(&rig, vm, "shutoff/crashed");
    rig.until(|world| is_on(world, vm));
    rig.until_kept(vm, |kept| kept.noted.is_none() && !kept.starting);
    assert_eq!(happened(&rig, vm), Some(IncidentKind::StartFailed));
    assert_on(&rig, vm, 2, "the second one had worked");
}

#[test]
fn libvirt_being_away_counts_for_nothing() {
    let (rig, vm) = host_with_vm(Restart::OnCrash);
    let down = Cause::new(Reason::HypervisorDown, "libvirt is not reachable");
    (1..6).for_each(|nth| rig.world.script().on("start", nth, Fault::Before(down.clone())));
    goes_off(&rig, vm, "shutoff/crashed");
    rig.until(|world| is_on(world, vm));
    rig.until_kept(vm, |kept| kept.noted.is_none() && !kept.starting);
    assert_eq!(rig.row(vm).map(|row| row.kept.restarts), Some(1));
    assert_on(&rig, vm, 2, "one run");
}

#[test]
fn a_start_that_overruns_is_waited_out() {
    let (rig, vm) = host_with_vm(Restart::OnCrash);
    rig.world.script().on("start", 1, Fault::Late);
    goes_off(&rig, vm, "shutoff/crashed");
    rig.until(|world| is_on(world, vm));
    rig.until_kept(vm, |kept| kept.noted.is_none() && !kept.starting);
    assert_on(&rig, vm, 2, "it came late, and once");
}

#[test]
fn a_hold_lets_nothing_be_started() {
    let (rig, vm) = host_with_vm(Restart::Always);
    rig.hold.send_replace(true);
    goes_off(&rig, vm, "shutoff/crashed");
    rig.until_left(vm, |keeping| keeping.contains("operator"));
    assert!(!is_on(&rig.world, vm));
    rig.hold.send_replace(false);
    rig.until(|world| is_on(world, vm));
}

#[test]
fn a_guest_that_reboots_itself_keeps_its_run() {
    let (rig, vm) = host_with_vm(Restart::Never);
    rig.world.change(|state| state.tell(vm, "reboot"));
    rig.until_kept(vm, |kept| kept.incident.is_some());
    assert_eq!(happened(&rig, vm), Some(IncidentKind::GuestRebooted));
    assert_on(&rig, vm, 1, "the same run");
}

#[test]
fn what_happened_while_the_domain_was_busy_is_told_once_it_is_not() {
    let (rig, vm) = host_with_vm(Restart::Never);
    let busy = |busy: Option<(Call, u32)>| {
        rig.world.change(|state| state.domains.get_mut(&vm).expect("a domain").late = busy);
    };
    busy(Some((Call::AbortBackup(vm), 1_000_000)));
    rig.world.change(|state| state.tell(vm, "reboot"));
    rig.until_left(vm, |keeping| keeping.contains("at work"));
    busy(None);
    rig.until_kept(vm, |kept| kept.incident.is_some());
    assert_eq!(happened(&rig, vm), Some(IncidentKind::GuestRebooted));
    rig.until_left(vm, str::is_empty);
}

#[test]
fn after_a_boot_what_is_wanted_on_starts_without_a_coordinator_and_the_rest_does_not() {
    let mut rig = Rig::new();
    let bound: Vec<_> =
        Restart::ALL.iter().map(|restart| vm_on(&mut rig, *restart, Placement::Bound)).collect();
    let movable = vm_on(&mut rig, Restart::Always, Placement::Movable);
    let off = vm_on(&mut rig, Restart::Always, Placement::Bound);
    let stopped = rig.send(off, stop());
    assert_eq!(rig.ended(stopped).name(), "succeeded");
    rig.boot();
    for vm in &bound {
        rig.until(|world| is_on(world, *vm));
        rig.until_kept(*vm, |kept| kept.noted.is_none() && !kept.starting);
        assert_on(&rig, *vm, 2, "bound");
        assert_eq!(happened(&rig, *vm), Some(IncidentKind::HostWentDown));
    }
    rig.until_left(movable, |keeping| keeping.contains("coordinator"));
    assert!(!is_on(&rig.world, movable) && !is_on(&rig.world, off));
    let generation = rig.row(movable).expect("a row").generation;
    assert_eq!(rig.keeping.asking(), [(movable, generation)]);
    rig.keeping.given(movable, Word::Refused(Cause::new(Reason::VmElsewhere, "it is another host's")));
    rig.until_left(movable, |keeping| keeping.contains("another host's"));
    assert!(!is_on(&rig.world, movable));
    rig.keeping.given(movable, Word::Confirmed(generation));
    rig.until(|world| is_on(world, movable));
    assert!(!is_on(&rig.world, off));
}

#[test]
fn a_boot_cut_off_at_any_point_starts_each_vm_once() {
    let (mut rig, vm) = host_with_vm(Restart::Never);
    rig.boot();
    rig.until(|world| is_on(world, vm));
    rig.until_kept(vm, |kept| kept.noted.is_none() && !kept.starting);
    for point in 0..rig.world.fuse().trace().len() {
        let (mut rig, vm) = host_with_vm(Restart::Never);
        rig.goes_down();
        rig.world.fuse().burn_at(point);
        rig.start();
        rig.until_or_cut(|world| is_on(world, vm));
        rig.kill();
        rig.start();
        rig.until(|world| is_on(world, vm));
        rig.until_kept(vm, |kept| kept.noted.is_none() && !kept.starting);
        assert_on(&rig, vm, 2, &format!("cut at {point}"));
    }
}

#[test]
fn half_done_events_are_finished_before_a_boots_starts_and_a_boot_is_not_noted_twice() {
    let (mut rig, vm) = host_with_vm(Restart::OnCrash);
    rig.world.change(|state| state.guests.insert(vm, Guest::Ignores));
    rig.world.script().on("power-off", 0, Fault::Hang);
    let stopped = rig.send(vm, stop_at_once());
    rig.until(|world| world.script().made("power-off") == 1);
    rig.boot();
    assert_eq!(rig.ended(stopped).name(), "succeeded");
    rig.until_kept(vm, |kept| kept.noted.is_none());
    assert!(!is_on(&rig.world, vm), "it is wanted off by now");
    assert_eq!(runs_of(&rig.world, vm).len(), 1);
    rig.kill();
    rig.start();
    rig.until_kept(vm, |kept| kept.noted.is_none());
}

fn stop_at_once() -> Kind {
    Kind::Stop(Stop { stubborn: Stubborn::Force, timeout_seconds: Some(0) })
}

#[test]
fn no_more_are_started_at_once_than_configured() {
    let mut rig = Rig::new();
    let vms: Vec<_> = (0..5).map(|_| vm_on(&mut rig, Restart::Never, Placement::Bound)).collect();
    rig.goes_down();
    rig.world.script().always("start", Fault::Hang);
    rig.start();
    let made = rig.world.script().made("start");
    rig.until(|world| world.script().made("start") - made == Rig::STARTS);
    rig.until_waiting(vms.len() - Rig::STARTS, |keeping| keeping.contains("free place"));
    assert_eq!(rig.world.script().made("start") - made, Rig::STARTS);
    rig.world.script().heal();
    rig.kill();
    rig.start();
    for vm in vms {
        rig.until(|world| is_on(world, vm));
    }
}

#[test]
fn nothing_is_judged_before_all_domains_were_listed() {
    let (mut rig, vm) = host_with_vm(Restart::Always);
    rig.goes_down();
    rig.world.script().always("list-domains", Fault::fails());
    let looks = rig.world.script().made("observe-domain");
    rig.start();
    let lists = rig.world.script().made("list-domains");
    rig.until(|world| world.script().made("list-domains") > lists + 3);
    assert_eq!(rig.world.script().made("observe-domain"), looks);
    assert!(!is_on(&rig.world, vm));
    rig.world.script().heal();
    rig.until(|world| is_on(world, vm));
}

#[test]
fn what_somebody_changed_is_named_and_not_touched() {
    let (rig, vm) = host_with_vm(Restart::Always);
    goes_off(&rig, vm, "shutoff/destroyed");
    rig.until(|world| runs_of(world, vm).len() == 2);
    rig.until_kept(vm, |kept| kept.noted.is_none() && !kept.starting);
    rig.world.change(|state| {
        if let Some(domain) = state.domains.get_mut(&vm) {
            domain.renamed = Some("mine".to_owned());
        }
        state.tell(vm, "defined/renamed");
    });
    rig.until_attention(vm, "renamed");
    rig.world.change(|state| {
        state.power_off(vm, "shutoff/destroyed");
        state.domains.remove(&vm);
    });
    rig.until_attention(vm, "somebody undefined it");
    let state = rig.world.state();
    assert!(state.wrongs.is_empty() && state.domains.is_empty(), "{state:?}");
    assert_eq!(state.folders[&vm].disks.len(), 1, "its disk stays");
}
