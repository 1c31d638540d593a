use std::path::PathBuf;
use std::time::Instant;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::RunId;

use super::*;

/// Longer than any disk takes; a test that gets here has failed.
const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    dir: tempfile::TempDir,
    withheld: watch::Sender<Option<Cause>>,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("dewpoint-notes-").tempdir().unwrap();
        Self { dir, withheld: watch::Sender::new(None) }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("notes.db")
    }

    fn open(&self) -> Notes {
        self.open_within(Bounds::default())
    }

    fn open_within(&self, bounds: Bounds) -> Notes {
        Notes::open(&self.path(), self.withheld.subscribe(), bounds)
    }

    fn read<T>(&self, read: impl Fn(&NotesReader) -> T) -> T {
        read(&NotesReader::open(&self.path()).unwrap())
    }

    /// Waits for the thread.
    fn until<T>(&self, what: &str, read: impl Fn(&NotesReader) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = NotesReader::open(&self.path()).ok().and_then(|reader| read(&reader)) {
                return found;
            }
            assert!(began.elapsed() < PATIENCE, "never: {what}");
            std::thread::yield_now();
        }
    }
}

fn call(vm: VmId, call: &'static str, end: CallEnd) -> CallNote {
    CallNote { vm: Some(vm), call, at: Millis::now(), took: Duration::from_micros(1500), end }
}

fn sight(power: Power) -> Sight {
    Sight { power, detail: "as a test says".to_owned(), run: Some(RunId::fresh()) }
}

#[test]
fn calls_come_back_with_latency_and_error_and_looks_are_counted_together() {
    let (rig, vm) = (Rig::new(), VmId::fresh());
    let notes = rig.open();
    let failed = CallEnd::of(&Cause::new(Reason::HypervisorError, "no such file"));
    let overran = CallEnd::of(&Cause::new(Reason::CallOverran, "did not return"));
    (0..40).for_each(|_| notes.call(call(vm, recorder::OBSERVE, CallEnd::Well)));
    notes.call(call(vm, "start", failed.clone()));
    notes.call(call(vm, recorder::OBSERVE, CallEnd::Well));
    notes.call(call(vm, "power-off", overran.clone()));
    notes.call(call(VmId::fresh(), "start", CallEnd::Well));
    let calls = rig.until("all calls", |reader| {
        let calls = reader.calls(vm, Millis(0)).unwrap();
        (calls.len() >= 4).then_some(calls)
    });
    let told: Vec<_> = calls.iter().map(|row| (row.call.as_str(), row.times, row.end.clone())).collect();
    let well = CallEnd::Well;
    assert_eq!(
        told,
        [
            ("observe", 40, well.clone()),
            ("start", 1, failed),
            ("observe", 1, well),
            ("power-off", 1, overran)
        ]
    );
    assert_eq!(calls[1].took, Duration::from_micros(1500));
}

#[test]
fn a_state_is_recorded_when_it_changes_and_what_is_told_of_vms_of_ours() {
    let (rig, vm, stranger) = (Rig::new(), VmId::fresh(), VmId::fresh());
    let notes = rig.open();
    let (off, on) = (sight(Power::Off), sight(Power::Running));
    for seen in [&off, &off, &off, &on, &on] {
        notes.saw(vm, seen.clone(), Millis::now());
    }
    notes.told(vm, "metadata".to_owned(), Millis::now());
    notes.told(vm, "stopped/crashed".to_owned(), Millis::now());
    notes.told(stranger, "stopped/crashed".to_owned(), Millis::now());
    notes.missed_but(|_| false, Millis::now());
    notes.missed(vm, Millis::now());
    let states = rig.until("all states", |reader| {
        let states = reader.states(vm, Millis(0)).unwrap();
        (states.len() >= 4).then_some(states)
    });
    let told: Vec<_> = states
        .iter()
        .map(|row| match row {
            StateRow::Seen { was, now, .. } => format!("{} -> {now}", was.as_deref().unwrap_or("?")),
            StateRow::Told { words, .. } => words.clone(),
        })
        .collect();
    assert_eq!(told, ["? -> off", "off -> running", "stopped/crashed", "running -> absent"]);
    assert_eq!(rig.read(|reader| reader.states(stranger, Millis(0)).unwrap()), []);
}

