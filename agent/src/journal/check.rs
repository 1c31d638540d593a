//! Looks whether a journal can be used, before anything writes to it.
//!
//! Everything here reads only: what is damaged stays byte for byte as it was found, however often systemd starts the
//! agent. A write-ahead log without its database is damage too: SQLite would begin anew and drop the log.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use serde::Serialize;

use super::error::{JournalError, OpenError};
use super::{reader, schema};

/// How every SQLite database begins.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
/// Problems that are told; one is enough to stop.
const MOST_TOLD: u32 = 8;

/// Whether a host without a journal would be a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expects {
    /// Nothing of this host is there.
    Nothing,
    /// It has VMs, so it had a journal.
    Rows,
}

/// How thoroughly it is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// As at every start: the structure of each page.
    Quick,
    /// Also each index against its table: for a person who asks.
    Full,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Found {
    /// No journal yet, and none was expected.
    Nothing,
    /// It can be used.
    Sound,
}

/// Looks at the journal of `path`.
///
/// # Errors
/// `Damaged` with what was found; `NewerSchema`; `Sqlite` and `Io` when it could not be looked at.
pub fn check(path: &Path, expects: Expects, depth: Depth) -> Result<Found, OpenError> {
    let damaged = |why: &str| OpenError::Damaged { path: path.to_owned(), why: why.to_owned() };
    let length = length(path)?;
    if length.unwrap_or(0) == 0 {
        if length_of_log(path)? > 0 {
            return Err(damaged("it is empty or missing, and its log, which ends in -wal, is there"));
        }
        return match (length, expects) {
            (Some(_), Expects::Rows) => Err(damaged("it is empty, and this host has VMs")),
            _ => Ok(Found::Nothing),
        };
    }
    if !begins_well(path)? {
        return Err(damaged("its first bytes are not those of an SQLite database"));
    }
    let of = |error| OpenError::of(path, error);
    let db = reader::connect(path).map_err(of)?;
    schema::check_newer(&db, path)?;
    check_ours(&db, path)?;
    check_structure(&db, path, depth)?;
    check_rows(&db).map_err(|error| damaged(&error.to_string()))?;
    Ok(Found::Sound)
}

/// Nothing was made yet, or it is ours.
fn check_ours(db: &Connection, path: &Path) -> Result<(), OpenError> {
    let of = |error| OpenError::of(path, error);
    let application: i64 = db.query_row("PRAGMA application_id", [], |row| row.get(0)).map_err(of)?;
    let tables: i64 = db.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0)).map_err(of)?;
    if application != schema::APPLICATION_ID && (application != 0 || tables != 0) {
        let why = "it is a database of something else".to_owned();
        return Err(OpenError::Damaged { path: path.to_owned(), why });
    }
    Ok(())
}

fn check_structure(db: &Connection, path: &Path, depth: Depth) -> Result<(), OpenError> {
    let of = |error| OpenError::of(path, error);
    let pragma = match depth {
        Depth::Quick => format!("PRAGMA quick_check({MOST_TOLD})"),
        Depth::Full => format!("PRAGMA integrity_check({MOST_TOLD})"),
    };
    let mut statement = db.prepare(&pragma).map_err(of)?;
    let told: Vec<String> =
        statement.query_map([], |row| row.get(0)).and_then(Iterator::collect).map_err(of)?;
    if told == ["ok"] {
        return Ok(());
    }
    Err(OpenError::Damaged { path: path.to_owned(), why: told.join("; ") })
}

/// What every start reads: who wrote it, and where it ends.
fn check_rows(db: &Connection) -> Result<(), JournalError> {
    let version: u32 = db.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > 0 {
        super::query::tail(db)?;
    }
    Ok(())
}

/// None: it is missing.
fn length(path: &Path) -> Result<Option<u64>, OpenError> {
    match std::fs::metadata(path) {
        Ok(found) => Ok(Some(found.len())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Io { path: path.to_owned(), source }),
    }
}

fn length_of_log(path: &Path) -> Result<u64, OpenError> {
    Ok(length(&beside(path, "-wal"))?.unwrap_or(0))
}

fn begins_well(path: &Path) -> Result<bool, OpenError> {
    let mut start = [0; 16];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut start));
    match read {
        Ok(()) => Ok(&start == MAGIC),
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(false),
        Err(source) => Err(OpenError::Io { path: path.to_owned(), source }),
    }
}

/// A companion of the database: its name with an ending.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
