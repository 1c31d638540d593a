//! What the journal promises, by opening it again after every commit and breaking what is under it.

use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, Generation, ReportSeq, RunId, Seq, Term};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::time::Millis;

use super::admission::Presence;
use super::entry::{Before, Entry, Leaves, UndoneAs};
use super::fixture::{
    Folder, body, body_until, cancel, create, delivered, delivery, destroy, id, local, reboot, settings_with,
    vm,
};
use super::*;
use crate::execute::step::Step;
use crate::hypervisor::Wanted;

fn started(step: Step) -> Entry {
    Entry::StepStarted { step, attempt: 1, before: None }
}

fn done(step: Step) -> Entry {
    Entry::StepDone { step, image: None, consistency: None }
}

fn succeeded(event: EventId) -> Entry {
    let leaves = Leaves::Vm { disk: event, seed: event, wanted: Wanted::On, run: Some(event.into()) };
    Entry::Finished { outcome: Outcome::success(), vm: None, leaves: Some(leaves) }
}

fn gone() -> Entry {
    Entry::Finished { outcome: Outcome::success(), vm: None, leaves: Some(Leaves::Gone) }
}

async fn accepted(journal: &Journal, delivery: Delivery) -> Journaled {
    match journal.admit(delivery).await.unwrap() {
        Admission::New(proof) => proof,
        other => panic!("not accepted: {other:?}"),
    }
}

async fn refused(journal: &Journal, delivery: Delivery) -> Cause {
    match journal.admit(delivery).await.unwrap() {
        Admission::Refused(cause) => cause,
        other => panic!("not refused: {other:?}"),
    }
}

/// A VM built by event 1.
async fn built(journal: &Journal) {
    let proof = accepted(journal, delivery(1, vm(1), create())).await;
    journal.append(&proof, vec![started(Step::MakeDisk), succeeded(id(1))]).await.unwrap();
}

#[tokio::test]
async fn an_accepted_event_is_there_after_a_crash_and_goes_on_where_it_was() {
    let folder = Folder::new();
    let journal = folder.open();
    let proof = accepted(&journal, delivery(1, vm(1), create())).await;
    let before = Before { disk: None, seed: None, run: None, wanted: Wanted::Off };
    let first = Entry::StepStarted { step: Step::FetchImage, attempt: 1, before: Some(before) };
    journal.append(&proof, vec![first.clone()]).await.unwrap();
    journal.append(&proof, vec![done(Step::FetchImage), started(Step::MakeDisk)]).await.unwrap();

    // No handle is dropped first: the second opening sees what a crash leaves.
    let again = folder.open();
    let found = again.unfinished().await.unwrap();
    assert!(found.parked.is_empty());
    let [event] = found.events.as_slice() else { panic!("{found:?}") };
    assert_eq!(event.proof.id(), id(1));
    assert_eq!(event.proof.generation(), Generation(1));
    assert_eq!(event.proof.origin().seq(), Some(Seq(1)));
    assert_eq!(event.stage, Stage::Running);
    let entries: Vec<_> = event.history.iter().map(|written| written.entry.clone()).collect();
    assert_eq!(entries, [first, done(Step::FetchImage), started(Step::MakeDisk)]);
    assert_eq!(again.epoch().journal, journal.epoch().journal);
    assert_eq!(again.epoch().start_count, 2);
}

#[tokio::test]
async fn the_end_writes_report_and_vm_with_it() {
    let folder = Folder::new();
    let journal = folder.open();
    built(&journal).await;
    let [report] = journal.reports_after(ReportSeq(0), 10).await.unwrap().try_into().unwrap();
    assert_eq!((report.n, report.event, report.seq), (ReportSeq(1), id(1), Some(Seq(1))));
    assert_eq!(report.outcome, Outcome::success());
    assert!(report.begun_at.is_some());
    let row = journal.vm(vm(1)).await.unwrap().unwrap();
    assert_eq!((row.presence, row.disk, row.wanted), (Presence::There, Some(id(1)), Wanted::On));
    assert_eq!(row.run, Some(RunId::from(id(1))));
    assert_eq!(row.spec.unwrap(), super::fixture::spec());
    assert_eq!(*journal.reports().borrow(), ReportSeq(1));
}

