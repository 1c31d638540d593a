//! A VM's story, from the journal and the notes of an agent that lived through it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use dewpoint_agent::hypervisor::fake::FakeHypervisor;
use dewpoint_agent::hypervisor::fake::script::Fault;
use dewpoint_agent::journal::{EventFilter, Page, Reader};
use dewpoint_agent::local::print;
use dewpoint_agent::notes::{CallEnd, NotesReader};
use dewpoint_agent::why::{self, Daemon, Doing, Kept, Noted, Now, Observed, StepEnd, Story, What};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Cancel, InitialPower, Kind, Reboot, RebootManner, Stop, Stubborn};
use dewpoint_proto::ids::VmId;
use dewpoint_proto::time::Millis;

use crate::rig::{Rig, create};

/// Longer than any thread takes to write.
const PATIENCE: Duration = Duration::from_secs(20);
/// Where times begin in what is compared; any time zone's whole quarter of an hour.
const BEGIN: Millis = Millis(1_800_000_000_000);

fn story(rig: &Rig, vm: VmId, daemon_down: Option<Cause>) -> Story {
    let reader = Reader::open(&rig.data().join("agent.db")).expect("it is read");
    let notes = NotesReader::open(&rig.data().join("notes.db")).expect("it is read");
    let filter = EventFilter { vm: Some(vm), unfinished: false };
    let mut rows = reader.events(&filter, Page { before: None, limit: 100 }).expect("it is read");
    rows.reverse();
    let entries = |row: dewpoint_agent::journal::EventRow| {
        let (_, entries) = reader.event(row.id).expect("it is read").expect("it is read");
        (row, entries)
    };
    let events: Vec<_> = rows.into_iter().map(entries).collect();
    let noted = Noted {
        calls: notes.calls(vm, Millis(0)).expect("it is read"),
        states: notes.states(vm, Millis(0)).expect("it is read"),
        starts: Vec::new(),
    };
    let board = rig.board.all();
    let doing = |event| {
        board.get(&event).map(|progress| Doing {
            waiting_for: progress.waiting_for.clone(),
            until: progress.until,
            bytes: progress.bytes,
        })
    };
    let daemon = if daemon_down.is_some() { Daemon::Down } else { Daemon::Up };
    Story {
        vm_id: vm,
        vm: reader.vm(vm).expect("it is read").as_ref().map(Kept::of),
        earlier_events: 0,
        items: why::items(&events, noted),
        is_cut: false,
        without_notes: None,
        lost: notes.lost().expect("it is read"),
        now: Now {
            at_ms: Millis::now(),
            observed: Observed::Absent,
            daemon_down,
            held: None,
            keeping: None,
            unfinished: why::unfinished(&events, daemon, doing),
        },
    }
}

/// Waits until the notes' thread has written what the story needs.
fn story_with(rig: &Rig, vm: VmId, wanted: impl Fn(&Story) -> bool) -> Story {
    let began = Instant::now();
    loop {
        let told = story(rig, vm, None);
        if wanted(&told) {
            return told;
        }
        assert!(began.elapsed() < PATIENCE, "never told: {}", told.text());
        std::thread::yield_now();
    }
}

fn calls(story: &Story, name: &str) -> usize {
    let is = |what: &What| matches!(what, What::Call { call, .. } if call == name);
    story.items.iter().filter(|item| is(&item.what)).count()
}

