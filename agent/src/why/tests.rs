use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::Restart;
use dewpoint_proto::vm_state::{Incident, IncidentKind};
use uuid::Uuid;

use super::*;
use crate::execute::step::Step;
use crate::journal::entry::Entry;
use crate::journal::{Admission, EventFilter, Page, Reader, fixture};
use crate::local::print;

/// A whole quarter of an hour in every time zone.
const BEGIN: Millis = Millis(1_800_000_000_000);

fn event(n: u128) -> EventId {
    EventId(Uuid::from_u128(n))
}

fn at(second: u64, what: What) -> Item {
    Item { at_ms: BEGIN.plus(Duration::from_secs(second)), what }
}

fn accepted(n: u128, kind: &str, seq: Option<u64>) -> What {
    let generation = Generation(u64::try_from(n).unwrap());
    What::Accepted {
        event_id: event(n),
        kind: kind.into(),
        seq: seq.map(Seq),
        generation,
        not_after_ms: None,
    }
}

fn step(n: u128, name: &str, attempt: u32, took_ms: Option<u64>, end: StepEnd) -> What {
    What::Step { event_id: event(n), step: name.into(), attempt, took_ms, end }
}

fn call(name: &str, times: u32, took_us: u64, end: CallEnd) -> What {
    What::Call { call: name.into(), of_all: name == "list", times, took_us, end }
}

fn down() -> Cause {
    Cause::new(Reason::Unreachable, "no agent answers at /run/dewpoint/agent.sock")
}

fn qemu() -> Cause {
    Cause::new(
        Reason::HypervisorError,
        "internal error: process exited while connecting to monitor: qemu-system-x86_64: could not open \
         '/var/lib/dewpoint/vms/web/disk.qcow2': Permission denied",
    )
}

/// Everything that may happen.
fn happened() -> Vec<Item> {
    let overran = CallEnd::Overran { error: "power-off did not return within 30 s".into() };
    let failed = CallEnd::Failed { reason: Some("HYPERVISOR_ERROR".into()), error: qemu().text };
    let ended = |n, kind: &str, outcome, took_ms, report_acknowledged| What::Ended {
        event_id: event(n),
        kind: kind.into(),
        outcome,
        took_ms,
        report_acknowledged,
    };
    let state = |was: Option<&str>, now: &str, detail: &str| What::State {
        was: was.map(str::to_owned),
        now: now.into(),
        detail: detail.into(),
        run: None,
    };
    vec![
        at(0, What::AgentStarted { version: "0.1.0".into() }),
        at(1, accepted(1, "start", Some(11))),
        at(1, step(1, "start", 1, Some(402), StepEnd::Failed { cause: qemu() })),
        at(1, call("start", 1, 401_700, failed)),
        at(2, call("observe", 37, 12_400, CallEnd::Well)),
        at(3, What::Undo { event_id: event(1), kind: "start".into(), cause: qemu() }),
        at(4, ended(1, "start", Outcome::Failed(qemu()), 3021, true)),
        at(5, accepted(2, "start", None)),
        at(5, step(2, "start", 1, Some(410), StepEnd::Returned)),
        at(5, call("start", 1, 1_500, CallEnd::Well)),
        at(5, state(Some("off"), "running", "running/booted")),
        at(6, What::Told { words: "stopped/crashed".into() }),
        at(6, state(Some("running"), "off", "shutoff/crashed")),
        at(7, call("list", 1, 5_000_000, CallEnd::of(&down()))),
        at(8, accepted(3, "stop", Some(12))),
        at(8, step(3, "power-off", 1, Some(30_000), StepEnd::CutOff)),
        at(8, call("power-off", 1, 30_000_000, overran)),
        at(40, step(3, "power-off", 2, None, StepEnd::Open)),
        at(41, What::Entry { event_id: event(3), entry: "step-teleported".into() }),
    ]
}

fn keeping() -> Keeping {
    Keeping {
        policy: Some(Restart::OnCrash),
        restarts: 2,
        limit: 10,
        incident: Some(Incident {
            kind: IncidentKind::QemuCrashed,
            at: BEGIN.plus(Duration::from_secs(50)),
            detail: "shutoff/crashed".into(),
            run: None,
        }),
        standing: "to be started again, as QEMU died (3 of 10)".into(),
        restart_at_ms: Some(BEGIN.plus(Duration::from_secs(70))),
    }
}

