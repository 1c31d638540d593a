//! A journal that cannot be used: what was found is said, nothing of it is changed, and a person has a way on.

use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::Connection;

use super::*;
use crate::journal::aside::begin_anew;
use crate::journal::check::{Depth, Expects, Found, check};

const NOW: Millis = Millis(1_800_000_000_000);

/// A closed journal with a hundred VMs in it, all in its main file.
async fn filled() -> Folder {
    let folder = Folder::new();
    let journal = folder.open();
    for seq in 1..=100 {
        let proof = accepted(&journal, delivery(seq, vm(seq.into()), create())).await;
        journal.append(&proof, vec![started(Step::MakeDisk)]).await.unwrap();
    }
    drop(journal);
    let db = Connection::open(folder.db()).unwrap();
    db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    folder
}

fn root_of(db: &Path, table: &str) -> u32 {
    let db = Connection::open(db).unwrap();
    db.query_row("SELECT rootpage FROM sqlite_schema WHERE name = ?1", [table], |row| row.get(0)).unwrap()
}

/// Overwrites the page that a table or an index begins at.
fn spoil(db: &Path, table: &str) {
    let at = u64::from(root_of(db, table) - 1) * 4096;
    let file = std::fs::OpenOptions::new().write(true).open(db).unwrap();
    file.write_all_at(&[0xff; 4096], at).unwrap();
}

fn opened(folder: &Folder, expects: Expects) -> Result<Journal, OpenError> {
    Journal::open(&folder.db(), Settings { expects, ..super::super::fixture::settings() })
}

/// Each start says the same, and leaves the file as it is.
fn refuses(folder: &Folder, expects: Expects, says: &str) {
    let before = std::fs::read(folder.db()).ok();
    for _ in 0..3 {
        let cause = Cause::from(opened(folder, expects).err().unwrap());
        assert_eq!(cause.reason, Reason::JournalDamaged, "{cause:?}");
        assert!(cause.text.contains(says) && cause.advice.contains("journal new"), "{cause:?}");
        assert_eq!(std::fs::read(folder.db()).ok(), before);
    }
}

#[tokio::test]
async fn what_is_no_journal_any_more_is_named_and_left_as_it_is() {
    let folder = Folder::new();
    std::fs::write(folder.db(), [0x5a; 8192]).unwrap();
    refuses(&folder, Expects::Nothing, "first bytes");
    std::fs::write(folder.db(), "short").unwrap();
    refuses(&folder, Expects::Nothing, "first bytes");
    std::fs::write(folder.db(), "").unwrap();
    refuses(&folder, Expects::Rows, "empty");
    // Without VMs it is a first start that was cut off.
    opened(&folder, Expects::Nothing).unwrap();
}

#[test]
fn a_log_without_its_database_is_damage() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("agent.db-wal"), [1; 4096]).unwrap();
    refuses(&folder, Expects::Nothing, "-wal");
    assert!(folder.path().join("agent.db-wal").exists());
}

#[tokio::test]
async fn a_damaged_page_stops_the_start_and_says_so() {
    for table in ["entries", "vms", "events_unfinished"] {
        let folder = filled().await;
        spoil(&folder.db(), table);
        refuses(&folder, Expects::Rows, "agent.db");
    }
}

#[tokio::test]
async fn a_database_cut_short_stops_the_start() {
    let folder = filled().await;
    let length = std::fs::metadata(folder.db()).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(folder.db()).unwrap().set_len(length / 2).unwrap();
    refuses(&folder, Expects::Rows, "agent.db");
}

#[tokio::test]
async fn a_torn_log_costs_its_end_at_most() {
    let folder = Folder::new();
    let journal = folder.open();
    for seq in 1..=20 {
        accepted(&journal, delivery(seq, vm(seq.into()), create())).await;
    }
    let (db, log) = (std::fs::read(folder.db()).unwrap(), folder.path().join("agent.db-wal"));
    let log = std::fs::read(log).unwrap();
    for part in 0..=40 {
        let torn = Folder::new();
        std::fs::write(torn.db(), &db).unwrap();
        let mut rest = log[..log.len() * part / 40].to_vec();
        if part % 2 == 1 {
            let at = rest.len() / 2;
            rest[at] ^= 0xff;
        }
        std::fs::write(torn.path().join("agent.db-wal"), rest).unwrap();
        let journal = opened(&torn, Expects::Nothing).unwrap();
        let last = journal.tail().await.unwrap().last.map_or(0, |(seq, _)| seq.0);
        assert!(last <= 20);
        assert_eq!(journal.unfinished().await.unwrap().events.len() as u64, last, "whole events, or none");
    }
}

