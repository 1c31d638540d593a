use dewpoint_proto::ids::ReportSeq;

use super::*;
use crate::journal::fixture::{Folder, create, delivered, delivery, id, reboot, spec, vm};
use crate::journal::{Admission, EventFilter, Page};

fn to() -> JournalId {
    JournalId(uuid::Uuid::from_u128(0x2ed))
}

fn queue(journal: &Journal, vms: Vec<Adopted>) -> NewQueue {
    NewQueue {
        from: journal.epoch().journal,
        to: to(),
        base: Seq(7),
        base_event: id(0xba5e),
        vms,
        end_unfinished: false,
    }
}

fn adopted(n: u128, generation: u64) -> Adopted {
    Adopted { vm: vm(n), generation: Generation(generation), spec: spec(), wanted: Wanted::On, parts: None }
}

/// As a copy over the file does it, with the agent stopped.
async fn put_back(folder: &Folder, copy: &std::path::Path) {
    closed(folder).await;
    std::fs::write(folder.db(), std::fs::read(copy).unwrap()).unwrap();
}

/// Until the journal's thread has ended: whoever closes the file last takes its log away.
async fn closed(folder: &Folder) {
    let log = folder.path().join("agent.db-wal");
    let closing = async {
        loop {
            let db = rusqlite::Connection::open(folder.db()).unwrap();
            db.query_row("SELECT count(*) FROM meta", [], |_| Ok(())).unwrap();
            drop(db);
            if !log.exists() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), closing).await.expect("it is not closed");
}

#[tokio::test]
async fn a_new_queue_goes_on_after_its_base_under_a_new_id() {
    let folder = Folder::new();
    let journal = folder.open();
    journal.admit(delivery(1, vm(1), create())).await.unwrap();
    let told = queue(&journal, vec![adopted(1, 5), adopted(2, 9)]);
    let other = NewQueue { from: to(), to: JournalId(uuid::Uuid::from_u128(3)), ..told.clone() };
    assert_eq!(journal.reconcile(other).await.unwrap(), Reconciled::NotOurs);
    assert_eq!(journal.reconcile(told.clone()).await.unwrap(), Reconciled::Done);
    assert_eq!(journal.reconcile(told).await.unwrap(), Reconciled::Done, "told again");

    let tail = journal.tail().await.unwrap();
    assert_eq!((tail.epoch.journal, tail.last), (to(), Some((Seq(7), id(0xba5e)))));
    assert!(
        journal.admit(delivery(7, vm(2), reboot())).await.is_err(),
        "what was before the base does not come"
    );
    let next = delivered(8, crate::journal::fixture::body(id(8), vm(2), reboot()));
    let stale = journal.admit(next).await.unwrap();
    assert!(
        matches!(&stale, Admission::Refused(cause) if cause.reason == Reason::StaleGeneration),
        "{stale:?}"
    );
    assert_eq!(journal.tail().await.unwrap().last, Some((Seq(8), id(8))));
    let row = journal.vm(vm(2)).await.unwrap().unwrap();
    assert_eq!((row.generation, row.wanted, row.spec), (Generation(9), Wanted::On, Some(spec())));
    let vms: Vec<_> = journal.vms().await.unwrap().into_iter().map(|row| (row.vm, row.generation)).collect();
    assert_eq!(vms, [(vm(1), Generation(5)), (vm(2), Generation(9))]);

    drop(journal);
    let again = folder.open();
    assert_eq!((again.epoch().journal, again.doubt()), (to(), None));
}

/// The file was copied back: what is unfinished in it may long be done.
#[tokio::test]
async fn an_older_copy_is_not_believed_until_a_person_has_decided() {
    let folder = Folder::new();
    let copy = folder.path().join("copy.db");
    let journal = folder.open();
    journal.admit(delivery(1, vm(1), create())).await.unwrap();
    drop(journal);
    crate::journal::fixture::copied(&folder.db(), &copy);
    let journal = folder.open();
    assert_eq!(journal.doubt(), None, "a restart is no reason");
    journal.admit(delivery(2, vm(2), create())).await.unwrap();
    journal.admit(delivery(3, vm(3), create())).await.unwrap();
    drop(journal);

    put_back(&folder, &copy).await;
    for _ in 0..2 {
        closed(&folder).await;
        let journal = folder.open();
        let doubt = journal.doubt().expect("it is doubted, also at the next start");
        assert!(doubt.text.contains("older copy"), "{doubt:?}");
        let refused = journal.admit(delivery(2, vm(4), create())).await.unwrap_err();
        assert!(matches!(refused, JournalError::Withheld(_)), "{refused:?}");
    }
    let journal = folder.open();
    let told = NewQueue { end_unfinished: true, ..queue(&journal, vec![adopted(1, 1)]) };
    journal.reconcile(told).await.unwrap();
    assert_eq!(journal.doubt(), None);
    let all = journal.events(EventFilter::default(), Page { before: None, limit: 9 }).await.unwrap();
    assert_eq!(all.len(), 1);
    assert!(matches!(&all[0].outcome, Some(Outcome::Failed(cause)) if cause.reason == Reason::Unconfirmed));
    assert_eq!(journal.tail().await.unwrap().last_report, ReportSeq(1));
    drop(journal);
    assert_eq!(folder.open().doubt(), None, "its witness is of the new journal");
}

#[tokio::test]
async fn a_person_who_removes_the_witness_believes_the_journal() {
    let folder = Folder::new();
    let copy = folder.path().join("copy.db");
    drop(folder.open());
    crate::journal::fixture::copied(&folder.db(), &copy);
    let journal = folder.open();
    journal.admit(delivery(1, vm(1), create())).await.unwrap();
    drop(journal);
    put_back(&folder, &copy).await;
    assert!(folder.open().doubt().is_some());
    std::fs::remove_file(folder.path().join("agent.db.seen")).unwrap();
    let journal = folder.open();
    assert_eq!(journal.doubt(), None);
    journal.admit(delivery(1, vm(1), create())).await.unwrap();
}

/// Lost, not doubted: there is nothing in it that could be gone on with.
#[tokio::test]
async fn a_lost_journal_begins_anew_without_a_doubt() {
    let folder = Folder::new();
    let journal = folder.open();
    journal.admit(delivery(1, vm(1), create())).await.unwrap();
    let was = journal.epoch().journal;
    drop(journal);
    closed(&folder).await;
    std::fs::remove_file(folder.db()).unwrap();
    let journal = folder.open();
    assert_eq!(journal.doubt(), None);
    assert_ne!(journal.epoch().journal, was);
}

#[tokio::test]
async fn an_account_tells_the_queue_after_a_place_and_what_was_asked_for() {
    let journal = Folder::new();
    let journal = journal.open();
    for seq in 1..=4 {
        journal.admit(delivery(seq, vm(seq.into()), create())).await.unwrap();
    }
    let told = journal.account(Seq(2), vec![id(1), id(3), id(99)], 10).await.unwrap();
    assert_eq!(told.iter().map(|row| row.id).collect::<Vec<_>>(), [id(3), id(4), id(1)]);
    assert!(told.iter().all(|row| row.body.is_some()));
}
