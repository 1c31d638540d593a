//! The same end with a cut at every point, with a call on its way at every point, and with every effect twice.

use std::collections::BTreeMap;

use dewpoint_agent::execute::plan::mark::run_after_undo;
use dewpoint_agent::hypervisor::fake::world::{Content, Folder, State};
use dewpoint_proto::ids::{EventId, RunId, VmId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::vm_state::Power;

use crate::rig::Rig;
use crate::scenarios::{Scenario, all};

/// What a user, and whoever looks at the host, would notice of the end. Ids are made comparable between hosts.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct End {
    outcome: String,
    reports: usize,
    domain: Option<(Power, String, Option<String>)>,
    folder: Option<Folder>,
    rules: bool,
    recycled: usize,
    runs: Vec<String>,
    row: String,
}

#[test]
fn a_cut_at_any_point_leads_to_the_same_end() {
    for_each_scenario(|scenario, name| {
        let (wanted, points) = without_a_cut(scenario);
        for (point, at) in points.iter().enumerate() {
            let (mut rig, vm) = scenario.set_up();
            rig.world.fuse().burn_at(point);
            let event = rig.send(vm, scenario.kind.clone());
            if rig.ended_or_cut(event).is_none() {
                rig.kill();
                rig.start();
            }
            let end = end_of(&rig, vm, event);
            assert_eq!(end, wanted, "{name}, cut at {point} ({at})");
        }
    });
}

#[test]
fn two_cuts_in_a_row_lead_to_the_same_end() {
    for_each_scenario(|scenario, name| {
        let (wanted, points) = without_a_cut(scenario);
        for first in (0..points.len()).step_by(3) {
            let (mut rig, vm) = scenario.set_up();
            rig.world.fuse().burn_at(first);
            let event = rig.send(vm, scenario.kind.clone());
            for second in [2, 5] {
                if rig.ended_or_cut(event).is_some() {
                    break;
                }
                rig.kill();
                rig.world.fuse().burn_at(second);
                rig.start();
            }
            if rig.ended_or_cut(event).is_none() {
                rig.kill();
                rig.start();
            }
            assert_eq!(end_of(&rig, vm, event), wanted, "{name}, cut at {first} ({})", points[first]);
        }
    });
}

#[test]
fn every_effect_twice_leads_to_the_same_end() {
    for_each_scenario(|scenario, name| {
        let (wanted, _) = without_a_cut(scenario);
        let (mut rig, vm) = scenario.set_up();
        rig.world.script().repeat_all();
        let event = rig.send(vm, scenario.kind.clone());
        assert_eq!(end_of(&rig, vm, event), wanted, "{name}");
    });
}

fn for_each_scenario(check: impl Fn(&Scenario, &str)) {
    for scenario in all() {
        check(&scenario, scenario.name);
    }
}

/// The end without a cut, and the points passed on the way.
fn without_a_cut(scenario: &Scenario) -> (End, Vec<String>) {
    let (mut rig, vm) = scenario.set_up();
    rig.world.fuse().mend();
    let event = rig.send(vm, scenario.kind.clone());
    let end = end_of(&rig, vm, event);
    assert_eq!(end.outcome, scenario.ends, "{}", scenario.name);
    (end, rig.world.fuse().trace())
}

fn end_of(rig: &Rig, vm: VmId, event: EventId) -> End {
    let outcome = rig.ended(event);
    let state = rig.world.state();
    assert_eq!(state.wrongs, Vec::<String>::new(), "{:?}", rig.world.fuse().trace());
    let torn = |content: &Content| *content == Content::Torn;
    assert!(!state.images.values().chain(state.server.values()).any(torn), "an image is torn");
    let names = Names::new(&state, event);
    let domain = state.domains.get(&vm).map(|domain| {
        assert!(!domain.frozen, "a guest is left frozen");
        assert!(domain.late.is_none(), "a call is still on its way");
        let mark = |mark: &dewpoint_agent::hypervisor::Mark| {
            format!(
                "event {} run {:?} wanted {:?} disk {} seed {} generation {}",
                names.event(mark.event),
                mark.run.map(|run| names.run(run)),
                mark.wanted,
                names.event(mark.disk),
                names.event(mark.seed),
                mark.generation,
            )
        };
        let spec = domain.spec.as_ref().map(|spec| mark(&spec.mark)).unwrap_or_default();
        (domain.power, spec, domain.live.as_ref().map(mark))
    });
    let row = rig.row(vm).map(|row| {
        let disk = row.disk.map(|disk| names.event(disk));
        format!(
            "{:?} {:?} {disk:?} {:?} {}",
            row.presence,
            row.wanted,
            row.run.map(|run| names.run(run)),
            row.generation
        )
    });
    End {
        outcome: outcome.cause().map_or_else(|| said(&outcome), |cause| cause.reason.to_string()),
        reports: rig.reports(event),
        domain,
        folder: state.folders.get(&vm).map(|folder| names.folder(folder)),
        rules: state.rules.contains_key(&vm),
        recycled: state.recycled.len(),
        runs: state
            .runs
            .iter()
            .map(|(_, run, disk)| format!("{} from {}", names.run(*run), names.event(*disk)))
            .collect(),
        row: row.unwrap_or_default(),
    }
}

fn said(outcome: &Outcome) -> String {
    outcome.name().to_owned()
}

/// Ids by the order in which they were made: `create` and `event`, on every host.
struct Names(BTreeMap<EventId, EventId>, EventId);

impl Names {
    fn new(state: &State, event: EventId) -> Self {
        let folders =
            state.folders.values().flat_map(|folder| folder.disks.keys().chain(&folder.seeds)).copied();
        let by_event = state.runs.iter().filter(|(_, run, _)| *run != run_after_undo(event));
        let runs = by_event.flat_map(|(_, run, disk)| [EventId(run.0), *disk]);
        let mut known: Vec<EventId> = folders.chain(runs).chain([event]).collect();
        known.sort_unstable();
        known.dedup();
        let number = |n: usize| EventId(uuid::Uuid::from_u128(n as u128));
        Self(known.into_iter().enumerate().map(|(n, id)| (id, number(n))).collect(), event)
    }

    fn event(&self, id: EventId) -> EventId {
        self.0.get(&id).copied().unwrap_or(self.1)
    }

    fn run(&self, run: RunId) -> String {
        if run == run_after_undo(self.1) {
            return "after undo".to_owned();
        }
        self.event(EventId(run.0)).to_string()
    }

    fn folder(&self, folder: &Folder) -> Folder {
        // Of a snapshot the content names the disk that it was taken of.
        assert!(folder.parts.is_empty() && folder.snapshots.is_empty(), "left: {folder:?}");
        Folder {
            disks: folder.disks.iter().map(|(id, content)| (self.event(*id), *content)).collect(),
            seeds: folder.seeds.iter().map(|id| self.event(*id)).collect(),
            ..Folder::default()
        }
    }
}
