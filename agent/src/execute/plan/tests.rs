//! Tables: what is observed, and what comes next. The crash matrix in `tests/crash` walks whole events; here are the
//! answers that it could reach only by luck.

mod create;

use std::collections::BTreeMap;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{
    Create, Destroy, DiskDisposal, Event, InitialPower, Kind, Snapshot, Stop, Stubborn,
};
use dewpoint_proto::ids::{EventId, Generation, RunId, VmId};
use dewpoint_proto::spec::{DiskMode, ImageDigest, ImageRef, Placement, Restart, VmSpec};
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::Power;
use uuid::Uuid;

use super::{Next, Question, Server, needs, plan};
use crate::execute::history::History;
use crate::execute::observed::Observed;
use crate::execute::settings::Settings;
use crate::execute::step::Step;
use crate::hypervisor::{BackupJob, Control, Domain, Freeze, FreezeSent, Mark, Seen, Wanted};
use crate::journal::entry::{Entry, UndoneAs};
use crate::storage::{SnapshotFile, VmFiles};

const VM: VmId = VmId(Uuid::from_u128(0xa));
/// The event in question.
const NEW: EventId = EventId(Uuid::from_u128(2));
/// The event that made the VM.
const OLD: EventId = EventId(Uuid::from_u128(1));

/// One question, changed by each test where it matters: a VM that runs, and nothing tried yet.
struct Case {
    kind: Kind,
    spec: VmSpec,
    history: History,
    seen: Observed,
    now: Duration,
    expires: Option<Duration>,
}

impl Case {
    fn new(kind: Kind) -> Self {
        let seen = Observed {
            domain: Seen::There(domain(Power::Running)),
            files: Seen::There(files()),
            shield: Seen::Absent,
            image: Seen::There(()),
            uploaded: Seen::Absent,
        };
        let now = Duration::from_secs(1000);
        Self { kind, spec: spec(), history: History::default(), seen, now, expires: None }
    }

    fn after(mut self, entries: impl IntoIterator<Item = Entry>) -> Self {
        entries.into_iter().for_each(|entry| self.history.record(&entry, Some(self.now)));
        self
    }

    fn domain(mut self, change: impl FnOnce(&mut Domain)) -> Self {
        if let Seen::There(domain) = &mut self.seen.domain {
            change(domain);
        }
        self
    }

    fn files(mut self, change: impl FnOnce(&mut VmFiles)) -> Self {
        if let Seen::There(files) = &mut self.seen.files {
            change(files);
        }
        self
    }

    fn event(&self) -> Event {
        Event {
            id: NEW,
            vm: VM,
            accepted_at: Millis(0),
            not_after: None,
            retry_of: None,
            note: String::new(),
            kind: self.kind.clone(),
        }
    }

    /// Whether the anti-spoofing rules are looked at for it.
    fn looks_at_rules(&self) -> bool {
        needs(&self.event(), &self.history, &Server::None).shield
    }

    fn next(&self) -> Next {
        plan(&Question {
            event: &self.event(),
            generation: Generation(2),
            spec: Some(&self.spec),
            history: &self.history,
            observed: &self.seen,
            server: &Server::None,
            now: self.now,
            expires: self.expires,
            settings: &Settings::with_bridge("br0".parse().unwrap()),
        })
    }

    fn steps(&self) -> Vec<Step> {
        match self.next() {
            Next::Steps(steps) => steps,
            next => panic!("{next:?}"),
        }
    }

    fn waits_for(&self) -> String {
        match self.next() {
            Next::Wait(wait) => wait.why,
            next => panic!("{next:?}"),
        }
    }

    fn gives_up(&self) -> Reason {
        match self.next() {
            Next::Undo(cause) | Next::Fail(cause) => cause.reason,
            next => panic!("{next:?}"),
        }
    }
}

fn mark(event: EventId) -> Mark {
    Mark {
        vm: VM,
        generation: Generation(1),
        event,
        run: Some(RunId::from(event)),
        wanted: Wanted::On,
        disk: event,
        seed: event,
    }
}

fn domain(power: Power) -> Domain {
    Domain {
        vm: VM,
        name: "web".to_owned(),
        power,
        detail: String::new(),
        mark: Seen::There(mark(OLD)),
        live: if power == Power::Off { Seen::Absent } else { Seen::There(mark(OLD)) },
        backup: BackupJob::None,
        control: Control::Idle,
        claims: None,
    }
}

fn files() -> VmFiles {
    VmFiles { disks: BTreeMap::from([(OLD, None)]), seeds: [OLD].into(), ..VmFiles::default() }
}

