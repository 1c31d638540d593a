//! What the keeper says of a VM, case by case; and, in `model`, whatever happens in whatever order.

mod edited;
mod model;
mod named;

use std::collections::BTreeMap;
use std::time::Duration;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::{EventId, Generation, RunId, VmId};
use dewpoint_proto::spec::{DiskMode, Placement, Restart, VmSpec};
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::{IncidentKind, Power};
use uuid::Uuid;

use super::Bounds;
use super::decide::{Keep, Question, StartAs, Word, answered, begun, failed, keep, pause};
use super::incident::why_off;
use super::next::next_start;
use crate::hypervisor::{BackupJob, Control, Domain, Mark, Seen, Wanted, domain_name};
use crate::journal::VmRow;
use crate::journal::admission::Presence;
use crate::journal::kept::{ConfigSeen, Kept, Noted};
use crate::journal::moment::{BootId, Moment};

const VM: VmId = VmId(Uuid::from_u128(0xa1));
const EVENT: EventId = EventId(Uuid::from_u128(0xe1));

/// A VM with its host, as the keeper sees both.
#[derive(Clone, Debug)]
struct Host {
    row: VmRow,
    domain: Seen<Domain>,
    heard: Vec<String>,
    now: Moment,
    word: Word,
    held: bool,
    config: Option<ConfigSeen>,
    bounds: Bounds,
}

fn mark(run: RunId) -> Mark {
    Mark {
        vm: VM,
        generation: Generation(1),
        event: EVENT,
        run: Some(run),
        wanted: Wanted::On,
        disk: EVENT,
        seed: EVENT,
    }
}

fn spec(restart: Restart) -> VmSpec {
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
        restart,
    }
}

impl Host {
    /// A VM that runs, as wanted, by its create.
    fn with(restart: Restart) -> Self {
        let run = RunId::from(EVENT);
        Self {
            row: VmRow {
                vm: VM,
                name: Some("web".parse().unwrap()),
                generation: Generation(1),
                presence: Presence::There,
                wanted: Wanted::On,
                disk: Some(EVENT),
                seed: Some(EVENT),
                run: Some(run),
                spec: Some(spec(restart)),
                kept: Kept::default(),
                unfinished: false,
            },
            domain: Seen::There(Domain {
                vm: VM,
                name: domain_name("web", VM),
                power: Power::Running,
                detail: "running/booted".to_owned(),
                mark: Seen::There(mark(run)),
                live: Seen::There(mark(run)),
                backup: BackupJob::None,
                control: Control::Idle,
                claims: None,
            }),
            heard: Vec::new(),
            now: Moment {
                wall: Millis(1_800_000_000_000),
                since_boot_ms: 1_000_000,
                boot: BootId(Uuid::from_u128(1)),
            },
            word: Word::None,
            held: false,
            config: None,
            bounds: Bounds::default(),
        }
    }

    fn decides(&self) -> Keep {
        keep(&Question {
            row: &self.row,
            domain: &self.domain,
            heard: &self.heard,
            now: self.now,
            word: &self.word,
            held: self.held,
            config: self.config.as_ref(),
            bounds: &self.bounds,
        })
    }

    fn there(&mut self) -> &mut Domain {
        match &mut self.domain {
            Seen::There(domain) => domain,
            other => panic!("{other:?}"),
        }
    }

    /// It goes off, and libvirt says this of it.
    fn goes_off(&mut self, detail: &str, heard: &[&str]) {
        let domain = self.there();
        domain.power = Power::Off;
        domain.detail = detail.to_owned();
        domain.live = Seen::Absent;
        self.heard.extend(heard.iter().map(|&word| word.to_owned()));
    }

    /// Notes what there is to note, and says what comes then.
    fn settles(&mut self) -> Keep {
        for _ in 0..4 {
            match self.decides() {
                Keep::Note(kept) => {
                    assert_ne!(*kept, self.row.kept, "nothing is noted twice");
                    self.row.kept = *kept;
                    self.heard.clear();
                }
                other => return other,
            }
        }
        panic!("it goes on noting: {self:?}");
    }

    fn passes(&mut self, time: Duration) {
        self.now.since_boot_ms += u64::try_from(time.as_millis()).unwrap();
        self.now.wall = self.now.wall.plus(time);
    }

