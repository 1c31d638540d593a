//! What other versions wrote, and what was spoiled: parked or refused by name, never a crash, never made worse.

use rusqlite::Connection;

use super::*;

/// Two running creates, then something done to the closed database.
async fn spoiled(sql: &str) -> Folder {
    let folder = Folder::new();
    let journal = folder.open();
    for seq in 1..=2 {
        let proof = accepted(&journal, delivery(seq, vm(seq.into()), create())).await;
        journal.append(&proof, vec![started(Step::MakeDisk)]).await.unwrap();
    }
    let changed = Connection::open(folder.db()).unwrap().execute(sql, []).unwrap();
    assert_eq!(changed, 1);
    folder
}

async fn parks_the_first_alone(sql: &str) -> Cause {
    let folder = spoiled(sql).await;
    let journal = folder.open();
    let recovery = journal.unfinished().await.unwrap();
    assert_eq!(recovery.events.iter().map(|event| event.proof.id()).collect::<Vec<_>>(), [id(2)]);
    let [parked] = recovery.parked.try_into().unwrap();
    assert_eq!((parked.event, parked.vm), (id(1), vm(1)));
    // Its VM stays blocked, others go on.
    assert_eq!(refused(&journal, delivery(3, vm(1), reboot())).await.reason, Reason::VmBusy);
    accepted(&journal, delivery(4, vm(4), create())).await;
    parked.cause
}

#[tokio::test]
async fn an_entry_of_a_newer_kind_parks_its_event() {
    let cause = parks_the_first_alone(
        "UPDATE entries SET kind = 'teleported', json = '{\"entry\":\"teleported\"}' WHERE n = 1",
    )
    .await;
    assert_eq!(cause.reason, Reason::UnknownKind);
}

#[tokio::test]
async fn an_entry_of_a_newer_version_parks_its_event() {
    let cause = parks_the_first_alone("UPDATE entries SET version = 2 WHERE n = 1").await;
    assert_eq!(cause.reason, Reason::UnknownKind);
}

#[tokio::test]
async fn a_step_of_a_newer_version_parks_its_event() {
    let sql = "UPDATE entries SET json = replace(json, 'make-disk', 'weave-disk') WHERE n = 1";
    assert_eq!(parks_the_first_alone(sql).await.reason, Reason::UnknownKind);
}

#[tokio::test]
async fn a_body_that_does_not_match_its_digest_parks_its_event() {
    let cause = parks_the_first_alone("UPDATE events SET digest = zeroblob(32) WHERE n = 1").await;
    assert!(cause.text.contains("digest"), "{cause}");
    assert_eq!(cause.fields["event_id"], id(1).to_string());
}

#[tokio::test]
async fn a_body_that_is_lost_or_another_events_parks_its_event() {
    parks_the_first_alone("UPDATE events SET body = NULL WHERE n = 1").await;
    let swap = "UPDATE events SET (body, digest) = (SELECT body, digest FROM events WHERE n = 2) WHERE n = 1";
    parks_the_first_alone(swap).await;
}

#[tokio::test]
async fn entries_that_contradict_the_row_park_its_event() {
    parks_the_first_alone("UPDATE events SET stage = 'undoing' WHERE n = 1").await;
}

#[tokio::test]
async fn a_deadline_that_cannot_be_read_parks_its_event() {
    parks_the_first_alone("UPDATE events SET deadline = 'noon' WHERE n = 1").await;
}

#[tokio::test]
async fn a_newer_schema_stops_the_start_and_is_left_as_it_is() {
    let folder = Folder::new();
    drop(folder.open());
    let db = Connection::open(folder.db()).unwrap();
    db.pragma_update(None, "user_version", 99).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    let before = std::fs::read(folder.db()).unwrap();
    let error = Journal::open(&folder.db(), super::super::fixture::settings()).err().unwrap();
    assert!(matches!(error, OpenError::NewerSchema { found: 99, .. }), "{error:?}");
    assert!(Reader::open(&folder.db()).is_err());
    assert_eq!(std::fs::read(folder.db()).unwrap(), before);
    let cause = Cause::from(error);
    assert_eq!(cause.reason, Reason::JournalNewer);
    assert!(cause.text.contains("99") && !cause.advice.is_empty());
}

#[test]
fn a_database_of_something_else_is_not_touched() {
    let folder = Folder::new();
    Connection::open(folder.db()).unwrap().execute_batch("CREATE TABLE cats (name TEXT)").unwrap();
    let error = Journal::open(&folder.db(), super::super::fixture::settings()).err().unwrap();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
    std::fs::write(folder.db(), b"not a database at all, but long enough to be looked at").unwrap();
    assert!(Journal::open(&folder.db(), super::super::fixture::settings()).is_err());
}

#[tokio::test]
async fn the_reader_reads_with_the_daemon_up_or_down() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let journal = folder.open();
    built(&journal).await;
    let up = Reader::open(&folder.db()).unwrap();
    assert_eq!(up.vms().unwrap().len(), 1);
    // What is written later is seen by the same reader.
    let proof = accepted(&journal, delivery(2, vm(1), destroy())).await;
    journal.append(&proof, vec![gone()]).await.unwrap();
    assert!(up.vms().unwrap().is_empty());
    drop(up);
    drop(journal);
    wait_until_closed(&folder).await;
    let mode = std::fs::metadata(folder.db()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it holds user-data");
    let down = Reader::open(&folder.db()).unwrap();
    assert_eq!(down.tail().unwrap().last, Some((Seq(2), id(2))));
    assert!(Reader::open(&folder.path().join("missing.db")).is_err());
}

/// The last connection takes the log with it.
async fn wait_until_closed(folder: &Folder) {
    let log = folder.path().join("agent.db-wal");
    for _ in 0..2000 {
        if !log.exists() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the journal did not close");
}