/// Everything that a story may have in it.
fn story() -> Story {
    Story {
        vm_id: VmId(Uuid::from_u128(9)),
        vm: Some(Kept {
            name: Some("web".into()),
            presence: "there".into(),
            wanted: "on".into(),
            generation: Generation(3),
        }),
        earlier_events: 12,
        items: happened(),
        is_cut: true,
        without_notes: None,
        lost: Some(Lost { records: 4, at_ms: BEGIN }),
        now: Now {
            at_ms: BEGIN.plus(Duration::from_secs(60)),
            observed: Observed::There {
                power: "running".into(),
                detail: "running/booted".into(),
                busy: Some("an earlier power-off is still at work, 20 s past its deadline".into()),
            },
            daemon_down: None,
            held: Some(false),
            keeping: Some(keeping()),
            unfinished: vec![Unfinished {
                event_id: event(3),
                kind: "stop".into(),
                stage: "running".into(),
                step: Some("power-off".into()),
                step_began_ms: Some(BEGIN.plus(Duration::from_secs(40))),
                waiting_for: "the domain's control channel to be idle".into(),
                until_ms: Some(BEGIN.plus(Duration::from_secs(90))),
                bytes: (0, 0),
                not_after_ms: None,
            }],
        },
    }
}

/// Without the time zone.
fn text(story: &Story) -> String {
    let text = story.text();
    let day = print::when(BEGIN)[..10].to_owned();
    let hour = print::when(BEGIN)[11..13].to_owned();
    text.replace(&day, "YYYY-MM-DD").replace(&format!("{hour}:"), "HH:")
}

#[test]
fn a_story_is_told_in_order_with_what_is_open_at_the_end() {
    let text = text(&story());
    assert_eq!(text.lines().find(|line| line.chars().count() > 80), None, "{text}");
    insta::assert_snapshot!(text);
}

#[test]
fn without_daemon_notes_or_libvirt_it_says_so_and_what_to_do() {
    let mut story = story();
    story.without_notes = Some(Cause::new(Reason::StorageError, "notes.db cannot be opened"));
    story.now.daemon_down = Some(down());
    story.now.observed = Observed::Unknown { why: "libvirt did not answer within 3 s".into() };
    if let Some(keeping) = &mut story.now.keeping {
        keeping.standing.clear();
    }
    story.items.clear();
    insta::assert_snapshot!(text(&story));
}

#[test]
fn what_failed_last_gives_the_next_step() {
    let mut story = story();
    story.now.unfinished.clear();
    let cause = qemu().advise("give the file to the group libvirt-qemu, then send the event again");
    story.items.truncate(7);
    if let Some(Item { what: What::Ended { outcome, .. }, .. }) = story.items.last_mut() {
        *outcome = Outcome::Failed(cause);
    }
    assert!(text(&story).trim_end().ends_with("then send the event again"), "{}", story.text());
}

#[test]
fn programs_get_the_same_story() {
    let json = serde_json::to_value(story()).unwrap();
    assert_eq!(json["items"][0]["what"], "agent-started");
    assert_eq!(json["items"][3]["result"], "failed");
    assert_eq!(json["items"][2]["end"]["end"], "failed");
    assert_eq!(json["now"]["keeping"]["policy"], "on-crash");
    assert_eq!(json["now"]["keeping"]["restarts"], 2);
    assert_eq!(json["now"]["keeping"]["restart_at_ms"], BEGIN.0 + 70_000);
    assert_eq!(json["now"]["unfinished"][0]["waiting_for"], "the domain's control channel to be idle");
}

#[tokio::test]
async fn of_one_millisecond_an_event_that_ended_is_told_before_the_next() {
    // A clock that stands still.
    let folder = fixture::Folder::new();
    let journal = folder.open();
    for (seq, kind) in [(1, fixture::create()), (2, fixture::reboot())] {
        let admitted = journal.admit(fixture::delivery(seq, fixture::vm(1), kind)).await.unwrap();
        let Admission::New(proof) = admitted else { panic!("{admitted:?}") };
        let begun = Entry::StepStarted { step: Step::Mark, attempt: 1, before: None };
        let ended = Entry::Finished { outcome: Outcome::success(), vm: None, leaves: None };
        journal.append(&proof, vec![begun, ended]).await.unwrap();
    }
    let reader = Reader::open(&folder.db()).unwrap();
    let filter = EventFilter { vm: Some(fixture::vm(1)), unfinished: false };
    let mut rows = reader.events(&filter, Page { before: None, limit: 9 }).unwrap();
    rows.reverse();
    let events: Vec<_> = rows.into_iter().map(|row| reader.event(row.id).unwrap().unwrap()).collect();
    let at = events[0].0.accepted_at;
    let noted = Noted { states: vec![StateRow::Told { at, words: "crashed".into() }], ..Noted::default() };
    let order = items(&events, noted).into_iter().map(|item| match item.what {
        What::Accepted { kind, .. } => format!("{kind} accepted"),
        What::Ended { kind, .. } => format!("{kind} ended"),
        What::Step { step, .. } => step,
        other => format!("{other:?}"),
    });
    assert_eq!(
        order.collect::<Vec<_>>(),
        [
            "create accepted",
            "mark",
            "Told { words: \"crashed\" }",
            "create ended",
            "reboot accepted",
            "mark",
            "reboot ended"
        ]
    );
}