    /// Powers it on by a fresh run, as the lane does.
    fn starts(&mut self) -> RunId {
        let run = RunId::fresh();
        self.row.kept = begun(&self.row.kept, run, self.now);
        self.row.run = Some(run);
        self.runs(run);
        self.row.kept = answered(&self.row.kept);
        run
    }

    fn runs(&mut self, run: RunId) {
        let domain = self.there();
        domain.power = Power::Running;
        domain.detail = "running/booted".to_owned();
        domain.mark = Seen::There(mark(run));
        domain.live = Seen::There(mark(run));
    }

    /// What happened last, if anything.
    fn incident(&self) -> Option<IncidentKind> {
        self.row.kept.incident.as_ref().map(|incident| incident.kind)
    }
}

fn is_start(keep: &Keep) -> bool {
    matches!(keep, Keep::Start(StartAs::New))
}

fn left(keep: Keep) -> Reason {
    match keep {
        Keep::Leave(cause) => {
            assert!(!cause.advice.is_empty(), "{cause:?}");
            cause.reason
        }
        other => panic!("{other:?}"),
    }
}

/// Off by itself, and the pause before a restart is over.
fn after(restart: Restart, detail: &str, heard: &[&str]) -> (Option<IncidentKind>, Keep) {
    let mut host = Host::with(restart);
    host.goes_off(detail, heard);
    host.settles();
    host.passes(host.bounds.backoff_first);
    let next = host.settles();
    (host.incident(), next)
}

#[test]
fn what_a_guest_or_a_person_did_is_told_as_what_it_was() {
    use IncidentKind as Kind;
    for (detail, heard, told) in [
        ("shutoff/shutdown", &["shutdown/guest", "stopped/shutdown"][..], Kind::GuestPoweredOff),
        ("shutoff/shutdown", &[], Kind::GuestPoweredOff),
        ("shutoff/shutdown", &["shutdown/host", "stopped/shutdown"], Kind::QemuStopped),
        ("shutoff/destroyed", &["shutdown/host", "stopped/destroyed"], Kind::DestroyedByHand),
        ("shutoff/crashed", &["stopped/failed"], Kind::QemuCrashed),
        ("shutoff/failed", &[], Kind::QemuCrashed),
        ("shutoff/crashed", &["crashed/panicked", "stopped/crashed"], Kind::GuestPanicked),
        ("crashed/panicked", &[], Kind::GuestPanicked),
        ("shutoff/saved", &["stopped/saved"], Kind::SavedByHand),
        ("shutoff/migrated", &["stopped/migrated"], Kind::MigratedAway),
        ("shutoff/from-snapshot", &[], Kind::DestroyedByHand),
        // libvirt was restarted, and has forgotten why.
        ("shutoff/unknown", &[], Kind::WentOff),
        ("shutoff/unknown", &["stopped/failed"], Kind::QemuCrashed),
        ("shutoff/unknown", &["shutdown/guest", "stopped/shutdown"], Kind::GuestPoweredOff),
        ("shutoff/daemon", &[], Kind::WentOff),
        // Of an earlier run.
        (
            "shutoff/crashed",
            &["crashed/panicked", "stopped/crashed", "started/booted", "stopped/failed"],
            Kind::QemuCrashed,
        ),
    ] {
        let heard: Vec<String> = heard.iter().map(|&word| word.to_owned()).collect();
        assert_eq!(why_off(detail, &heard), told, "{detail} {heard:?}");
    }
}

#[test]
fn each_policy_starts_what_it_says_and_leaves_the_rest() {
    let crash = ("shutoff/crashed", &["stopped/failed"][..]);
    let panic = ("shutoff/crashed", &["crashed/panicked"][..]);
    let off = ("shutoff/shutdown", &["shutdown/guest"][..]);
    let pulled = ("shutoff/destroyed", &[][..]);
    let lost = ("shutoff/unknown", &[][..]);
    for (restart, what, starts) in [
        (Restart::Never, crash, false),
        (Restart::Never, off, false),
        (Restart::OnCrash, crash, true),
        (Restart::OnCrash, panic, true),
        (Restart::OnCrash, lost, true),
        (Restart::OnCrash, off, false),
        (Restart::OnCrash, pulled, false),
        (Restart::Always, crash, true),
        (Restart::Always, off, true),
        (Restart::Always, pulled, true),
    ] {
        let (_, next) = after(restart, what.0, what.1);
        assert_eq!(is_start(&next), starts, "{restart} {what:?}: {next:?}");
        if !starts {
            assert_eq!(left(next), Reason::VmNotRunning);
        }
    }
}

