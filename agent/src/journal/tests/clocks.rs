//! The host's wall clock is moved by a day, to either side: no deadline moves.

use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::ids::Term;
use dewpoint_proto::time::Millis;

use crate::journal::Journal;
use crate::journal::fixture::{Folder, TestClock, body_until, create, delivered, id, settings_with, vm};

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
