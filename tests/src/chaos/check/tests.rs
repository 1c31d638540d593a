//! Each check passes a world in which all is well, and says what is wrong when one thing is.

mod by_hand;
mod policy;

use std::collections::BTreeMap;

use dewpoint_agent::execute::plan::mark::run_after_undo;
use dewpoint_proto::spec::Restart;
use sha2::{Digest, Sha256};

use super::{Violation, all};
use crate::chaos::callers::user_data;
use crate::chaos::history::{Answer, Line, Seen, What};
use crate::chaos::plan::FaultKind;
use crate::chaos::world::{
    Domain, Fleet, FleetEvent, FleetVm, Guest, Host, Journal, JournalEvent, JournalVm, World,
};

const VM: &str = "vm";
const CREATE: &str = "create-event";

fn event(id: &str, kind: &str, n: u64) -> FleetEvent {
    let at = 10_000 * i64::try_from(n).unwrap();
    FleetEvent {
        id: id.into(),
        vm: VM.into(),
        kind: kind.into(),
        stage: "succeeded".into(),
        ended: true,
        seq: n,
        generation: n,
        image: "tiny".into(),
        accepted_ms: at,
        finished_ms: at + 1000,
        ..FleetEvent::default()
    }
}

fn seen(at_ms: i64, pid: u32, run: &str) -> Line {
    let run = Seen {
        qemu: Some((pid, "1".into())),
        run: Some(run.into()),
        disk: Some(CREATE.into()),
        generation: Some(1),
        state: "running/booted".into(),
    };
    Line { at_ms, what: What::Seen { vm: VM.into(), run } }
}

fn none_seen(at_ms: i64) -> Line {
    Line { at_ms, what: What::Seen { vm: VM.into(), run: Seen::default() } }
}

fn marked(at_ms: i64, marker: &str) -> Line {
    let what = What::Marked { vm: VM.into(), marker: marker.into(), from_ms: at_ms, confirmed: true };
    Line { at_ms: at_ms + 10, what }
}

fn fault(at_ms: i64, kind: FaultKind) -> Line {
    Line { at_ms, what: What::FaultBegan { n: 0, kind, vm: Some(VM.into()), detail: String::new() } }
}

/// One VM, created and running, with a marker on its disk.
fn well() -> World {
    let create = event(CREATE, "create", 1);
    let answer = Answer::Taken { stage: "assigned".into() };
    let history = vec![
        Line { at_ms: 10_000, what: What::Answered { event: CREATE.into(), answer } },
        seen(10_500, 7, CREATE),
        marked(12_000, "hello"),
    ];
    let vm = FleetVm {
        id: VM.into(),
        on_host: true,
        generation: 1,
        wanted_on: true,
        vcpus: 1,
        memory: 2,
        disk: 3,
        ..FleetVm::default()
    };
    let fleet = Fleet {
        events: vec![create],
        vms: vec![vm],
        claimed: [1, 2, 3, 1],
        macs: vec![("aa".into(), VM.into())],
        addresses: vec![("10.0.0.2".into(), VM.into())],
        trouble: None,
    };
    World { history, fleet, journal: journal(), host: host() }
}

fn journal() -> Journal {
    let event = JournalEvent {
        id: CREATE.into(),
        vm: VM.into(),
        kind: "create".into(),
        delivered: true,
        seq: 1,
        generation: 1,
        stage: "reported".into(),
        outcome: "succeeded".into(),
        reason: String::new(),
    };
    let vm = JournalVm {
        id: VM.into(),
        presence: "there".into(),
        wanted: "on".into(),
        generation: 1,
        disk: CREATE.into(),
        seed: CREATE.into(),
    };
    Journal {
        events: vec![event],
        queue: vec![(1, CREATE.into())],
        reports: vec![(CREATE.into(), "succeeded".into(), true)],
        vms: vec![vm],
    }
}