#[test]
fn what_may_go_on_elsewhere_is_never_started_whatever_the_policy() {
    assert_eq!(
        left(after(Restart::Always, "shutoff/migrated", &["stopped/migrated"]).1),
        Reason::VmElsewhere
    );
    assert_eq!(left(after(Restart::Always, "shutoff/saved", &["stopped/saved"]).1), Reason::DomainChanged);
}

#[test]
fn each_restart_waits_longer_and_the_last_one_is_the_last() {
    let mut host = Host::with(Restart::OnCrash);
    host.bounds.limit = 3;
    let mut pauses = Vec::new();
    for _ in 0..3 {
        host.goes_off("shutoff/crashed", &["stopped/failed"]);
        let Keep::Wait(wait) = host.settles() else { panic!("{host:?}") };
        pauses.push(wait.left.unwrap().as_secs());
        host.passes(wait.left.unwrap());
        assert!(is_start(&host.settles()));
        host.starts();
        assert_eq!(host.settles(), Keep::Rest);
    }
    assert_eq!(pauses, [2, 4, 8]);
    host.goes_off("shutoff/crashed", &["stopped/failed"]);
    assert_eq!(left(host.settles()), Reason::RestartLimit);
    host.passes(Duration::from_secs(1_000_000));
    assert_eq!(left(host.settles()), Reason::RestartLimit, "time alone changes nothing");
    assert_eq!(pause(&host.bounds, IncidentKind::QemuCrashed, u32::MAX), host.bounds.backoff_most);
}

#[test]
fn a_vm_that_ran_well_is_counted_anew() {
    let mut host = Host::with(Restart::OnCrash);
    for _ in 0..50 {
        host.goes_off("shutoff/crashed", &["stopped/failed"]);
        host.settles();
        host.passes(host.bounds.backoff_first);
        assert!(is_start(&host.settles()), "{host:?}");
        host.starts();
        host.passes(host.bounds.steady);
    }
}

#[test]
fn an_event_that_starts_it_counts_anew_and_one_that_is_unfinished_goes_first() {
    let mut host = Host::with(Restart::OnCrash);
    host.bounds.limit = 0;
    host.goes_off("shutoff/crashed", &["stopped/failed"]);
    assert_eq!(left(host.settles()), Reason::RestartLimit);
    host.row.unfinished = true;
    assert_eq!(host.decides(), Keep::Rest);
    host.row.unfinished = false;
    let run = RunId::fresh();
    host.row.run = Some(run);
    host.runs(run);
    assert_eq!(host.settles(), Keep::Rest);
    assert_eq!((host.row.kept.noted.clone(), host.row.kept.restarts), (None, 0));
}

#[test]
fn what_is_wanted_off_is_left_off() {
    let mut host = Host::with(Restart::Always);
    host.row.wanted = Wanted::Off;
    host.goes_off("shutoff/crashed", &["stopped/failed"]);
    assert_eq!((host.settles(), host.incident()), (Keep::Rest, None));
    host.runs(host.row.run.unwrap());
    assert_eq!(left(host.settles()), Reason::DomainChanged);
    assert_eq!(host.incident(), Some(IncidentKind::StartedByHand));
}

#[test]
fn a_start_that_was_cut_off_goes_on_with_its_run() {
    let mut host = Host::with(Restart::OnCrash);
    host.goes_off("shutoff/crashed", &[]);
    host.settles();
    let run = RunId::fresh();
    host.row.kept = begun(&host.row.kept, run, host.now);
    host.row.run = Some(run);
    assert_eq!(host.decides(), Keep::Start(StartAs::Again(run)));
    // It had been carried out.
    host.runs(run);
    assert_eq!(host.settles(), Keep::Rest);
    assert_eq!((host.row.kept.restarts, host.row.kept.starting), (1, false));
}

