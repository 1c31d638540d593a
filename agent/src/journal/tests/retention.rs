//! What is dropped in time, and what stays for good.

use super::super::fixture::TestClock;
use super::*;
use crate::clock::Clock;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// One ended event, and how its journal is opened.
async fn ended() -> (Folder, std::sync::Arc<TestClock>, Journal) {
    let folder = Folder::new();
    let clock = std::sync::Arc::new(TestClock::default());
    let journal = Journal::open(&folder.db(), settings_with(clock.clone())).unwrap();
    built(&journal).await;
    (folder, clock, journal)
}

#[tokio::test]
async fn bodies_go_first_then_entries_and_ids_stay() {
    let (_folder, clock, journal) = ended().await;
    journal.welcomed(Term(1), Millis(1_800_000_000_000), false).await.unwrap();
    journal.acknowledge(ReportSeq(1)).await.unwrap();
    let found = async || journal.event(id(1)).await.unwrap().unwrap();

    clock.advance(2 * DAY);
    journal.prune(clock.wall()).await.unwrap();
    assert!(found().await.0.body.is_some());
    clock.advance(2 * DAY);
    journal.prune(clock.wall()).await.unwrap();
    let (row, entries) = found().await;
    assert!(row.body.is_none() && !entries.is_empty());
    clock.advance(30 * DAY);
    journal.prune(clock.wall()).await.unwrap();
    let (row, entries) = found().await;
    assert!(entries.is_empty());
    assert_eq!(row.outcome, Some(Outcome::success()));

    // Its id and digest still answer a redelivery, and its number is not used again.
    let seen = journal.admit(delivery(1, vm(1), create())).await.unwrap();
    assert!(matches!(seen, Admission::Seen(Stage::Reported(_))), "{seen:?}");
    refused(&journal, delivery(2, vm(1), create())).await;
    assert_eq!(journal.tail().await.unwrap().last_report, ReportSeq(2));
    // What later events of the VM need is not dropped.
    assert!(journal.vm(vm(1)).await.unwrap().unwrap().spec.is_some());
}

#[tokio::test]
async fn what_the_coordinator_has_not_heard_of_stays_whole() {
    let (_folder, clock, journal) = ended().await;
    journal.welcomed(Term(1), Millis(1_800_000_000_000), false).await.unwrap();
    clock.advance(90 * DAY);
    journal.prune(clock.wall()).await.unwrap();
    let (row, entries) = journal.event(id(1)).await.unwrap().unwrap();
    assert!(row.body.is_some() && !entries.is_empty());
    assert_eq!(journal.reports_after(ReportSeq(0), 9).await.unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_coordinator_the_outbox_does_not_grow_for_ever() {
    let (_folder, clock, journal) = ended().await;
    clock.advance(31 * DAY);
    journal.prune(clock.wall()).await.unwrap();
    assert!(journal.reports_after(ReportSeq(0), 9).await.unwrap().is_empty());
    assert_eq!(journal.tail().await.unwrap().last_report, ReportSeq(1));
}

#[tokio::test]
async fn an_unfinished_event_is_never_dropped() {
    let folder = Folder::new();
    let clock = std::sync::Arc::new(TestClock::default());
    let journal = Journal::open(&folder.db(), settings_with(clock.clone())).unwrap();
    let proof = accepted(&journal, delivery(1, vm(1), create())).await;
    journal.append(&proof, vec![started(Step::MakeDisk)]).await.unwrap();
    clock.advance(365 * DAY);
    journal.prune(clock.wall()).await.unwrap();
    let found = journal.unfinished().await.unwrap();
    assert_eq!((found.events.len(), found.events[0].history.len()), (1, 1));
}