fn host() -> Host {
    let domain = Domain {
        vm: VM.into(),
        active: true,
        persistent: true,
        generation: 1,
        event: CREATE.into(),
        wanted: "on".into(),
        disk: CREATE.into(),
        seed: CREATE.into(),
        live_run: CREATE.into(),
        live_disk: CREATE.into(),
        taps: vec!["dp0".into()],
        macs: vec!["aa".into()],
        ..Domain::default()
    };
    let guest = Guest {
        instance_id: VM.into(),
        user_data_sha256: hex::encode(Sha256::digest(user_data(VM))),
        marker: Some("hello".into()),
    };
    Host {
        domains: vec![domain],
        folders: BTreeMap::from([(VM.into(), vec![format!("{CREATE}.qcow2"), format!("{CREATE}.seed")])]),
        taps: vec!["dp0".into()],
        shielded: vec!["dp0".into()],
        guests: BTreeMap::from([(VM.into(), Ok(guest))]),
    }
}

/// A well world with an event after the create, on both sides.
fn well_then(id: &str, kind: &str) -> World {
    let mut world = well();
    world.fleet.events.push(event(id, kind, 2));
    let template = world.journal.events[0].clone();
    world.journal.events.push(JournalEvent {
        id: id.into(),
        kind: kind.into(),
        seq: 2,
        generation: 2,
        ..template
    });
    world.journal.queue.push((2, id.into()));
    world.journal.reports.push((id.into(), "succeeded".into(), true));
    world.fleet.vms[0].generation = 2;
    world.journal.vms[0].generation = 2;
    world
}

fn promises(world: &World) -> Vec<&'static str> {
    let mut promises: Vec<_> = all(world).into_iter().map(|Violation { promise, .. }| promise).collect();
    promises.dedup();
    promises
}

/// A well world, spoilt: exactly that promise is broken.
#[track_caller]
fn breaks(promise: &str, spoil: impl FnOnce(&mut World)) {
    let mut world = well();
    spoil(&mut world);
    assert!(promises(&world).contains(&promise), "{promise} is not among {:#?}", all(&world));
}

#[test]
fn a_world_in_which_all_is_well_breaks_no_promise() {
    assert_eq!(all(&well()), []);
    assert_eq!(all(&well_then("start-event", "start")), []);
}

#[test]
fn an_event_that_was_acknowledged_and_is_lost_or_never_ends_is_found() {
    breaks("1, acknowledged is kept", |world| world.fleet.events.clear());
    breaks("1, acknowledged is kept", |world| {
        world.fleet.events[0].ended = false;
        world.fleet.events[0].stage = "running".into();
    });
}

#[test]
fn two_ends_are_found() {
    breaks("2, one end", |world| world.journal.events[0].outcome = "failed".into());
    breaks("2, one end", |world| world.fleet.events[0].contradicted = true);
    breaks("2, one end", |world| world.journal.events.clear());
    breaks("2, one end", |world| world.journal.events[0].generation = 9);
}

#[test]
fn reports_too_many_too_few_or_unheard_are_found() {
    breaks("2, one report", |world| world.journal.reports.clear());
    breaks("2, one report", |world| world.journal.reports.push((CREATE.into(), "succeeded".into(), true)));
    breaks("2, one report", |world| world.journal.reports[0].2 = false);
    breaks("2, one report", |world| world.journal.reports[0].1 = "failed".into());
}

#[test]
fn a_queue_with_gaps_is_found() {
    breaks("1, the queue", |world| {
        world.fleet.events[0].seq = 2;
        world.journal.events[0].seq = 2;
        world.journal.queue = vec![(2, CREATE.into())];
    });
    breaks("1, the queue", |world| world.journal.queue[0].1 = "another".into());
}

#[test]
fn generations_that_do_not_rise_are_found() {
    let mut world = well_then("start-event", "start");
    for events in [&mut world.fleet.events[1].generation, &mut world.journal.events[1].generation] {
        *events = 1;
    }
    assert!(promises(&world).contains(&"6, newer wins"));
    breaks("6, newer wins", |world| world.journal.vms[0].generation = 2);
    breaks("6, newer wins", |world| world.host.domains[0].generation = 2);
    breaks("6, newer wins", |world| {
        let What::Seen { run, .. } = &mut world.history[1].what else { unreachable!() };
        run.generation = Some(2);
        world.history.push(seen(13_000, 7, CREATE));
    });
}

#[test]
fn what_was_refused_and_is_there_is_found() {
    breaks("10, refused", |world| {
        let answer = Answer::Refused { reason: "VM_BUSY".into(), text: String::new() };
        world.history[0].what = What::Answered { event: CREATE.into(), answer };
    });
}

