//! What goes wrong around an agent that lives: libvirt away, calls that overrun or hang, foreign domains, holds.

use dewpoint_agent::execute::plan::Server;
use dewpoint_agent::execute::step::Step;
use dewpoint_agent::hypervisor::fake::domain::FakeDomain;
use dewpoint_agent::hypervisor::fake::script::Fault;
use dewpoint_agent::hypervisor::fake::world::{Content, Thawing};
use dewpoint_agent::journal::admission::Presence;
use dewpoint_agent::journal::entry::Entry;
use dewpoint_agent::journal::{Admission, Reader};
use dewpoint_agent::storage::ImageServer;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{
    Destroy, DiskDisposal, InitialPower, Kind, Reboot, RebootManner, Snapshot, Stop, Stubborn,
};
use dewpoint_proto::ids::{RunId, VmId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::time::Millis;

use crate::rig::{Rig, create};

fn host_with_vm() -> (Rig, VmId) {
    let mut rig = Rig::new();
    let vm = VmId::fresh();
    let made = rig.send(vm, create(InitialPower::On));
    assert_eq!(rig.ended(made).name(), "succeeded");
    (rig, vm)
}

fn hard_reboot() -> Kind {
    Kind::Reboot(Reboot { manner: RebootManner::Hard, timeout_seconds: None })
}

fn destroy() -> Kind {
    Kind::Destroy(Destroy { disks: DiskDisposal::DeleteNow })
}

fn reason(outcome: &Outcome) -> String {
    outcome.cause().map_or_else(|| outcome.name().to_owned(), |cause| cause.reason.to_string())
}

#[test]
fn what_cannot_be_seen_is_waited_for_and_nothing_is_done() {
    let (mut rig, vm) = host_with_vm();
    rig.world.script().always("observe-domain", Fault::fails());
    let before = rig.world.state();
    let event = rig.send(vm, destroy());
    rig.shown(event, |why| why.contains("libvirt does not answer"));
    assert_eq!(rig.world.state().folders, before.folders);
    rig.world.script().heal();
    assert_eq!(rig.ended(event).name(), "succeeded");
}

#[test]
fn libvirt_being_down_fails_no_event() {
    let mut rig = Rig::new();
    let down = Cause::new(Reason::HypervisorDown, "libvirt is not reachable");
    (0..10).for_each(|nth| rig.world.script().on("start", nth, Fault::Before(down.clone())));
    let event = rig.send(VmId::fresh(), create(InitialPower::On));
    assert_eq!(rig.ended(event).name(), "succeeded");
    assert_eq!(rig.world.state().runs.len(), 1);
}

#[test]
fn a_libvirt_that_is_away_for_long_is_looked_for_and_adds_nothing_to_the_journal() {
    let (mut rig, vm) = host_with_vm();
    rig.world.script().always("observe-domain", Fault::fails());
    let event = rig.send(vm, hard_reboot());
    rig.shown(event, |why| why.contains("libvirt does not answer"));
    let (looks, entries) = (rig.world.script().made("observe-domain"), rig.entries(event));
    rig.until(|world| world.script().made("observe-domain") > looks + 200);
    assert_eq!(rig.entries(event), entries, "an hour or a year: the journal grows by nothing");
    rig.world.script().heal();
    assert_eq!(rig.ended(event).name(), "succeeded");
}

#[test]
fn a_guest_that_was_slow_to_thaw_is_not_frozen_again() {
    let (mut rig, vm) = host_with_vm();
    rig.world.change(|state| state.thawing.insert(vm, Thawing::After(2)));
    let event = rig.send(vm, Kind::Snapshot(Snapshot { image_name: None }));
    let Outcome::Succeeded(done) = rig.ended(event) else { panic!("{:?}", rig.ended(event)) };
    assert!(done.note.contains("crash consistent"), "{}", done.note);
    assert_eq!(rig.world.script().made("begin-backup"), 2);
    assert!(!rig.world.state().domains[&vm].frozen);
}

#[test]
fn a_guest_that_never_thaws_is_named_and_its_vm_is_free_for_a_reboot() {
    let (mut rig, vm) = host_with_vm();
    rig.world.change(|state| state.thawing.insert(vm, Thawing::Never));
    let event = rig.send(vm, Kind::Snapshot(Snapshot { image_name: None }));
    assert_eq!(reason(&rig.ended(event)), "GUEST_FROZEN");
    let folder = &rig.world.state().folders[&vm];
    assert!(folder.snapshots.is_empty() && folder.parts.is_empty(), "left: {folder:?}");
    let reboot = rig.send(vm, hard_reboot());
    assert_eq!(rig.ended(reboot).name(), "succeeded");
    assert!(!rig.world.state().domains[&vm].frozen);
}

#[test]
fn a_call_that_overruns_is_waited_out_and_not_made_twice() {
    let mut rig = Rig::new();
    rig.world.script().on("start", 0, Fault::Late);
    let event = rig.send(VmId::fresh(), create(InitialPower::On));
    assert_eq!(rig.ended(event).name(), "succeeded");
    assert_eq!((rig.world.state().runs.len(), rig.world.script().made("start")), (1, 1));
}

#[test]
fn an_abandoned_power_off_kills_no_later_run() {
    let (mut rig, vm) = host_with_vm();
    rig.world.script().on("power-off", 0, Fault::Late);
    let event = rig.send(vm, hard_reboot());
    assert_eq!(rig.ended(event).name(), "succeeded");
    let state = rig.world.state();
    let live = state.domains[&vm].live.as_ref().expect("it runs");
    assert_eq!((live.run, state.domains[&vm].late.is_none()), (Some(RunId::from(event)), true));
}

#[test]
fn a_call_that_hangs_stops_its_own_vm_alone() {
    let mut rig = Rig::new();
    rig.world.script().on("define", 0, Fault::Hang);
    let stuck = rig.send(VmId::fresh(), create(InitialPower::On));
    rig.until(|world| world.script().made("define") == 1);
    let other = rig.send(VmId::fresh(), create(InitialPower::On));
    assert_eq!(rig.ended(other).name(), "succeeded");
    assert!(rig.board.all().contains_key(&stuck));
}

#[test]
fn a_build_too_many_waits_for_a_place_and_says_so() {
    let mut rig = Rig::new();
    rig.world.script().always("fetch-image", Fault::Hang);
    let hung: Vec<_> = (0..2).map(|_| (VmId::fresh(), create(InitialPower::On))).collect();
    for (vm, kind) in hung {
        rig.send(vm, kind);
    }
    rig.until(|world| world.script().made("fetch-image") == 2);
    let third = rig.send(VmId::fresh(), create(InitialPower::On));
    rig.shown(third, |why| why.contains("free place"));
    rig.world.script().heal();
    rig.kill();
    rig.start();
    assert_eq!(rig.ended(third).name(), "succeeded");
}

#[test]
fn a_foreign_domain_is_never_touched() {
    for (kind, ends) in [(create(InitialPower::On), "FOREIGN_DOMAIN"), (destroy(), "FOREIGN_DOMAIN")] {
        let (mut rig, vm) = host_with_vm();
        let gone = matches!(kind, Kind::Create(_));
        let vm = if gone { VmId::fresh() } else { vm };
        rig.world.change(|state| state.domains.insert(vm, FakeDomain::foreign()));
        let before = rig.world.state();
        let event = rig.send(vm, kind);
        assert_eq!(reason(&rig.ended(event)), ends);
        let after = rig.world.state();
        assert_eq!(after.wrongs, Vec::<String>::new());
        assert_eq!((&after.folders, &after.rules), (&before.folders, &before.rules));
        assert!(after.domains[&vm].spec.is_none());
    }
}

#[test]
fn an_event_that_comes_too_late_changes_nothing() {
    let mut rig = Rig::new();
    let vm = VmId::fresh();
    let event = rig.send_until(vm, create(InitialPower::On), Some(Millis(1)));
    assert_eq!(reason(&rig.ended(event)), "EXPIRED");
    assert!(rig.world.state().folders.is_empty());
    assert_eq!(rig.row(vm).map(|row| row.presence), Some(Presence::Gone));
}

#[test]
fn a_hold_lets_no_step_begin() {
    let mut rig = Rig::new();
    rig.hold.send_replace(true);
    let event = rig.send(VmId::fresh(), create(InitialPower::On));
    rig.shown(event, |why| why.contains("operator"));
    assert!(rig.world.state().folders.is_empty());
    rig.hold.send_replace(false);
    assert_eq!(rig.ended(event).name(), "succeeded");
}

#[test]
fn a_drain_drops_the_job_in_hand_and_the_next_start_goes_on() {
    let mut rig = Rig::new();
    rig.world.script().on("fetch-image", 0, Fault::Hang);
    let event = rig.send(VmId::fresh(), create(InitialPower::On));
    rig.until(|world| world.script().made("fetch-image") == 1);
    rig.drain();
    rig.start();
    assert_eq!(rig.ended(event).name(), "succeeded");
    assert_eq!(rig.reports(event), 1);
}

#[test]
fn a_drain_finishes_the_call_in_hand_and_journals_what_it_came_to() {
    let (mut rig, vm) = host_with_vm();
    rig.world.script().shut("power-off");
    let event = rig.send(vm, hard_reboot());
    rig.until(|world| world.script().made("power-off") == 1);
    rig.told_to_stop();
    rig.world.script().let_go("power-off");
    rig.drain();
    let reader = Reader::open(&rig.data().join("agent.db")).expect("the journal is there");
    let (_, entries) = reader.event(event).expect("read").expect("the event is there");
    let last = entries.last().map(|row| row.entry().expect("known"));
    assert!(matches!(last, Some(Entry::StepDone { step: Step::PowerOff, .. })), "{entries:#?}");
    rig.start();
    assert_eq!(rig.ended(event).name(), "succeeded");
    assert_eq!(rig.world.script().made("power-off"), 1, "what is done is not done again");
}

#[test]
fn a_snapshot_waits_for_the_coordinator_to_say_where_images_go() {
    let (mut rig, vm) = host_with_vm();
    rig.server_is(Server::Unknown);
    let event = rig.send(vm, Kind::Snapshot(Snapshot { image_name: None }));
    rig.shown(event, |why| why.contains("image server"));
    rig.server_is(Server::At(ImageServer("http://images".to_owned())));
    let Outcome::Succeeded(done) = rig.ended(event) else { panic!("it succeeds") };
    let image = done.image.expect("an image").digest;
    let disk = rig.row(vm).and_then(|row| row.disk).expect("a disk");
    assert_eq!(rig.world.state().server.get(&image), Some(&Content::DiskOf(disk)));
}

#[test]
fn a_guest_that_goes_off_during_a_backup_is_copied() {
    let (mut rig, vm) = host_with_vm();
    // Each look at the domain is a point: the agent is cut off when the backup has just begun.
    rig.world.script().on("begin-backup", 0, Fault::Hang);
    let event = rig.send(vm, Kind::Snapshot(Snapshot { image_name: None }));
    rig.until(|world| world.script().made("begin-backup") == 1);
    rig.world.change(|state| state.power_off(vm, "shutoff/shutdown"));
    rig.kill();
    rig.start();
    let Outcome::Succeeded(done) = rig.ended(event) else { panic!("it succeeds") };
    let image = done.image.expect("an image").digest;
    let disk = rig.row(vm).and_then(|row| row.disk).expect("a disk");
    assert_eq!(rig.world.state().images.get(&image), Some(&Content::DiskOf(disk)));
}

#[test]
fn a_destroy_that_has_begun_is_carried_through() {
    let (mut rig, vm) = host_with_vm();
    (0..6).for_each(|nth| rig.world.script().on("undefine", nth, Fault::fails()));
    (0..6).for_each(|nth| rig.world.script().on("retire-disk", nth, Fault::fails()));
    let event = rig.send(vm, destroy());
    assert_eq!(rig.ended(event).name(), "succeeded");
    assert!(rig.world.state().domains.is_empty() && rig.world.state().folders.is_empty());
}

#[test]
fn an_error_after_the_fact_is_believed_less_than_what_is_seen() {
    let mut rig = Rig::new();
    for name in ["make-disk", "set-shield", "define", "start"] {
        rig.world.script().on(name, 0, Fault::lies());
    }
    let event = rig.send(VmId::fresh(), create(InitialPower::On));
    assert_eq!(rig.ended(event).name(), "succeeded");
    assert_eq!(rig.world.state().runs.len(), 1);
}

#[test]
fn an_event_delivered_twice_takes_effect_once() {
    let (mut rig, vm) = host_with_vm();
    let event = rig.send(vm, hard_reboot());
    assert_eq!(rig.ended(event).name(), "succeeded");
    let again = rig.again();
    assert!(matches!(again, Admission::Seen(_)), "{again:?}");
    assert_eq!(rig.world.state().runs.len(), 2);
}

#[test]
fn a_paused_guest_is_not_waited_for() {
    let (mut rig, vm) = host_with_vm();
    rig.world.change(|state| {
        if let Some(domain) = state.domains.get_mut(&vm) {
            domain.power = dewpoint_proto::vm_state::Power::Paused;
        }
    });
    let asked = rig.send(vm, Kind::Stop(Stop { stubborn: Stubborn::Leave, timeout_seconds: Some(3600) }));
    assert_eq!(reason(&rig.ended(asked)), "GUEST_IGNORED_REQUEST");
    let forced = rig.send(vm, Kind::Stop(Stop { stubborn: Stubborn::Force, timeout_seconds: Some(3600) }));
    assert_eq!(rig.ended(forced).name(), "succeeded");
}