/// The text with times, spans and ids that are the same in every run. Of one millisecond nobody knows what came first,
/// so calls and states are looked at on their own.
fn settled(mut story: Story) -> String {
    let apart = |what: &What| matches!(what, What::Call { .. } | What::State { .. } | What::Told { .. });
    story.items.retain(|item| !apart(&item.what));
    let mut clocks = Vec::new();
    for (second, item) in story.items.iter_mut().enumerate() {
        item.at_ms = BEGIN.plus(Duration::from_secs(second as u64));
        clocks.push(item.at_ms);
        match &mut item.what {
            What::Step { took_ms: Some(took), .. } | What::Ended { took_ms: took, .. } => *took = 7,
            _ => {}
        }
    }
    story.now.at_ms = BEGIN.plus(Duration::from_secs(600));
    clocks.push(story.now.at_ms);
    for open in &mut story.now.unfinished {
        open.step_began_ms = open.step_began_ms.map(|_| BEGIN.plus(Duration::from_secs(590)));
        open.until_ms = open.until_ms.map(|_| BEGIN.plus(Duration::from_secs(660)));
        clocks.extend(open.until_ms);
    }
    let mut text = story.text();
    for at in clocks {
        let when = print::when(at);
        text = text.replace(&when[..10], "YYYY-MM-DD").replace(&when[11..], "HH:MM:SS");
    }
    for (n, id) in ids(&text).into_iter().enumerate() {
        text = text.replace(&id, &format!("00000000-0000-7000-8000-{n:012}"));
    }
    text
}

/// UUIDs, in the order in which they come.
fn ids(text: &str) -> Vec<String> {
    let mut known = BTreeSet::new();
    let words = text.split(|c: char| !c.is_ascii_hexdigit() && c != '-');
    let ids = words.filter(|word| word.len() == 36 && word.matches('-').count() == 4).map(str::to_owned);
    ids.filter(|id| known.insert(id.clone())).collect()
}