#[tokio::test]
async fn a_redelivery_is_seen_and_another_body_is_not() {
    let folder = Folder::new();
    let journal = folder.open();
    built(&journal).await;
    let Admission::Seen(stage) = journal.admit(delivery(1, vm(1), create())).await.unwrap() else { panic!() };
    assert_eq!(stage, Stage::Finished(Outcome::success()));
    // The same seq with other bytes: the logs do not match.
    let other = journal.admit(delivery(1, vm(1), reboot())).await.unwrap_err();
    assert!(matches!(other, JournalError::SeqTaken { seq: Seq(1), .. }), "{other:?}");
    // The same id with other bytes at a new seq: refused, its place in the queue taken, its report written.
    let reused = refused(&journal, delivered(2, body(id(1), vm(1), reboot()))).await;
    assert_eq!(reused.reason, Reason::EventIdReused);
    let tail = journal.tail().await.unwrap();
    assert_eq!((tail.last, tail.last_report), (Some((Seq(2), id(1))), ReportSeq(2)));
    assert_eq!(journal.vms().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_gap_is_not_taken() {
    let folder = Folder::new();
    let journal = folder.open();
    for seq in [0, 2, u64::MAX] {
        let error = journal.admit(delivery(seq, vm(1), create())).await.unwrap_err();
        assert!(matches!(error, JournalError::OutOfOrder { expected: Seq(1), .. }), "{error:?}");
    }
    accepted(&journal, delivery(1, vm(1), create())).await;
}

#[tokio::test]
async fn a_refusal_is_journaled_with_its_report() {
    let folder = Folder::new();
    let journal = folder.open();
    assert_eq!(refused(&journal, delivery(1, vm(1), reboot())).await.reason, Reason::VmNotFound);
    let again = folder.open();
    let [report] = again.reports_after(ReportSeq(0), 10).await.unwrap().try_into().unwrap();
    assert!(matches!(report.outcome, Outcome::Refused(cause) if cause.reason == Reason::VmNotFound));
    assert!(again.unfinished().await.unwrap().events.is_empty());
    let Admission::Seen(Stage::Finished(_)) = again.admit(delivery(1, vm(1), reboot())).await.unwrap() else {
        panic!()
    };
}

#[tokio::test]
async fn a_tombstone_keeps_the_generation() {
    let folder = Folder::new();
    let journal = folder.open();
    built(&journal).await;
    let proof = accepted(&journal, delivery(2, vm(1), destroy())).await;
    journal.append(&proof, vec![started(Step::Undefine), gone()]).await.unwrap();
    assert!(journal.vms().await.unwrap().is_empty());
    let row = journal.vm(vm(1)).await.unwrap().unwrap();
    assert_eq!((row.presence, row.generation, row.spec), (Presence::Gone, Generation(2), None));
    let mut stale = delivery(3, vm(1), create());
    stale.origin = Origin::Delivered { seq: Seq(3), term: Term(1), generation: Generation(2) };
    assert_eq!(refused(&journal, stale).await.reason, Reason::StaleGeneration);
    // A local one takes the next.
    let proof = accepted(&journal, local(body(id(9), vm(1), create()))).await;
    assert_eq!(proof.generation(), Generation(3));
    assert_eq!(proof.origin(), Origin::Local);
}

#[tokio::test]
async fn a_destroy_and_a_cancel_name_what_they_end() {
    let folder = Folder::new();
    let journal = folder.open();
    let running = accepted(&journal, delivery(1, vm(1), create())).await;
    assert_eq!(refused(&journal, delivery(2, vm(1), reboot())).await.reason, Reason::VmBusy);
    let ending = accepted(&journal, delivery(3, vm(1), cancel(id(1)))).await;
    assert_eq!(ending.supersedes(), Some(id(1)));
    assert_eq!(refused(&journal, delivery(4, vm(1), destroy())).await.reason, Reason::VmBusy);

    let cause = Cause::new(Reason::CancelledByCaller, "cancelled");
    let undo = Entry::UndoDecided { cause: cause.clone(), ends: UndoneAs::Cancelled };
    let end = Entry::Finished { outcome: Outcome::Cancelled(cause), vm: None, leaves: Some(Leaves::Gone) };
    journal.append(&running, vec![undo, end]).await.unwrap();
    let ended = Entry::Finished { outcome: Outcome::success(), vm: None, leaves: None };
    journal.append(&ending, vec![ended]).await.unwrap();
    assert_eq!(refused(&journal, delivery(5, vm(1), cancel(id(1)))).await.reason, Reason::TooLate);
    assert_eq!(journal.vm(vm(1)).await.unwrap().unwrap().presence, Presence::Gone);
}

#[tokio::test]
async fn entries_are_written_all_or_none() {
    let folder = Folder::new();
    let journal = folder.open();
    let proof = accepted(&journal, delivery(1, vm(1), create())).await;
    // A `done` cannot follow the end.
    let error = journal
        .append(&proof, vec![started(Step::MakeDisk), succeeded(id(1)), done(Step::MakeDisk)])
        .await
        .unwrap_err();
    assert!(matches!(error, JournalError::Illegal(_)), "{error:?}");
    let (row, entries) = journal.event(id(1)).await.unwrap().unwrap();
    assert_eq!((row.stage.as_str(), entries.len()), ("accepted", 0));
    assert!(journal.reports_after(ReportSeq(0), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_request_that_fails_takes_no_other_with_it() {
    let folder = Folder::new();
    let journal = folder.open();
    let deliveries = (1..=40u64).map(|seq| {
        // Every fourth one leaves a gap.
        let seq = if seq % 4 == 0 { 1000 + seq } else { seq - seq / 4 };
        journal.admit(delivery(seq, vm(seq.into()), create()))
    });
    let answers = futures::future::join_all(deliveries).await;
    let taken = answers.iter().filter(|answer| matches!(answer, Ok(Admission::New(_)))).count();
    let gaps = answers.iter().filter(|answer| matches!(answer, Err(JournalError::OutOfOrder { .. }))).count();
    assert_eq!((taken, gaps), (30, 10));
    assert_eq!(folder.open().unfinished().await.unwrap().events.len(), 30);
}

#[tokio::test]
async fn an_acknowledged_report_is_not_sent_again_and_its_number_not_used_again() {
    let folder = Folder::new();
    let journal = folder.open();
    built(&journal).await;
    let mut changes = journal.changes();
    journal.acknowledge(ReportSeq(1)).await.unwrap();
    journal.acknowledge(ReportSeq(1)).await.unwrap();
    assert_eq!(changes.recv().await.unwrap().stage.name(), "reported");
    assert_eq!(journal.tail().await.unwrap().acknowledged, ReportSeq(1));
    refused(&journal, delivery(2, vm(5), reboot())).await;
    let tail = folder.open().tail().await.unwrap();
    assert_eq!((tail.acknowledged, tail.last_report), (ReportSeq(1), ReportSeq(2)));
}

#[tokio::test]
async fn a_deadline_keeps_the_coordinators_clock() {
    let folder = Folder::new();
    let clock = std::sync::Arc::new(super::fixture::TestClock::default());
    let journal = Journal::open(&folder.db(), settings_with(clock.clone())).unwrap();
    // The coordinator is an hour ahead.
    let theirs = journal.now().wall.plus(Duration::from_secs(3600));
    journal.welcomed(Term(4), theirs, false).await.unwrap();
    let not_after = theirs.plus(Duration::from_secs(10));
    let event = body_until(id(1), vm(1), create(), Some(not_after));
    let proof = accepted(&journal, delivered(1, event)).await;
    let deadline = proof.deadline().unwrap();
    assert!(!deadline.passed(&journal.now()));
    clock.advance(Duration::from_secs(11));
    assert!(deadline.passed(&journal.now()));
    let found = folder.open().unfinished().await.unwrap();
    assert_eq!(found.events[0].proof.deadline(), Some(deadline));
}

#[tokio::test]
async fn a_coordinator_that_lost_its_claim_moves_nothing() {
    let folder = Folder::new();
    let journal = folder.open();
    journal.welcomed(Term(4), Millis(1_000), true).await.unwrap();
    let now = journal.welcomed(Term(3), Millis(9_000), false).await.unwrap();
    assert_eq!((now.term, now.hold), (Term(4), true));
    assert_eq!(folder.open().tail().await.unwrap().session, now);
}

#[tokio::test]
async fn an_offered_event_reaches_the_executor_though_nobody_waits_for_the_answer() {
    let folder = Folder::new();
    let journal = folder.open();
    let (admitted, mut executor) = mpsc::channel(1);
    let place = admitted.clone().reserve_owned().await.unwrap();
    drop(journal.offer(delivery(1, vm(1), create()), place).await.unwrap());
    assert_eq!(executor.recv().await.unwrap().id(), id(1));
    // A refused one gives its place back.
    let place = admitted.clone().reserve_owned().await.unwrap();
    let answer = journal.offer(delivery(2, vm(1), reboot()), place).await.unwrap().answer().await.unwrap();
    assert!(matches!(answer, Admission::Refused(_)));
    assert_eq!(admitted.capacity(), 1);
}

mod clocks;
mod crash;
mod damage;
mod disk;
mod kept;
mod retention;
mod unusable;
mod whole;
