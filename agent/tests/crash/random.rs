//! Random schedules of events, crashes, duplicates, failing and late calls, against a model that knows only how events
//! ended. The promises are the invariants. A failing schedule is shrunk, printed, and kept in
//! `agent/tests/proptest-regressions`, from where the next run replays it first. `PROPTEST_CASES` says how many are tried.

use std::collections::{BTreeMap, BTreeSet};

use dewpoint_agent::hypervisor::fake::script::Fault;
use dewpoint_agent::hypervisor::fake::world::{Content, Guest, Thawing};
use dewpoint_agent::journal::Admission;
use dewpoint_proto::event::{
    Cancel, Destroy, DiskDisposal, InitialPower, Kind, Reboot, RebootManner, Restore, Snapshot, Stop,
    Stubborn,
};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::outcome::Outcome;
use proptest::prelude::*;

use crate::rig::{Rig, create, image};

/// Calls and jobs that go wrong.
const NAMES: [&str; 19] = [
    "fetch-image",
    "make-disk",
    "make-seed",
    "set-shield",
    "define",
    "mark",
    "start",
    "ask-shutdown",
    "power-off",
    "begin-backup",
    "thaw",
    "abort-backup",
    "copy-snapshot",
    "seal-snapshot",
    "adopt-snapshot",
    "upload",
    "retire-disk",
    "undefine",
    "remove-folder",
];

/// One event with what it meets.
#[derive(Clone, Debug)]
struct Turn {
    vm: usize,
    kind: usize,
    guest_obeys: bool,
    /// Thaws that the guest's agent leaves unanswered.
    deaf_thaws: u32,
    /// The agent is cut off at this point of the event, and, once restarted, at those.
    cuts: Vec<usize>,
    /// While the agent is dead for the first time: a cancel, or a destroy.
    later: Option<Later>,
    /// Which call goes wrong, from which time on, how often, and how.
    faults: Vec<(usize, usize, usize, usize)>,
    /// The event is delivered again.
    twice: bool,
}

#[derive(Clone, Copy, Debug)]
enum Later {
    Cancel,
    Destroy,
}

/// A VM as the ends of its events tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Model {
    on: bool,
    disk: EventId,
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn promises_hold_under_any_schedule(turns in prop::collection::vec(turn(), 1..10)) {
        let mut run = Run::new();
        for turn in &turns {
            run.take(turn);
        }
    }
}

fn turn() -> impl Strategy<Value = Turn> {
    let later = prop_oneof![4 => Just(None), 1 => Just(Some(Later::Cancel)), 1 => Just(Some(Later::Destroy))];
    let fault = (0..NAMES.len(), 0..2_usize, 1..5_usize, 0..3_usize);
    (
        (0..2_usize, 0..10_usize, any::<bool>(), 0..3_u32),
        prop::collection::vec(0..30_usize, 0..3),
        later,
        prop::collection::vec(fault, 0..3),
        any::<bool>(),
    )
        .prop_map(|((vm, kind, guest_obeys, deaf_thaws), cuts, later, faults, twice)| Turn {
            vm,
            kind,
            guest_obeys,
            deaf_thaws,
            cuts,
            later,
            faults,
            twice,
        })
}

struct Run {
    rig: Rig,
    vms: [VmId; 2],
    models: BTreeMap<VmId, Model>,
}

impl Run {
    fn new() -> Self {
        Self { rig: Rig::new(), vms: [VmId::fresh(), VmId::fresh()], models: BTreeMap::new() }
    }

    fn take(&mut self, turn: &Turn) {
        let vm = self.vms[turn.vm];
        self.prepare(turn, vm);
        let mut cuts = turn.cuts.iter();
        if let Some(cut) = cuts.next() {
            self.rig.world.fuse().burn_at(*cut);
        }
        let kind = self.kind(turn);
        let Admission::New(event) = self.rig.offer(vm, kind.clone()) else {
            let refused = matches!(kind, Kind::Create(_)) == self.models.contains_key(&vm);
            assert!(refused, "intake refuses what the VM's presence forbids, and nothing else: {kind:?}");
            self.mend();
            return;
        };
        if turn.twice {
            assert!(matches!(self.rig.again(), Admission::Seen(_)));
        }
        let later = self.go_on(turn, vm, event.id(), cuts);
        self.learn(vm, event.id(), &kind);
        if let Some(later) = later {
            let outcome = self.rig.ended(later);
            if matches!(turn.later, Some(Later::Destroy)) {
                assert_eq!(outcome.name(), "succeeded");
                self.models.remove(&vm);
            }
            assert_eq!(self.rig.reports(later), 1);
        }
        self.check(event.id());
    }

    fn prepare(&mut self, turn: &Turn, vm: VmId) {
        let guest = if turn.guest_obeys { Guest::Obeys } else { Guest::Ignores };
        self.rig.world.change(|state| {
            state.guests.insert(vm, guest);
            state.thawing.insert(vm, Thawing::After(turn.deaf_thaws));
        });
        let script = self.rig.world.script();
        script.heal();
        for (name, from, times, how) in &turn.faults {
            let name = NAMES[*name];
            let made = script.made(name) + from;
            for nth in made..made + times {
                script.on(name, nth, [Fault::fails(), Fault::lies(), Fault::Late][*how].clone());
            }
        }
    }

