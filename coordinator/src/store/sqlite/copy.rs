//! Copies of a database file, and the mark that a copy bears.
//!
//! A copy is of one instant, taken in steps while a coordinator writes. It says of itself that it is one: whatever
//! starts on it knows that its hosts may be ahead, also when it was put in place by hand.

use std::path::Path;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::audit;
use super::codec::{failed, json, sql};
use super::rows::{all, change, columns, one};
use super::schema;
use crate::store::{AuditEntry, StoreError, StoreResult};

/// Pages of one step: 4 MiB, some milliseconds.
const PAGES: i32 = 1024;

/// What a copy has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// The schema that it is of.
    pub schema: u32,
    /// Hosts known.
    pub hosts: u64,
    /// VMs that are there.
    pub vms: u64,
    /// Events, those that have ended included.
    pub events: u64,
    /// Images of the catalogue, whose files are elsewhere.
    pub images: Vec<CopiedImage>,
}

/// An image of a copy's catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopiedImage {
    /// SHA-256 of its file.
    pub digest: ImageDigest,
    /// The file's length.
    pub size_bytes: u64,
}

/// Copies a database into a new file as it is at one instant, and marks the copy as one of that time. `told` hears how
/// many of how many pages are done.
///
/// # Errors
/// `Newer`; `Failed` when a file cannot be used, or the copy is not whole.
pub fn copy(from: &Path, to: &Path, at: Millis, told: impl FnMut(u64, u64)) -> StoreResult<Contents> {
    let doing = "copy the database";
    let source = schema::open_reader(from)?;
    // A read transaction of its own keeps the copy at this instant: without one, each write would begin it anew.
    source.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema;").map_err(|e| failed(doing, &e))?;
    let mut copy = Connection::open(to).map_err(|e| failed(doing, &e))?;
    copy_pages(&source, &mut copy, told)?;
    // One file, which needs no log beside it.
    copy.busy_timeout(Duration::from_secs(10))
        .and_then(|()| copy.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0)))
        .map_err(|e| failed(doing, &e))?;
    verify(&copy)?;
    mark(&copy, at)?;
    contents(&copy)
}

fn copy_pages(source: &Connection, copy: &mut Connection, mut told: impl FnMut(u64, u64)) -> StoreResult<()> {
    let doing = "copy the database";
    let backup = Backup::new(source, copy).map_err(|e| failed(doing, &e))?;
    loop {
        match backup.step(PAGES).map_err(|e| failed(doing, &e))? {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            // Nobody else has the copy, and readers wait for no writer.
            other => return Err(StoreError::Failed { doing, text: format!("{other:?}") }),
        }
        let progress = backup.progress();
        let all = u64::try_from(progress.pagecount).unwrap_or(0);
        told(all.saturating_sub(u64::try_from(progress.remaining).unwrap_or(0)), all);
    }
}

/// What SQLite itself finds wrong with a database.
pub(super) fn verify(db: &Connection) -> StoreResult<()> {
    let found = quick_check(db)?;
    match found.first() {
        None => Ok(()),
        Some(first) => Err(StoreError::Corrupt { table: "the database", text: first.clone() }),
    }
}

/// Each thing that `quick_check` finds; none: the file is whole.
pub(super) fn quick_check(db: &Connection) -> StoreResult<Vec<String>> {
    let mut found = all(db, "PRAGMA quick_check(100)", &[], |row| row.get::<_, String>(0).map_err(sql))?;
    found.retain(|line| line != "ok");
    Ok(found)
}

/// Which schema a database has.
pub(super) fn schema_of(db: &Connection) -> StoreResult<u32> {
    let found = one(db, "PRAGMA user_version", &[], |row| row.get::<_, u32>(0).map_err(sql))?;
    Ok(found.unwrap_or(0))
}