#[test]
fn what_somebody_did_to_a_start_that_was_not_answered_counts() {
    let cut_off = |restart, before: &str| {
        let mut host = Host::with(restart);
        host.goes_off(before, &[]);
        host.settles();
        let run = RunId::fresh();
        host.row.kept = begun(&host.row.kept, run, host.now);
        host.row.run = Some(run);
        // Carried out while nobody was there to see it, and ended by a person.
        host.goes_off("shutoff/destroyed", &[]);
        (host, run)
    };
    let (mut host, _) = cut_off(Restart::OnCrash, "shutoff/crashed");
    assert_eq!(left(host.settles()), Reason::VmNotRunning);
    assert_eq!((host.incident(), host.row.kept.starting), (Some(IncidentKind::DestroyedByHand), false));
    let (mut host, _) = cut_off(Restart::Always, "shutoff/crashed");
    let Keep::Wait(wait) = host.settles() else { panic!("{host:?}") };
    host.passes(wait.left.unwrap());
    assert!(is_start(&host.settles()), "by a run of its own");
    // Off for the same reason as before: perhaps it was never started.
    let (mut host, run) = cut_off(Restart::Always, "shutoff/destroyed");
    assert_eq!(host.settles(), Keep::Start(StartAs::Again(run)));
}

#[test]
fn a_movable_vm_that_is_off_and_nobody_knows_why_is_asked_for() {
    let mut host = Host::with(Restart::OnCrash);
    host.row.spec.as_mut().unwrap().placement = Placement::Movable;
    host.goes_off("shutoff/unknown", &[]);
    let Keep::Wait(wait) = host.settles() else { panic!("{host:?}") };
    assert!(wait.asks, "{wait:?}");
    host.word = Word::Confirmed(host.row.generation);
    host.passes(host.bounds.backoff_first);
    assert!(is_start(&host.settles()));
}

#[test]
fn who_only_reads_the_journal_knows_when_it_is_started_next() {
    let mut host = Host::with(Restart::OnCrash);
    assert_eq!(next_start(&host.row, &host.bounds), None, "it runs");
    host.goes_off("shutoff/crashed", &["stopped/failed"]);
    let Keep::Wait(wait) = host.settles() else { panic!("{host:?}") };
    let at = host.now.wall.plus(wait.left.unwrap());
    assert_eq!(next_start(&host.row, &host.bounds), Some(at));
    host.bounds.limit = 0;
    assert_eq!(next_start(&host.row, &host.bounds), None, "no more");
}

#[test]
fn a_start_that_fails_is_told_and_tried_again_later_and_may_still_come() {
    let mut host = Host::with(Restart::OnCrash);
    host.goes_off("shutoff/crashed", &[]);
    host.settles();
    host.passes(host.bounds.backoff_first);
    let run = RunId::fresh();
    let cause = dewpoint_proto::cause::Cause::new(Reason::CallOverran, "start overran its deadline");
    host.row.run = Some(run);
    host.row.kept = failed(&begun(&host.row.kept, run, host.now), &cause, host.now);
    assert_eq!(host.incident(), Some(IncidentKind::StartFailed));
    let mut late = host.clone();
    let Keep::Wait(wait) = host.settles() else { panic!("{host:?}") };
    host.passes(wait.left.unwrap());
    assert!(is_start(&host.settles()));
    late.runs(run);
    assert_eq!((late.settles(), late.incident()), (Keep::Rest, Some(IncidentKind::StartFailed)));
}

#[test]
fn after_a_boot_of_the_host_bound_vms_start_at_once_and_movable_ones_are_asked_for() {
    for restart in Restart::ALL {
        let mut host = Host::with(restart);
        host.goes_off("shutoff/unknown", &[]);
        let (what, run) = (IncidentKind::HostWentDown, host.row.run);
        host.row.kept.noted = Some(Noted { what, run, at: host.now });
        assert!(is_start(&host.decides()), "{restart}");
        host.row.spec.as_mut().unwrap().placement = Placement::Movable;
        let asks = |keep| matches!(keep, Keep::Wait(wait) if wait.asks);
        assert!(asks(host.decides()));
        host.word = Word::Confirmed(Generation(7));
        assert!(asks(host.decides()), "the word is of another generation");
        host.word = Word::Refused(dewpoint_proto::cause::Cause::new(Reason::VmElsewhere, "it is elsewhere"));
        assert!(asks(host.decides()));
        host.word = Word::Confirmed(host.row.generation);
        assert!(is_start(&host.decides()));
        host.held = true;
        assert!(matches!(host.decides(), Keep::Wait(_)), "an operator holds the host");
    }
}