#[test]
fn after_a_restart_what_was_seen_before_is_no_news() {
    let (rig, vm) = (Rig::new(), VmId::fresh());
    let on = sight(Power::Running);
    let notes = rig.open();
    notes.saw(vm, on.clone(), Millis::now());
    rig.until("the state", |reader| (!reader.states(vm, Millis(0)).unwrap().is_empty()).then_some(()));
    drop(notes);
    let notes = rig.open();
    notes.saw(vm, on, Millis::now());
    notes.started(Millis::now(), "0.0.0");
    rig.until("the start", |reader| (!reader.starts(Millis(0)).unwrap().is_empty()).then_some(()));
    assert_eq!(rig.read(|reader| reader.states(vm, Millis(0)).unwrap()).len(), 1);
}

#[test]
fn a_full_queue_drops_counts_and_never_waits() {
    let (rig, vm) = (Rig::new(), VmId::fresh());
    let notes = rig.open_within(Bounds { queue: 4, ..Bounds::default() });
    // While somebody else writes, the thread waits; whoever records does not, or this would not return.
    let other = rusqlite::Connection::open(rig.path()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    (0..1000).for_each(|_| notes.call(call(vm, "start", CallEnd::Well)));
    other.execute_batch("ROLLBACK").unwrap();
    notes.call(call(vm, "undefine", CallEnd::Well));
    let lost = rig.until("the count", |reader| reader.lost().unwrap());
    let kept = rig.read(|reader| reader.calls(vm, Millis(0)).unwrap()).len();
    assert!(lost.records > 0 && kept < 1000, "{lost:?}, {kept} kept");
}

#[test]
fn while_the_journal_withholds_nothing_is_written() {
    let (rig, vm) = (Rig::new(), VmId::fresh());
    let notes = rig.open();
    rig.withheld.send_replace(Some(Cause::new(Reason::JournalError, "the disk is full")));
    let shared = notes.0.clone().unwrap();
    (0..5).for_each(|_| notes.call(call(vm, "start", CallEnd::Well)));
    let began = Instant::now();
    while shared.dropped.load(Ordering::Relaxed) < 5 {
        assert!(began.elapsed() < PATIENCE, "never dropped");
        std::thread::yield_now();
    }
    rig.withheld.send_replace(None);
    notes.call(call(vm, "undefine", CallEnd::Well));
    let lost = rig.until("the count", |reader| reader.lost().unwrap());
    assert_eq!(lost.records, 5);
    assert_eq!(rig.read(|reader| reader.calls(vm, Millis(0)).unwrap()).len(), 1);
}

#[test]
fn what_is_damaged_is_begun_anew() {
    let (rig, vm) = (Rig::new(), VmId::fresh());
    std::fs::write(rig.path(), vec![0x5a; 8192]).unwrap();
    let notes = rig.open();
    notes.call(call(vm, "start", CallEnd::Well));
    rig.until("the call", |reader| (reader.calls(vm, Millis(0)).ok()?.len() == 1).then_some(()));
}

#[test]
fn what_cannot_be_used_is_left_off_and_left_alone() {
    let rig = Rig::new();
    let nowhere = rig.dir.path().join("no/such/folder/notes.db");
    let notes = Notes::open(&nowhere, rig.withheld.subscribe(), Bounds::default());
    notes.call(call(VmId::fresh(), "start", CallEnd::Well));
    notes.saw(VmId::fresh(), sight(Power::Off), Millis::now());
    assert!(notes.0.is_none());

    let newer = rusqlite::Connection::open(rig.path()).unwrap();
    newer.execute_batch("CREATE TABLE other (n INTEGER); PRAGMA user_version = 9;").unwrap();
    drop(newer);
    assert!(rig.open().0.is_none());
    let left = rusqlite::Connection::open(rig.path()).unwrap();
    let version: u32 = left.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    assert_eq!(version, 9, "a newer agent's notes are not touched");
}

#[test]
fn rows_are_bounded() {
    let (rig, vm) = (Rig::new(), VmId::fresh());
    let bounds = Bounds { calls: 100, queue: 8192, ..Bounds::default() };
    let notes = rig.open_within(bounds);
    (0..6000).for_each(|_| notes.call(call(vm, "start", CallEnd::Well)));
    notes.started(Millis::now(), "0.0.0");
    rig.until("the end", |reader| (!reader.starts(Millis(0)).unwrap().is_empty()).then_some(()));
    let kept = rig.read(|reader| reader.calls(vm, Millis(0)).unwrap()).len();
    // Pruned now and then, not with each row.
    assert!((100..=2500).contains(&kept), "{kept}");
}
