//! The host's wall clock is moved by a day, to either side: no deadline moves, and nothing is dropped early or done again.

use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::ids::{ReportSeq, Term};
use dewpoint_proto::time::Millis;

use super::built;
use crate::clock::Clock;
use crate::journal::Journal;
use crate::journal::admission::Admission;
use crate::journal::fixture::{
    Folder, TestClock, body_until, create, delivered, delivery, id, settings_with, vm,
};

const DAY: i64 = 24 * 3600 * 1000;

#[tokio::test]
async fn a_deadline_means_the_same_after_the_wall_clock_was_moved_by_a_day() {
    for (before, after) in [(DAY, 0), (-DAY, 0), (0, DAY), (0, -DAY), (DAY, -2 * DAY)] {
        let (folder, clock) = (Folder::new(), Arc::new(TestClock::default()));
        let open = || Journal::open(&folder.db(), settings_with(Arc::clone(&clock))).unwrap();
        let journal = open();
        // The coordinator's clock is an hour ahead of this host's, whatever this host's own says.
        let theirs = Millis(1_800_000_000_000 + 3_600_000);
        clock.jump(before);
        journal.welcomed(Term(1), theirs, false).await.unwrap();
        clock.advance(Duration::from_secs(10));
        clock.jump(after);
        let due = theirs.plus(Duration::from_secs(60));
        journal.admit(delivered(1, body_until(id(1), vm(1), create(), Some(due)))).await.unwrap();
        drop(journal);

        let journal = open();
        let deadline = journal.unfinished().await.unwrap().events[0].proof.deadline().unwrap();
        assert_eq!(deadline.remaining(&journal.now()), Duration::from_secs(50), "{before} {after}");
        clock.jump(-after);
        assert!(!deadline.passed(&journal.now()));
        clock.advance(Duration::from_millis(50_001));
        assert!(deadline.passed(&journal.now()), "{before} {after}");
    }
}

/// Promise 2: an event that has ended is not taken for a new one, and nothing of it goes before its time.
#[tokio::test]
async fn what_has_ended_is_kept_for_its_time_though_the_wall_clock_is_moved_by_a_day() {
    for jump in [DAY, -DAY] {
        let (folder, clock) = (Folder::new(), Arc::new(TestClock::default()));
        let open = || Journal::open(&folder.db(), settings_with(Arc::clone(&clock))).unwrap();
        let journal = open();
        let began = clock.wall();
        journal.welcomed(Term(1), Millis(1_800_000_000_000), false).await.unwrap();
        built(&journal).await;
        journal.acknowledge(ReportSeq(1)).await.unwrap();
        let body = async || journal.event(id(1)).await.unwrap().unwrap().0.body;

        clock.jump(jump);
        let nearly = Duration::from_secs((2 * 24 + 23) * 3600);
        clock.advance(nearly);
        journal.prune(began.plus(nearly)).await.unwrap();
        assert!(body().await.is_some(), "{jump}: it is kept for three days");
        let more = Duration::from_secs(26 * 3600);
        clock.advance(more);
        journal.prune(began.plus(nearly + more)).await.unwrap();
        assert!(body().await.is_none(), "{jump}: and no longer than a day more");

        let seen = journal.admit(delivery(1, vm(1), create())).await.unwrap();
        assert!(matches!(seen, Admission::Seen(_)), "{jump}: {seen:?}");
        drop(journal);
        let journal = open();
        assert!(journal.unfinished().await.unwrap().events.is_empty(), "{jump}: nothing is gone on with");
        assert_eq!(journal.tail().await.unwrap().acknowledged, ReportSeq(1), "{jump}");
    }
}
