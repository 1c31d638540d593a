//! A cancel or a destroy at any point of any event: what was begun is undone, or carried through, or cleared away.

use std::collections::{BTreeMap, BTreeSet};

use dewpoint_agent::hypervisor::fake::world::{Folder, Guest};
use dewpoint_agent::journal::Admission;
use dewpoint_proto::event::{Cancel, Destroy, DiskDisposal, Kind};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::vm_state::Power;

use crate::rig::Rig;
use crate::scenarios::{Scenario, all};

/// What of the VM a cancelled event must leave as it was.
#[derive(Debug, PartialEq, Eq)]
struct Left {
    power: Option<Power>,
    disk: Option<EventId>,
    folder: Option<Folder>,
    rules: bool,
    others: BTreeMap<&'static str, usize>,
}

#[test]
fn a_cancel_at_any_point_undoes_or_comes_too_late() {
    let mut undone = 0;
    let mut too_late = 0;
    at_every_point(|rig, vm, before, event, at| {
        let Admission::New(cancel) = rig.offer(vm, Kind::Cancel(Cancel { target: event })) else {
            return;
        };
        rig.start();
        match (rig.ended(cancel.id()), rig.ended(event)) {
            (Outcome::Succeeded(_), Outcome::Cancelled(cause)) => {
                assert_eq!(cause.reason.as_str(), "CANCELLED_BY_CALLER", "{at}");
                assert_eq!(left(rig, vm), *before, "{at}");
                undone += 1;
            }
            (Outcome::Failed(cause), ended) => {
                assert_eq!(cause.reason.as_str(), "TOO_LATE", "{at}");
                assert!(!matches!(ended, Outcome::Cancelled(_)), "{at}: {ended:?}");
                too_late += 1;
            }
            ends => panic!("{at}: {ends:?}"),
        }
        assert_eq!((rig.reports(event), rig.reports(cancel.id())), (1, 1), "{at}");
    });
    assert!(undone > 100 && too_late > 5, "{undone} undone, {too_late} too late");
}

#[test]
fn a_destroy_at_any_point_leaves_nothing() {
    let mut superseded = 0;
    at_every_point(|rig, vm, _, event, at| {
        rig.world.script().heal();
        let Admission::New(destroy) =
            rig.offer(vm, Kind::Destroy(Destroy { disks: DiskDisposal::DeleteNow }))
        else {
            return;
        };
        rig.start();
        assert_eq!(rig.ended(destroy.id()).name(), "succeeded", "{at}");
        match rig.ended(event) {
            Outcome::Cancelled(cause) => assert_eq!(cause.reason.as_str(), "SUPERSEDED", "{at}"),
            ended => panic!("{at}: {ended:?}"),
        }
        let nothing = Left { power: None, disk: None, folder: None, rules: false, others: none_wrong(rig) };
        assert_eq!(left(rig, vm), nothing, "{at}");
        superseded += 1;
    });
    assert!(superseded > 100, "{superseded}");
}

/// Every scenario, the agent cut off at every point and dead.
fn at_every_point(mut then: impl FnMut(&mut Rig, VmId, &Left, EventId, &str)) {
    for scenario in all() {
        for point in 0..points_of(&scenario) {
            let (mut rig, vm) = scenario.set_up();
            let before = left(&rig, vm);
            rig.world.fuse().burn_at(point);
            let event = rig.send(vm, scenario.kind.clone());
            if rig.ended_or_cut(event).is_some() {
                continue;
            }
            let at = format!("{}, cut at {point}: {:?}", scenario.name, rig.world.fuse().trace().last());
            rig.kill();
            then(&mut rig, vm, &before, event, &at);
        }
    }
}

fn points_of(scenario: &Scenario) -> usize {
    let (mut rig, vm) = scenario.set_up();
    rig.world.fuse().mend();
    let event = rig.send(vm, scenario.kind.clone());
    rig.ended(event);
    rig.world.fuse().trace().len()
}

fn left(rig: &Rig, vm: VmId) -> Left {
    let state = rig.world.state();
    let domain = state.domains.get(&vm);
    // A guest that takes its time may go down when the undo was seen to be done (decision 5).
    let late = matches!(state.guests.get(&vm), Some(Guest::TakesLooks(_)));
    Left {
        power: domain.filter(|_| !late).map(|domain| domain.power),
        disk: domain.and_then(|domain| domain.spec.as_ref()).map(|spec| spec.mark.disk),
        folder: state.folders.get(&vm).cloned(),
        rules: state.rules.contains_key(&vm),
        others: none_wrong(rig),
    }
}

/// What there must be none of.
fn none_wrong(rig: &Rig) -> BTreeMap<&'static str, usize> {
    let state = rig.world.state();
    let frozen = state.domains.values().filter(|domain| domain.frozen).count();
    assert_eq!((state.wrongs.as_slice(), frozen), (&[][..], 0));
    let runs: BTreeSet<_> = state.runs.iter().map(|(_, run, _)| run).collect();
    assert_eq!(runs.len(), state.runs.len(), "a run is one power-on: {:?}", state.runs);
    BTreeMap::from([("recycled", state.recycled.len())])
}