#[test]
fn a_guest_that_is_dead_in_a_live_qemu_is_powered_off_first() {
    let mut host = Host::with(Restart::OnCrash);
    host.there().power = Power::Crashed;
    host.there().detail = "crashed/panicked".to_owned();
    host.settles();
    assert_eq!(host.incident(), Some(IncidentKind::GuestPanicked));
    host.passes(host.bounds.backoff_first);
    assert_eq!(host.decides(), Keep::PowerOff);
    host.goes_off("shutoff/destroyed", &["stopped/destroyed"]);
    assert!(is_start(&host.settles()));
    assert_eq!(host.incident(), Some(IncidentKind::GuestPanicked), "what we did ourselves is no news");
}

#[test]
fn a_reboot_is_told_once_and_changes_nothing() {
    let mut host = Host::with(Restart::Never);
    host.heard = vec!["reboot".to_owned()];
    assert_eq!(host.settles(), Keep::Rest);
    assert_eq!(host.incident(), Some(IncidentKind::GuestRebooted));
    let told = host.row.kept.clone();
    host.heard = vec!["reboot".to_owned()];
    assert_eq!(host.settles(), Keep::Rest, "its firmware tells of it again");
    assert_eq!(host.row.kept, told);
}

#[test]
fn what_is_paused_is_named_and_left() {
    for (detail, told, reason) in [
        ("paused/ioerror", IncidentKind::PausedOnIoError, Reason::StorageError),
        ("paused/user", IncidentKind::PausedByHand, Reason::DomainChanged),
    ] {
        let mut host = Host::with(Restart::Always);
        host.there().power = Power::Paused;
        host.there().detail = detail.to_owned();
        assert_eq!(left(host.settles()), reason);
        assert_eq!(host.incident(), Some(told));
        host.runs(host.row.run.unwrap());
        assert_eq!((host.settles(), host.row.kept.noted.clone()), (Keep::Rest, None));
    }
    let mut host = Host::with(Restart::Always);
    host.there().power = Power::Paused;
    host.there().detail = "paused/migration".to_owned();
    assert_eq!((host.settles(), host.incident()), (Keep::Rest, None), "that passes by itself");
}

#[test]
fn a_hand_that_starts_it_again_is_told() {
    let mut host = Host::with(Restart::Never);
    host.goes_off("shutoff/shutdown", &[]);
    host.settles();
    host.runs(host.row.run.unwrap());
    assert_eq!(host.settles(), Keep::Rest);
    assert_eq!(host.incident(), Some(IncidentKind::StartedByHand));
}

#[test]
fn nothing_is_judged_of_what_is_unknown_busy_or_not_ours() {
    let crashed = || {
        let mut host = Host::with(Restart::Always);
        host.goes_off("shutoff/crashed", &["stopped/failed"]);
        host
    };
    let mut unknown = crashed();
    unknown.domain = Seen::Unknown("libvirt is away".to_owned());
    let mut busy = crashed();
    busy.there().control = Control::Busy("start is at work".to_owned());
    for host in [unknown, busy] {
        assert!(matches!(host.decides(), Keep::Wait(_)), "{host:?}");
    }
    let mut foreign = crashed();
    foreign.there().mark = Seen::Absent;
    let mut copied = crashed();
    copied.there().mark = Seen::Unknown("bears the mark of VM x".to_owned());
    let mut newer = crashed();
    if let Seen::There(mark) = &mut newer.there().mark {
        mark.generation = Generation(9);
    }
    for host in [foreign, copied, newer] {
        assert_eq!(host.decides(), Keep::Rest, "{host:?}");
    }
}

#[test]
fn a_domain_that_is_gone_is_left_with_what_to_do() {
    let mut host = Host::with(Restart::Always);
    host.domain = Seen::Absent;
    assert_eq!(left(host.settles()), Reason::DomainGone);
    host.heard = vec!["stopped/migrated".to_owned(), "undefined/removed".to_owned()];
    assert_eq!(left(host.settles()), Reason::DomainGone);
    assert_eq!(host.incident(), Some(IncidentKind::MigratedAway));
}
