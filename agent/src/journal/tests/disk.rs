//! Promise 9: a full disk is reported, not made worse.

use super::super::fixture::SmallDisk;
use super::*;
use crate::journal::Bounds;

#[tokio::test]
async fn on_a_full_disk_running_events_end_and_new_ones_are_withheld_until_there_is_room() {
    let Some(disk) = SmallDisk::of(24) else { return };
    let journal = disk.open();
    let proof = accepted(&journal, delivery(1, vm(1), create())).await;
    journal.append(&proof, vec![started(Step::MakeDisk)]).await.unwrap();
    disk.fill();

    let withheld = journal.admit(delivery(2, vm(2), create())).await.unwrap_err();
    assert!(matches!(withheld, JournalError::Withheld(_)), "{withheld:?}");
    let cause = journal.withheld().borrow().clone().unwrap();
    assert_eq!(cause.reason, Reason::JournalError);
    assert!(journal.ping().await.is_err());

    let stage = journal.append(&proof, vec![done(Step::MakeDisk), succeeded(id(1))]).await.unwrap();
    assert!(stage.is_finished());
    assert_eq!(journal.reports_after(ReportSeq(0), 9).await.unwrap().len(), 1);

    disk.empty();
    journal.ping().await.unwrap();
    assert!(journal.withheld().borrow().is_none());
    accepted(&journal, delivery(2, vm(2), create())).await;
    assert!(disk.path().join("journal.reserve").exists());
}

#[tokio::test]
async fn when_even_the_reserve_is_used_up_nothing_that_was_answered_is_lost() {
    let folder = Folder::new();
    let tight = Bounds { reserve_bytes: 1 << 20, most_pages: Some(48) };
    let journal = Journal::open_within(&folder.db(), super::super::fixture::settings(), tight).unwrap();
    let mut taken = 0;
    let error = loop {
        let seq = taken + 1;
        match journal.admit(delivery(seq, vm(seq.into()), create())).await {
            Ok(_) => taken = seq,
            Err(error) => break error,
        }
        assert!(taken < 1000);
    };
    assert!(matches!(error, JournalError::Withheld(_)), "{error:?}");
    // A write that cannot be left out fails as a whole, and says so.
    let unfinished = journal.unfinished().await.unwrap().events;
    assert_eq!(unfinished.len() as u64, taken);
    let mut refused = None;
    for event in &unfinished {
        let entries = std::iter::repeat_n(started(Step::MakeDisk), 40).collect();
        if let Err(error) = journal.append(&event.proof, entries).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(JournalError::Full(_))), "{refused:?}");
    drop(journal);

    let roomy = folder.open();
    assert_eq!(roomy.tail().await.unwrap().last, Some((Seq(taken), id(taken.into()))));
    assert!(roomy.unfinished().await.unwrap().parked.is_empty());
    accepted(&roomy, delivery(taken + 1, vm(500), create())).await;
}