fn spec() -> VmSpec {
    VmSpec {
        name: "web".parse().unwrap(),
        vcpus: 1,
        memory_bytes: 1 << 27,
        disk_bytes: 1 << 30,
        disk_mode: DiskMode::Overlay,
        nics: Vec::new(),
        ssh_keys: Vec::new(),
        user_data: Vec::new(),
        labels: BTreeMap::new(),
        placement: Placement::Bound,
        restart: Restart::default(),
    }
}

fn create() -> Kind {
    let source = ImageRef {
        digest: ImageDigest([1; 32]),
        size_bytes: 1,
        virtual_size_bytes: 1 << 20,
        local_path: None,
    };
    Kind::Create(Box::new(Create { spec: spec(), source, power: InitialPower::On }))
}

fn snapshot() -> Kind {
    Kind::Snapshot(Snapshot { image_name: None })
}

fn stop(stubborn: Stubborn) -> Kind {
    Kind::Stop(Stop { stubborn, timeout_seconds: Some(10) })
}

fn began(step: Step) -> Entry {
    Entry::StepStarted { step, attempt: 1, before: None }
}

fn did(step: Step) -> [Entry; 2] {
    [began(step), Entry::StepDone { step, image: None, consistency: None }]
}

fn failed(step: Step, reason: Reason) -> [Entry; 2] {
    [began(step), Entry::StepFailed { step, cause: Cause::new(reason, "it failed") }]
}

fn undone() -> Entry {
    Entry::UndoDecided { cause: Cause::new(Reason::Internal, "why"), ends: UndoneAs::Failed }
}

#[test]
fn every_kind_waits_for_what_is_unknown_or_busy() {
    for kind in [create(), Kind::Start, stop(Stubborn::Force), snapshot(), destroy()] {
        let mut unknown = Case::new(kind.clone());
        unknown.seen.domain = Seen::Unknown("libvirt is away".to_owned());
        assert!(unknown.waits_for().contains("libvirt is away"));
        let busy =
            Case::new(kind.clone()).domain(|domain| domain.control = Control::Busy("start".to_owned()));
        assert!(busy.waits_for().contains("to be free: start"));
        let unmarked = Case::new(kind).domain(|domain| domain.mark = Seen::Unknown("unreadable".to_owned()));
        assert!(unmarked.waits_for().contains("unreadable"));
    }
}

#[test]
fn a_newer_generation_on_the_domain_is_left_alone() {
    let newer = |domain: &mut Domain| {
        domain.mark = Seen::There(Mark { generation: Generation(9), ..mark(OLD) });
    };
    assert_eq!(Case::new(destroy()).domain(newer).gives_up(), Reason::StaleGeneration);
    let undoing = Case::new(Kind::Start).after(did(Step::Mark)).after([undone()]).domain(newer);
    assert_eq!(undoing.next(), Next::done());
}

#[test]
fn an_event_that_was_not_begun_in_time_expires_and_one_that_was_does_not() {
    let mut case = Case::new(Kind::Start).domain(|domain| *domain = self::domain(Power::Off));
    case.expires = Some(case.now);
    assert!(matches!(case.next(), Next::Expire(_)));
    let begun = case.after([began(Step::Mark)]);
    assert_eq!(begun.steps(), [Step::Mark]);
}

#[test]
fn failures_are_bounded_while_doing_and_not_while_undoing() {
    let off = || Case::new(Kind::Start).domain(|domain| *domain = self::domain(Power::Off));
    let fails = |times: usize, reason: Reason| {
        std::iter::repeat_with(move || failed(Step::Mark, reason.clone())).take(times).flatten()
    };
    assert!(off().after(fails(2, Reason::HypervisorError)).waits_for().contains("tried again"));
    assert_eq!(off().after(fails(3, Reason::HypervisorError)).gives_up(), Reason::HypervisorError);
    assert_eq!(off().after(fails(1, Reason::DiskFull)).gives_up(), Reason::DiskFull);
    // libvirt being away is not the step's fault, and a try that a crash cut off says nothing.
    assert!(off().after(fails(9, Reason::HypervisorDown)).waits_for().contains("tried again"));
    assert_eq!(off().after(std::iter::repeat_n(began(Step::Mark), 9)).steps(), [Step::Mark]);
    let mut undoing = off().after([began(Step::Mark), undone()]).after(fails(50, Reason::HypervisorError));
    assert!(undoing.waits_for().contains("tried again"));
    undoing.now += Duration::from_secs(31);
    assert_eq!(undoing.steps(), [Step::Mark]);
}

#[test]
fn a_step_without_an_effect_ends_as_unconfirmed() {
    let off = Case::new(Kind::Start).domain(|domain| *domain = self::domain(Power::Off));
    let done = std::iter::repeat_with(|| did(Step::Mark)).take(3).flatten();
    assert_eq!(off.after(done).gives_up(), Reason::Unconfirmed);
}