#[test]
fn a_story_has_events_steps_calls_and_states_in_order() {
    let mut rig = Rig::with_notes();
    let vm = VmId::fresh();
    rig.world.script().on("start", 0, Fault::Before(Cause::new(Reason::HypervisorError, "no such emulator")));
    let made = rig.send(vm, create(InitialPower::On));
    assert_eq!(rig.ended(made).name(), "succeeded");
    rig.world.change(|state| state.power_off(vm, "shutoff/crashed"));
    let stopped = rig.send(vm, Kind::Stop(Stop { stubborn: Stubborn::Leave, timeout_seconds: None }));
    assert_eq!(rig.ended(stopped).name(), "succeeded");
    let told = story_with(&rig, vm, |story| calls(story, "mark") > 0 && calls(story, "start") == 2);
    assert!(told.now.unfinished.is_empty());
    let states: Vec<_> = told
        .items
        .iter()
        .filter_map(|item| match &item.what {
            What::State { was, now, detail, .. } => {
                Some(format!("{} -> {now} ({detail})", was.as_deref().unwrap_or("?")))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        states,
        ["? -> off (shutoff/unknown)", "off -> running (running/booted)", "running -> off (shutoff/crashed)"]
    );
    let failed = told.items.iter().find_map(|item| match &item.what {
        What::Call { call, end: CallEnd::Failed { reason, error }, .. } => Some((call, reason, error)),
        _ => None,
    });
    let (call, reason, error) = failed.expect("the call that failed");
    assert_eq!(
        (call.as_str(), reason.as_deref(), error.as_str()),
        ("start", Some("HYPERVISOR_ERROR"), "no such emulator")
    );
    insta::assert_snapshot!(settled(told));
}

#[test]
fn what_is_unfinished_and_what_it_waits_for_is_at_the_end() {
    let mut rig = Rig::with_notes();
    let vm = VmId::fresh();
    let made = rig.send(vm, create(InitialPower::On));
    assert_eq!(rig.ended(made).name(), "succeeded");
    rig.world.script().always("observe-domain", Fault::fails());
    let reboot = Kind::Reboot(Reboot { manner: RebootManner::Hard, timeout_seconds: None });
    let event = rig.send(vm, reboot);
    rig.shown(event, |why| why.contains("libvirt does not answer"));
    let told = story_with(&rig, vm, |story| {
        story.now.unfinished.first().is_some_and(|open| open.waiting_for.contains("libvirt does not answer"))
    });
    let text = told.text();
    let end = text.split("\nnow, ").nth(1).unwrap().to_owned();
    for part in [&format!("reboot {event}, accepted"), "waits for   ", "dewpoint event cancel"] {
        assert!(end.contains(part), "{part}: {text}");
    }

    rig.kill();
    let down = story(&rig, vm, Some(Cause::new(Reason::Unreachable, "no agent answers")));
    let text = down.text();
    assert!(text.contains("it goes on by itself:") && text.trim_end().ends_with("dewpoint-agent"), "{text}");
    assert_eq!(down.now.unfinished[0].stage, "accepted");
    assert_eq!(down.now.unfinished[0].waiting_for, "the agent to be started");
}

#[test]
fn a_call_at_work_is_waited_for_until_its_deadline_and_what_comes_after_waits_for_it() {
    let mut rig = Rig::with_notes();
    let vm = VmId::fresh();
    let made = rig.send(vm, create(InitialPower::On));
    assert_eq!(rig.ended(made).name(), "succeeded");
    rig.world.script().shut("power-off");
    let event = rig.send(vm, Kind::Reboot(Reboot { manner: RebootManner::Hard, timeout_seconds: None }));
    rig.until(|world| world.script().made("power-off") == 1);
    let before = Millis::now();
    let cancel = rig.send(vm, Kind::Cancel(Cancel { target: event }));
    let told = story_with(&rig, vm, |story| story.now.unfinished.len() == 2);
    let [open, behind] = told.now.unfinished.as_slice() else { panic!("{}", told.text()) };
    assert_eq!((open.event_id, open.waiting_for.as_str()), (event, "power-off to return"));
    let until = open.until_ms.expect("a call has a deadline");
    assert!(until > before && until <= before.plus(FakeHypervisor::DEADLINE), "{}", told.text());
    assert_eq!(behind.event_id, cancel);
    assert_eq!(behind.waiting_for, format!("the reboot {event} to end"));
    assert!(told.text().trim_end().ends_with("from its next step on"), "{}", told.text());
    rig.world.script().let_go("power-off");
    assert_eq!(rig.ended(event).name(), "cancelled");
}

#[test]
fn a_vm_that_nothing_here_tells_of_is_unheard_of_and_others_are_not() {
    let mut rig = Rig::with_notes();
    let vm = VmId::fresh();
    assert!(story(&rig, vm, None).is_unheard());
    let made = rig.send(vm, create(InitialPower::Off));
    assert_eq!(rig.ended(made).name(), "succeeded");
    assert!(!story(&rig, vm, None).is_unheard());
    let mut unseen = story(&rig, VmId::fresh(), None);
    unseen.now.observed = Observed::Unknown { why: "libvirt is away".into() };
    assert!(!unseen.is_unheard(), "what could not be looked at says nothing");
}

#[test]
fn a_step_that_was_cut_off_is_told_as_that() {
    let mut rig = Rig::with_notes();
    let vm = VmId::fresh();
    rig.world.script().on("define", 0, Fault::Hang);
    let made = rig.send(vm, create(InitialPower::On));
    rig.until(|world| world.script().made("define") == 1);
    rig.kill();
    let open = story(&rig, vm, None);
    let step_end = |story: &Story, wanted: &str, nth: usize| {
        let steps = story.items.iter().filter_map(|item| match &item.what {
            What::Step { step, end, .. } if step == wanted => Some(end.clone()),
            _ => None,
        });
        steps.clone().nth(nth)
    };
    assert_eq!(step_end(&open, "define", 0), Some(StepEnd::Open));
    rig.start();
    assert_eq!(rig.ended(made).name(), "succeeded");
    let told = story(&rig, vm, None);
    assert_eq!(step_end(&told, "define", 0), Some(StepEnd::CutOff));
    assert_eq!(step_end(&told, "define", 1), Some(StepEnd::Returned));
}
