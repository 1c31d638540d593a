//! Restart policies, checked.

use super::*;

/// Killed and started again by its policy so often, under that policy, and running.
fn restarted(policy: Restart, times: u32) -> World {
    let mut world = well();
    world.fleet.vms[0].restart = policy;
    for n in 0..times {
        let at = 30_000 + i64::from(n) * 10_000;
        world.history.push(fault(at, FaultKind::QemuIsKilled { slot: 0 }));
        world.history.push(none_seen(at + 100));
        world.history.push(seen(at + 2000, 10 + n, &format!("again-{n}")));
    }
    world.host.domains[0].live_run = format!("again-{}", times.saturating_sub(1));
    world
}

/// The same, and then off for good.
fn left_off(policy: Restart, kind: FaultKind, restarts: u32) -> World {
    let mut world = well();
    world.history.push(fault(30_000, kind));
    world.history.push(none_seen(30_100));
    let vm = &mut world.fleet.vms[0];
    (vm.restart, vm.restarts, vm.keeping) = (policy, restarts, "left as it is".into());
    world.host.domains[0].active = false;
    world.host.taps.clear();
    world.host.guests.clear();
    world
}

#[test]
fn as_often_as_the_limit_says_is_well_and_once_more_is_found() {
    assert_eq!(all(&restarted(Restart::OnCrash, 3)), []);
    assert_eq!(super::super::restarts(&restarted(Restart::Always, 2)), 2);
    let given_up = |times| super::super::given_up(&restarted(Restart::Always, times));
    assert_eq!((given_up(2), given_up(3)), (0, 1), "the limit was met");
    assert!(promises(&restarted(Restart::OnCrash, 4)).contains(&"8, its policy"));
}

#[test]
fn an_events_run_and_a_good_one_count_anew() {
    let mut world = restarted(Restart::OnCrash, 3);
    let start = event("start-event", "start", 7);
    world.fleet.events.push(start);
    world.history.push(seen(70_000, 50, "start-event"));
    world.history.push(fault(75_000, FaultKind::QemuIsKilled { slot: 0 }));
    world.history.push(seen(76_000, 51, "after-the-event"));
    assert!(!promises(&world).contains(&"8, its policy"));
    let mut world = restarted(Restart::OnCrash, 3);
    world.history.push(fault(900_000, FaultKind::QemuIsKilled { slot: 0 }));
    world.history.push(seen(902_000, 50, "later"));
    assert_eq!(all(&world), []);
}

#[test]
fn one_that_is_never_to_be_started_again_and_was_is_found() {
    assert!(promises(&restarted(Restart::Never, 1)).contains(&"8, its policy"));
}

#[test]
fn what_its_policy_would_start_and_is_off_is_found_unless_it_was_given_up() {
    let killed = FaultKind::QemuIsKilled { slot: 0 };
    let pulled = FaultKind::DestroyedBehindOurBack { slot: 0 };
    for (policy, kind, restarts, is_well) in [
        (Restart::Never, killed, 0, true),
        (Restart::OnCrash, killed, 0, false),
        (Restart::OnCrash, killed, 3, true),
        (Restart::OnCrash, pulled, 0, true),
        (Restart::Always, pulled, 0, false),
        (Restart::Always, pulled, 3, true),
    ] {
        let found = promises(&left_off(policy, kind, restarts));
        assert_eq!(found.is_empty(), is_well, "{policy}, {kind:?}, {restarts}: {found:?}");
    }
    let mut silent = left_off(Restart::Never, killed, 0);
    silent.fleet.vms[0].keeping.clear();
    assert_eq!(promises(&silent), ["8, its policy"], "its host does not say why");
}