#[test]
fn sums_that_do_not_add_up_are_found() {
    breaks("accounting", |world| world.fleet.claimed[1] = 3);
}

#[test]
fn a_vm_twice_and_a_run_twice_are_found() {
    breaks("2, no VM twice", |world| {
        world.history.push(Line { at_ms: 1, what: What::Twice { vm: VM.into(), pids: vec![7, 8] } });
    });
    breaks("2, one power-on", |world| world.history.push(seen(13_000, 8, CREATE)));
}

#[test]
fn a_start_that_was_cut_off_before_the_first_instruction_is_no_run() {
    let mut world = well();
    let mut cut_off = seen(10_400, 6, CREATE);
    let What::Seen { run, .. } = &mut cut_off.what else { unreachable!() };
    run.state = "paused/starting up".into();
    world.history.insert(1, cut_off);
    assert_eq!(all(&world), []);
}

#[test]
fn a_run_that_was_ended_by_hand_before_anybody_looked_may_begin_again() {
    let mut world = well();
    world.history.push(fault(30_000, FaultKind::DestroyedBehindOurBack { slot: 0 }));
    world.history.push(seen(31_000, 8, CREATE));
    assert_eq!(all(&world), []);
}

#[test]
fn a_process_that_ends_for_no_reason_is_found_and_one_that_was_killed_is_not() {
    breaks("4, untouched", |world| world.history.push(none_seen(30_000)));
    let mut world = well();
    world.history.push(fault(30_000, FaultKind::QemuIsKilled { slot: 0 }));
    world.history.push(none_seen(30_100));
    world.host.domains[0].active = false;
    world.host.taps.clear();
    world.host.guests.clear();
    let vm = &mut world.fleet.vms[0];
    (vm.restart, vm.keeping) = (Restart::Never, "left as it is".into());
    assert_eq!(all(&world), []);
    let mut restarted = well();
    restarted.history.push(none_seen(30_100));
    restarted.history.push(Line {
        at_ms: 30_000,
        what: What::FaultBegan { n: 0, kind: FaultKind::DiskFull, vm: None, detail: String::new() },
    });
    assert!(promises(&restarted).contains(&"4, untouched"), "a full disk ends no process");
}

#[test]
fn a_run_that_nobody_asked_for_is_found_unless_something_ended_the_one_before() {
    breaks("2, runs have names", |world| world.history.push(seen(30_000, 8, "who")));
    let mut world = well();
    world.history.push(fault(29_000, FaultKind::QemuIsKilled { slot: 0 }));
    world.history.push(seen(30_000, 8, "by-policy"));
    assert_eq!(promises(&world), [] as [&str; 0]);
}

#[test]
fn a_run_after_an_event_was_undone_is_named_by_it() {
    let id = "01a21446-c7ac-700b-bec9-f07cc2e89b99";
    let run = run_after_undo(id.parse().unwrap()).to_string();
    let mut world = well_then(id, "restore");
    world.fleet.events[1].stage = "cancelled".into();
    world.history.push(seen(20_500, 8, &run));
    assert!(!promises(&world).contains(&"2, runs have names"));
    world.fleet.events[1].stage = "succeeded".into();
    assert!(promises(&world).contains(&"2, runs have names"), "nothing was undone");
}

#[test]
fn leftovers_are_found() {
    let left = "3, nothing is left";
    breaks(left, |world| world.host.domains.push(Domain { vm: "other".into(), ..Domain::default() }));
    breaks(left, |world| drop(world.host.folders.insert("other".into(), Vec::new())));
    breaks(left, |world| world.host.taps.push("dp1".into()));
    breaks(left, |world| world.host.shielded.push("dp1".into()));
    breaks(left, |world| world.fleet.vms[0].on_host = false);
    breaks(left, |world| world.journal.vms[0].presence = "gone".into());
}

#[test]
fn a_vm_that_is_not_whole_is_found() {
    let whole = "3, whole";
    breaks(whole, |world| world.host.domains.clear());
    breaks(whole, |world| world.host.shielded.clear());
    breaks(whole, |world| world.host.domains[0].job = "a job of type 2".into());
    breaks(whole, |world| world.host.domains[0].disk = "another".into());
    for (without, with) in [("qcow2", None), ("seed", None), ("", Some("x.part")), ("", Some("x.qcow2"))] {
        breaks(whole, |world| {
            let files = world.host.folders.get_mut(VM).unwrap();
            files.retain(|file| without.is_empty() || !file.ends_with(without));
            files.extend(with.map(str::to_owned));
            files.sort();
        });
    }
}

