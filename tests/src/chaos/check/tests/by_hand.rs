//! What somebody does to domains, and events that are submitted on the host.

use super::*;

fn undefined(mut world: World, attention: &str) -> World {
    world.history.push(fault(30_000, FaultKind::UndefinedBehindOurBack { slot: 0 }));
    world.fleet.vms[0].attention = attention.into();
    world
}

#[test]
fn a_domain_that_somebody_undefined_is_no_fault_when_it_is_told() {
    let running = || {
        let mut world = well();
        world.host.domains[0].persistent = false;
        world
    };
    assert_eq!(all(&undefined(running(), "DOMAIN_CHANGED")), []);
    assert_eq!(promises(&undefined(running(), "")), ["5, by hand"]);
    assert!(promises(&running()).contains(&"3, whole"), "nobody did it");
    let off = || {
        let mut world = well();
        world.history.push(fault(25_000, FaultKind::QemuIsKilled { slot: 0 }));
        world.history.push(none_seen(25_100));
        world.host.domains.clear();
        world.host.taps.clear();
        world.host.guests.clear();
        world
    };
    assert_eq!(all(&undefined(off(), "DOMAIN_GONE")), []);
    assert_eq!(promises(&undefined(off(), "")), ["5, by hand"]);
    let mut without_disk = undefined(off(), "DOMAIN_GONE");
    without_disk.host.folders.get_mut(VM).unwrap().retain(|file| !file.ends_with(".qcow2"));
    assert!(promises(&without_disk).contains(&"3, whole"), "its disks stay");
}

#[test]
fn attention_for_nothing_is_found() {
    breaks("5, by hand", |world| world.fleet.vms[0].attention = "DOMAIN_CHANGED".into());
}

#[test]
fn an_edit_that_was_lost_is_found() {
    let edited = |title: &str| {
        let mut world = well();
        world.history.push(Line { at_ms: 30_000, what: What::Edited { vm: VM.into() } });
        world.host.domains[0].title = title.into();
        world
    };
    assert_eq!(all(&edited("edited by hand")), []);
    assert_eq!(promises(&edited("")), ["5, by hand"]);
}

#[test]
fn an_event_submitted_on_the_host_has_a_generation_and_a_report_and_no_place_in_the_queue() {
    let mut world = well_then("local-event", "reboot");
    world.fleet.events[1].seq = 0;
    (world.journal.events[1].seq, world.journal.events[1].delivered) = (0, false);
    world.journal.queue.pop();
    assert_eq!(all(&world), []);
    world.journal.events[1].generation = 1;
    world.fleet.events[1].generation = 1;
    assert!(promises(&world).contains(&"6, newer wins"));
}

#[test]
fn one_that_the_agent_refused_is_an_event_that_was_refused() {
    let mut world = well_then("local-event", "reboot");
    let answer = Answer::Refused { reason: "VM_BUSY".into(), text: String::new() };
    world.history.push(Line { at_ms: 1, what: What::Answered { event: "local-event".into(), answer } });
    let refused = |seq| {
        let mut world = world.clone();
        (world.fleet.events[1].seq, world.fleet.events[1].stage) = (seq, "refused".into());
        world
    };
    assert!(!promises(&refused(0)).contains(&"10, refused"));
    assert!(promises(&refused(2)).contains(&"10, refused"));
}