/// Brings a copy to the schema of this version, marks it, and notes who puts it in place.
///
/// # Errors
/// `Newer`; `Failed` when the file cannot be written.
pub fn prepare(path: &Path, entry: &AuditEntry) -> StoreResult<Contents> {
    let db = schema::open_writer(path)?;
    mark(&db, entry.word.at)?;
    audit::record(&db, entry)?;
    verify(&db)?;
    let contents = contents(&db)?;
    db.query_row("PRAGMA journal_mode = DELETE", [], |row| row.get::<_, String>(0))
        .map_err(|e| failed("bring the copy up", &e))?;
    Ok(contents)
}

/// What became of a database's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// All of it is in the database.
    Written,
    /// Someone reads the database, and so the log stays.
    InUse,
}

/// How long readers of the database are waited for.
const READERS: Duration = Duration::from_secs(2);

/// Writes what is in a database's log into the database itself, so that it is one file.
///
/// # Errors
/// `Failed` when it cannot be opened: it may be damaged.
pub fn settle(path: &Path) -> StoreResult<Log> {
    let doing = "write the log into the database";
    let db = Connection::open(path).map_err(|e| failed(doing, &e))?;
    db.busy_timeout(READERS).map_err(|e| failed(doing, &e))?;
    let busy: i64 = db
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
        .map_err(|e| failed(doing, &e))?;
    Ok(if busy == 0 { Log::Written } else { Log::InUse })
}

/// From here on the database says that it is a copy: what is placed on it waits until its hosts have been heard. One
/// of an older schema is marked when it is put in place.
pub(super) fn mark(db: &Connection, taken_at: Millis) -> StoreResult<()> {
    let known = schema_of(db)?;
    if known > schema::KNOWN {
        return Err(StoreError::Newer { found: known, known: schema::KNOWN });
    }
    let hosts = one(db, "SELECT 1 FROM hosts LIMIT 1", &[], |_| Ok(()))?;
    if known < schema::KNOWN || hosts.is_none() {
        return Ok(());
    }
    let taken = one(db, "SELECT restored FROM fleet", &[], |row| columns("fleet", row).get("restored"))?;
    // A copy of a copy is as old as the first.
    let taken: Option<String> = taken.flatten();
    let taken_at = taken.and_then(|text| text.parse().ok()).map_or(taken_at, Millis);
    let cause = Cause::new(
        Reason::Diverged,
        "the coordinator's database is a backup: its hosts may know more than it",
    )
    .advise(
        "it ends by itself once every host has connected and matched; for those that cannot, compare, then \
             `dewpoint host end-recovery --reason TEXT`",
    )
    .with("state", "recovering")
    .with("taken_at_ms", taken_at.0);
    change(
        db,
        "UPDATE fleet SET restored = ?1, recovering = coalesce(recovering, ?2)",
        &[&taken_at.0.to_string(), &json("fleet", &cause)?],
    )?;
    change(db, "UPDATE hosts SET awaited = 1 WHERE retired IS NULL", &[])?;
    Ok(())
}

/// Counts what is in a copy; of an older schema, too.
fn contents(db: &Connection) -> StoreResult<Contents> {
    let count = |text: &str| -> StoreResult<u64> {
        Ok(one(db, text, &[], |row| columns("counts", row).count("c"))?.unwrap_or(0))
    };
    let schema = schema_of(db)?;
    let finished = if schema >= 2 { count("SELECT count(*) AS c FROM finished")? } else { 0 };
    Ok(Contents {
        schema,
        hosts: count("SELECT count(*) AS c FROM hosts")?,
        vms: count("SELECT count(*) AS c FROM vms WHERE gone = 0")?,
        events: finished + count("SELECT count(*) AS c FROM events")?,
        images: catalogue(db)?,
    })
}

/// Every image that is known.
pub(super) fn catalogue(db: &Connection) -> StoreResult<Vec<CopiedImage>> {
    all(db, "SELECT digest, size FROM images ORDER BY digest", &[], |row| {
        let columns = columns("images", row);
        Ok(CopiedImage { digest: ImageDigest(columns.digest("digest")?), size_bytes: columns.count("size")? })
    })
}