#[test]
fn addresses_of_two_or_of_the_gone_are_found() {
    breaks("addresses", |world| world.fleet.addresses.push(("10.0.0.2".into(), "other".into())));
    breaks("addresses", |world| world.fleet.macs[0].0 = "bb".into());
    breaks("addresses", |world| {
        world.fleet.vms.push(FleetVm { id: "old".into(), gone: true, ..FleetVm::default() });
        world.fleet.macs.push(("bb".into(), "old".into()));
    });
}

#[test]
fn the_wrong_disk_is_found() {
    breaks("2, the right disk", |world| world.host.domains[0].live_disk = "another".into());
    let mut world = well_then("restore-event", "restore");
    assert!(promises(&world).contains(&"2, the right disk"), "it still has the disk of its create");
    world.fleet.events[1].stage = "failed".into();
    assert!(!promises(&world).contains(&"2, the right disk"));
}

#[test]
fn power_that_is_not_as_wanted_is_found() {
    let wanted = "3, as wanted";
    breaks(wanted, |world| world.journal.vms[0].wanted = "off".into());
    breaks(wanted, |world| world.fleet.vms[0].wanted_on = false);
    breaks(wanted, |world| world.host.domains[0].active = false);
    breaks(wanted, |world| world.host.domains[0].paused = true);
    assert!(promises(&well_then("stop-event", "stop")).contains(&wanted), "it was stopped, and runs");
}

#[test]
fn a_guest_that_is_silent_or_somebody_else_or_forgot_is_found() {
    let wrong = "2, what was written";
    breaks(wrong, |world| drop(world.host.guests.insert(VM.into(), Err("silence".into()))));
    for marker in [None, Some("another".to_owned())] {
        breaks(wrong, |world| world.host.guests.get_mut(VM).unwrap().as_mut().unwrap().marker = marker);
    }
    breaks(wrong, |world| {
        world.host.guests.get_mut(VM).unwrap().as_mut().unwrap().instance_id = "another".into();
    });
}

/// A snapshot at 20 s, another marker at 25 s, a restore from the snapshot at 30 s.
fn restored(marker: Option<&str>) -> World {
    let mut world = well_then("snapshot-event", "snapshot");
    world.fleet.events[1].made = "snapshot-image".into();
    world
        .fleet
        .events
        .push(FleetEvent { image: "snapshot-image".into(), ..event("restore-event", "restore", 3) });
    world.history.push(marked(25_000, "later"));
    world.host.guests.get_mut(VM).unwrap().as_mut().unwrap().marker = marker.map(str::to_owned);
    world
}

#[test]
fn a_restore_from_a_snapshot_brings_back_what_was_there_then_and_nothing_else() {
    let wrong = "2, what was written";
    assert!(!promises(&restored(Some("hello"))).contains(&wrong), "{:#?}", all(&restored(Some("hello"))));
    assert!(promises(&restored(Some("later"))).contains(&wrong));
    assert!(promises(&restored(None)).contains(&wrong));
    let mut world = restored(Some("last"));
    world.history.push(marked(35_000, "last"));
    assert!(!promises(&world).contains(&wrong), "what was written to the restored disk is there");
}

#[test]
fn what_was_noted_on_the_way_counts() {
    let note = |what| move |world: &mut World| world.history.push(Line { at_ms: 1, what });
    breaks("noted", note(What::Violated { promise: "2".into(), detail: String::new() }));
    breaks("3, settles", note(What::NotSettled { detail: String::new() }));
    let died = |excuse| What::DiedByItself { daemon: "Agent".into(), status: String::new(), excuse };
    breaks("a daemon lives", note(died(None)));
    let mut world = well();
    world.history.push(Line { at_ms: 1, what: died(Some("the disk is full".into())) });
    assert_eq!(all(&world), []);
    breaks("1, the logs match", |world| world.fleet.trouble = Some("diverged".into()));
}

#[test]
fn a_run_in_which_nothing_was_built_or_ran_is_no_proof() {
    breaks("something was tried", |world| world.fleet.events[0].stage = "failed".into());
    breaks("something was tried", |world| world.history.clear());
}