#[tokio::test]
async fn what_can_be_read_is_taken_over_and_the_old_files_are_kept() {
    let folder = filled().await;
    spoil(&folder.db(), "entries");
    let damaged = std::fs::read(folder.db()).unwrap();
    let anew = begin_anew(&folder.db(), "it was spoiled", "disk replaced", NOW).unwrap();
    assert_eq!(anew.vms, 100);
    assert_eq!(std::fs::read(&anew.aside).unwrap(), damaged);
    let receipts = std::fs::read_to_string(&anew.receipts).unwrap();
    assert!(receipts.contains("it was spoiled") && receipts.contains("disk replaced"), "{receipts}");

    let journal = opened(&folder, Expects::Rows).unwrap();
    assert_eq!((journal.epoch().journal, journal.epoch().start_count), (anew.journal_id, 1));
    let row = journal.vm(vm(7)).await.unwrap().unwrap();
    assert_eq!(row.generation.0, 7);
    assert_eq!(row.spec.unwrap().memory_bytes, 1 << 30, "what it is made of is still known");
    assert_eq!(journal.tail().await.unwrap().last, None);
    assert!(journal.awaits_adoption().await.unwrap());
}

#[tokio::test]
async fn nothing_of_what_was_set_aside_before_is_overwritten() {
    let folder = Folder::new();
    std::fs::write(folder.db(), "first").unwrap();
    let first = begin_anew(&folder.db(), "garbage", "test", NOW).unwrap();
    assert_eq!(first.vms, 0);
    std::fs::write(folder.db(), "second").unwrap();
    begin_anew(&folder.db(), "garbage", "test", NOW).unwrap_err();
    assert_eq!(std::fs::read(&first.aside).unwrap(), b"first");
    assert_eq!(std::fs::read(folder.db()).unwrap(), b"second");
    begin_anew(&folder.db(), "garbage", "test", Millis(NOW.0 + 1)).unwrap();
    assert_eq!(std::fs::read_to_string(&first.receipts).unwrap().lines().count(), 3);
}

#[tokio::test]
async fn damage_found_while_running_withholds_and_is_told() {
    let folder = Folder::new();
    let journal = folder.open();
    for seq in 1..=50 {
        accepted(&journal, delivery(seq, vm(seq.into()), create())).await;
    }
    // Another writer makes the agent's own connection forget the pages that it has read.
    let other = Connection::open(folder.db()).unwrap();
    other.execute("INSERT INTO meta VALUES ('other', 'x')", []).unwrap();
    other.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())).unwrap();
    drop(other);
    spoil(&folder.db(), "events");
    Connection::open(folder.db())
        .unwrap()
        .execute("UPDATE meta SET value = 'y' WHERE key = 'other'", [])
        .unwrap();

    let filter = crate::journal::EventFilter::default();
    let read = journal.events(filter, crate::journal::Page { before: None, limit: 9 }).await.unwrap_err();
    assert!(matches!(read, JournalError::Corrupt(_)), "{read:?}");
    let cause = Cause::from(journal.ping().await.unwrap_err());
    assert_eq!(cause.reason, Reason::JournalDamaged);
    let withheld = journal.admit(delivery(51, vm(51), create())).await.unwrap_err();
    assert!(matches!(withheld, JournalError::Withheld(_)), "{withheld:?}");
    // The thread is alive, and what it can still read it tells.
    assert_eq!(journal.tail().await.unwrap().last.unwrap().0, Seq(50));
    assert!(check(&folder.db(), Expects::Rows, Depth::Full).is_err());
}

#[tokio::test]
async fn a_sound_journal_is_called_sound_while_the_agent_runs() {
    let folder = Folder::new();
    assert_eq!(check(&folder.db(), Expects::Rows, Depth::Quick).unwrap(), Found::Nothing);
    let journal = folder.open();
    accepted(&journal, delivery(1, vm(1), create())).await;
    assert_eq!(check(&folder.db(), Expects::Rows, Depth::Full).unwrap(), Found::Sound);
}