#[test]
fn the_guests_time_counts_from_the_first_request_that_was_answered() {
    let wanted_off = |domain: &mut Domain| {
        domain.mark =
            Seen::There(Mark { event: NEW, generation: Generation(2), wanted: Wanted::Off, ..mark(OLD) });
    };
    let case = |stubborn| Case::new(stop(stubborn)).domain(wanted_off);
    assert_eq!(case(Stubborn::Leave).after([began(Step::AskShutdown)]).steps(), [Step::AskShutdown]);
    let asked = |stubborn| case(stubborn).after(did(Step::AskShutdown));
    assert!(asked(Stubborn::Leave).waits_for().contains("10 s"));
    let late = |mut case: Case| {
        case.now += Duration::from_secs(10);
        case
    };
    assert_eq!(late(asked(Stubborn::Leave)).gives_up(), Reason::GuestIgnoredRequest);
    assert_eq!(late(asked(Stubborn::Force)).steps(), [Step::PowerOff]);
    // Asked before the host booted: the guest of this boot has its whole time.
    let mut before_boot = case(Stubborn::Force);
    did(Step::AskShutdown).iter().for_each(|entry| before_boot.history.record(entry, None));
    assert_eq!(before_boot.steps(), [Step::AskShutdown]);
}

#[test]
fn a_completed_job_is_believed_only_if_its_begin_was_answered() {
    let case = |job: BackupJob| {
        Case::new(snapshot())
            .domain(|domain| domain.backup = job)
            .files(|files| files.snapshots.extend([(NEW, SnapshotFile::Partial)]))
    };
    let running = || BackupJob::Running { done: 1, total: 2 };
    assert_eq!(case(BackupJob::Completed).after(did(Step::BeginBackup)).steps(), [Step::SealSnapshot]);
    assert!(case(running()).after(did(Step::BeginBackup)).waits_for().contains("backup"));
    // Cut off: the guest may be frozen, and the completed job may be an earlier one.
    assert_eq!(case(BackupJob::Completed).after([began(Step::BeginBackup)]).steps(), [Step::Thaw]);
    let thawed = |job| case(job).after([began(Step::BeginBackup)]).after(did(Step::Thaw));
    assert_eq!(thawed(BackupJob::Completed).steps(), [Step::Discard]);
    assert_eq!(thawed(running()).steps(), [Step::AbortBackup]);
    assert_eq!(case(running()).gives_up(), Reason::VmBusy);
    assert_eq!(case(BackupJob::Wedged("lost".to_owned())).gives_up(), Reason::HypervisorError);
}

#[test]
fn a_guest_that_took_a_freeze_is_thawed_first_and_not_frozen_again() {
    let frozen = || Case::new(snapshot()).after(failed(Step::BeginBackup, Reason::GuestFrozen));
    assert_eq!(frozen().steps(), [Step::Thaw]);
    assert_eq!(super::snapshot::sent(&frozen().history), FreezeSent::Surely);
    assert!(matches!(super::snapshot::freeze(&frozen().history), Freeze::Not(_)));
    let cut_off = Case::new(snapshot()).after([began(Step::BeginBackup)]);
    assert_eq!(super::snapshot::sent(&cut_off.history), FreezeSent::Perhaps);
    assert_eq!(super::snapshot::freeze(&cut_off.history), Freeze::IfItAnswers);

    // While undoing it is asked again and again, and not for ever: the VM is to be free for a reboot.
    let asked = |times: usize| {
        let asks = std::iter::repeat_with(|| failed(Step::Thaw, Reason::GuestFrozen)).take(times).flatten();
        let mut case = frozen().after([undone()]).after(asks);
        case.now += Duration::from_secs(31);
        case
    };
    let most = usize::try_from(Settings::with_bridge("br0".parse().unwrap()).thaws).unwrap();
    assert_eq!(asked(most - 1).steps(), [Step::Thaw]);
    assert!(matches!(asked(most).next(), Next::Fail(cause) if cause.reason == Reason::GuestFrozen));
    let with_file = asked(most).files(|files| files.snapshots.extend([(NEW, SnapshotFile::Partial)]));
    assert_eq!(with_file.steps(), [Step::Discard]);
}

#[test]
fn planning_finished_work_yields_no_step() {
    let new = Mark { generation: Generation(2), ..mark(NEW) };
    let done = Case::new(Kind::Start).domain(|domain| {
        domain.mark = Seen::There(new.clone());
        domain.live = Seen::There(new);
    });
    assert_eq!(done.next(), Next::done());
    let mut gone = Case::new(destroy());
    gone.seen = Observed { domain: Seen::Absent, files: Seen::Absent, shield: Seen::Absent, ..gone.seen };
    assert_eq!(gone.next(), Next::noted("it was gone already"));
}

fn destroy() -> Kind {
    Kind::Destroy(Destroy { disks: DiskDisposal::Recycle })
}
