//! Sets a journal aside that cannot be used, and begins a new one. Nothing is deleted, nothing overwritten: the old
//! files keep their content under a new name, and a line in `journal.receipts.log` says what was done and why.
//!
//! The new journal has an id of its own, so the coordinator finds the host `diverged` and a person reconciles it. What
//! can still be read of the old one's VMs is taken over: what they are made of, and the generations that were accepted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dewpoint_proto::ids::JournalId;
use dewpoint_proto::time::Millis;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use serde::Serialize;

use super::check::beside;
use super::error::OpenError;
use super::{reader, schema};

const RECEIPTS: &str = "journal.receipts.log";
/// The log goes first: a database without it is only damaged, a log under a new database would be taken for its own.
const PARTS: [&str; 3] = ["-wal", "-shm", ""];

/// What was set aside, and what was begun.
#[derive(Clone, Debug, Serialize)]
pub struct Anew {
    /// Where the old journal is now.
    pub aside: PathBuf,
    /// The new journal's id.
    pub journal_id: JournalId,
    /// VMs that could be read from the old one.
    pub vms: usize,
    /// Where the receipt is.
    pub receipts: PathBuf,
}

#[derive(Serialize)]
struct Receipt<'a> {
    at: Millis,
    journal: &'a Path,
    aside: &'a Path,
    found: &'a str,
    reason: &'a str,
}

/// Begins a new journal at `path`. The caller holds the data folder's lock.
///
/// # Errors
/// `Io` when a file cannot be moved, also when its new name is taken; `Sqlite` when the new journal cannot be made.
pub fn begin_anew(path: &Path, found: &str, reason: &str, now: Millis) -> Result<Anew, OpenError> {
    let aside = beside(path, &format!(".aside-{}", stamp(now)));
    let receipts = path.with_file_name(RECEIPTS);
    let receipt = Receipt { at: now, journal: path, aside: &aside, found, reason };
    write_receipt(&receipts, &receipt).map_err(|source| OpenError::Io { path: receipts.clone(), source })?;
    for part in PARTS {
        let (from, to) = (beside(path, part), beside(&aside, part));
        move_aside(&from, &to).map_err(|source| OpenError::Io { path: from, source })?;
    }
    let (db, epoch) = schema::make(path)?;
    let vms = take_over(&aside, &db);
    Ok(Anew { aside, journal_id: epoch.journal, vms, receipts })
}

fn write_receipt(path: &Path, receipt: &Receipt<'_>) -> io::Result<()> {
    let mut line = serde_json::to_vec(receipt)?;
    line.push(b'\n');
    let mut file = OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    file.write_all(&line)?;
    file.sync_all()?;
    sync_folder(path)
}

fn move_aside(from: &Path, to: &Path) -> io::Result<()> {
    if std::fs::symlink_metadata(from).is_err_and(|error| error.kind() == io::ErrorKind::NotFound) {
        return Ok(());
    }
    // A hard link never takes another's name, as a rename would.
    std::fs::hard_link(from, to)?;
    sync_folder(to)?;
    std::fs::remove_file(from)?;
    sync_folder(from)
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all())
}

/// Copies what can be read of the old journal's VMs. Never fails: what cannot be read is found by marks, or not at all.
fn take_over(old: &Path, new: &Connection) -> usize {
    let Ok(old) = reader::connect(old) else { return 0 };
    let Some(columns) = common_columns(&old, new) else { return 0 };
    let mut taken = 0;
    // A damaged page ends a scan: what lies behind it is reached from the other end.
    for order in ["ASC", "DESC"] {
        let sql = format!("SELECT {} FROM vms ORDER BY rowid {order}", columns.join(", "));
        taken += copy_rows(&old, new, &sql, &columns).unwrap_or_else(|error| {
            tracing::warn!(%error, "not all VMs of the old journal can be read");
            0
        });
    }
    taken
}

/// Columns of `vms` that both have: the old one may be of an older schema.
fn common_columns(old: &Connection, new: &Connection) -> Option<Vec<String>> {
    let of = |db: &Connection| -> rusqlite::Result<Vec<String>> {
        let mut statement = db.prepare("SELECT name FROM pragma_table_info('vms')")?;
        statement.query_map([], |row| row.get(0)).and_then(Iterator::collect)
    };
    let theirs = of(old).ok()?;
    let both: Vec<_> = of(new).ok()?.into_iter().filter(|name| theirs.contains(name)).collect();
    (!both.is_empty()).then_some(both)
}

fn copy_rows(old: &Connection, new: &Connection, sql: &str, columns: &[String]) -> rusqlite::Result<usize> {
    let places = vec!["?"; columns.len()].join(", ");
    let mut insert =
        new.prepare(&format!("INSERT OR IGNORE INTO vms ({}) VALUES ({places})", columns.join(", ")))?;
    let mut select = old.prepare(sql)?;
    let mut rows = select.query([])?;
    let mut taken = 0;
    while let Ok(Some(row)) = rows.next() {
        let values = (0..columns.len()).map(|at| row.get(at)).collect::<rusqlite::Result<Vec<Value>>>();
        // A value that does not fit the table is damage, too; the others go on.
        if let Ok(inserted) = values.and_then(|values| insert.execute(params_from_iter(values))) {
            taken += inserted;
        }
    }
    Ok(taken)
}

/// UTC, sortable, and a file name.
fn stamp(at: Millis) -> String {
    let time = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y%m%dT%H%M%S%3fZ").to_string()
}