    /// Lets the agent be cut off as the schedule says, and restarts it until the event has ended.
    fn go_on<'a>(
        &mut self,
        turn: &Turn,
        vm: VmId,
        event: EventId,
        mut cuts: impl Iterator<Item = &'a usize>,
    ) -> Option<EventId> {
        let mut later = None;
        while self.rig.ended_or_cut(event).is_none() {
            self.rig.kill();
            if let Some(what) = turn.later.filter(|_| later.is_none()) {
                let kind = match what {
                    Later::Cancel => Kind::Cancel(Cancel { target: event }),
                    Later::Destroy => Kind::Destroy(Destroy { disks: DiskDisposal::Recycle }),
                };
                if let Admission::New(taken) = self.rig.offer(vm, kind) {
                    later = Some(taken.id());
                }
            }
            if let Some(cut) = cuts.next() {
                self.rig.world.fuse().burn_at(*cut);
            }
            self.rig.start();
        }
        // What comes later is not cut, but for a fuse that the event did not reach.
        if let Some(later) = later
            && self.rig.ended_or_cut(later).is_none()
        {
            self.rig.kill();
            self.rig.start();
        }
        self.mend();
        later
    }

    /// A fuse that the event did not reach may have burnt under the keeper, which looks once the event has ended.
    fn mend(&mut self) {
        if self.rig.world.fuse().mend() {
            self.rig.kill();
            self.rig.start();
        }
    }

    fn kind(&self, turn: &Turn) -> Kind {
        match turn.kind {
            0 | 1 => create(InitialPower::On),
            2 => create(InitialPower::Off),
            3 => Kind::Start,
            4 => Kind::Stop(Stop { stubborn: Stubborn::Force, timeout_seconds: None }),
            5 => Kind::Reboot(Reboot { manner: RebootManner::Soft, timeout_seconds: None }),
            6 => Kind::Reboot(Reboot { manner: RebootManner::Hard, timeout_seconds: None }),
            7 => Kind::Snapshot(Snapshot { image_name: None }),
            8 => Kind::Restore(Restore { source: image(2) }),
            _ => Kind::Destroy(Destroy { disks: DiskDisposal::DeleteNow }),
        }
    }

    /// A success did what it says; anything else did nothing.
    fn learn(&mut self, vm: VmId, event: EventId, kind: &Kind) {
        let Outcome::Succeeded(done) = self.rig.ended(event) else { return };
        let Some(model) = self.models.get_mut(&vm) else {
            let Kind::Create(create) = kind else { panic!("{kind:?} of a VM that is not there succeeded") };
            self.models.insert(vm, Model { on: create.power == InitialPower::On, disk: event });
            return;
        };
        match kind {
            Kind::Create(_) => panic!("a VM was created that was there"),
            Kind::Destroy(_) => {
                self.models.remove(&vm);
            }
            Kind::Snapshot(_) => {
                let image = done.image.expect("an image").digest;
                assert_eq!(self.rig.world.state().server.get(&image), Some(&Content::DiskOf(model.disk)));
            }
            Kind::Start | Kind::Reboot(_) => model.on = true,
            Kind::Stop(_) => model.on = false,
            Kind::Restore(_) => model.disk = event,
            Kind::Cancel(_) => {}
        }
    }

    /// The promises.
    fn check(&self, event: EventId) {
        let state = self.rig.world.state();
        assert_eq!(self.rig.reports(event), 1, "one report");
        assert_eq!(state.wrongs, Vec::<String>::new());
        let runs: BTreeSet<_> = state.runs.iter().map(|(_, run, _)| run).collect();
        assert_eq!(runs.len(), state.runs.len(), "a run is one power-on: {:?}", state.runs);
        assert_eq!(state.domains.keys().collect::<Vec<_>>(), self.models.keys().collect::<Vec<_>>());
        assert_eq!(state.folders.keys().collect::<Vec<_>>(), self.models.keys().collect::<Vec<_>>());
        assert_eq!(state.rules.keys().collect::<Vec<_>>(), self.models.keys().collect::<Vec<_>>());
        for (vm, model) in &self.models {
            let (domain, folder) = (&state.domains[vm], &state.folders[vm]);
            let disk = domain.spec.as_ref().map(|spec| spec.mark.disk);
            assert_eq!((domain.live.is_some(), disk), (model.on, Some(model.disk)));
            assert!(!domain.frozen && domain.late.is_none());
            assert_eq!(folder.disks.keys().collect::<Vec<_>>(), [&model.disk]);
            assert!(folder.parts.is_empty() && folder.snapshots.is_empty(), "left: {folder:?}");
            let row = self.rig.row(*vm).expect("a row");
            assert_eq!(row.disk, Some(model.disk));
        }
    }
}
