//! The journal read-only, for the local commands: the same whether the daemon is up or down.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use dewpoint_proto::ids::{EventId, ReportSeq, VmId};
use dewpoint_proto::time::Millis;
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::error::{JournalError, OpenError};
use super::rows::{EntryRow, EventFilter, EventRow, Page, Recovery, ReportRow, Tail, VmRow};
use super::{orphan, query, schema};

/// A read-only view. Each call sees what was committed when it was made. Blocks; for commands, not for the daemon.
pub struct Reader {
    db: Connection,
}

impl Reader {
    /// Opens `agent.db`.
    ///
    /// # Errors
    /// [`OpenError`]: it is missing, of a newer schema, or may not be read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let db = connect(path).map_err(|source| OpenError::of(path, source))?;
        schema::check_newer(&db, path)?;
        schema::fill_in(&db).map_err(|source| OpenError::Sqlite { path: path.to_owned(), source })?;
        Ok(Self { db })
    }

    /// The schema that it is of.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn schema(&self) -> Result<u32, JournalError> {
        schema::version(&self.db).map_err(JournalError::from)
    }

    /// One VM; `None`: never heard of.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn vm(&self, vm: VmId) -> Result<Option<VmRow>, JournalError> {
        query::vm(&self.db, vm)
    }

    /// Every VM that is there or being built.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn vms(&self) -> Result<Vec<VmRow>, JournalError> {
        query::vms(&self.db)
    }

    /// Every VM that has or had that name, gone ones last; at most ten.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn vms_named(&self, name: &str) -> Result<Vec<VmRow>, JournalError> {
        query::vms_named(&self.db, name)
    }

    /// Every VM that was here and is gone.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn gone(&self) -> Result<BTreeSet<VmId>, JournalError> {
        orphan::gone(&self.db)
    }

    /// When the oldest report was written that waits for an acknowledgement.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn waits_since(&self) -> Result<Option<Millis>, JournalError> {
        orphan::waits_since(&self.db)
    }

    /// Where the journal ends.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn tail(&self) -> Result<Tail, JournalError> {
        query::tail(&self.db)
    }

    /// Events, the newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn events(&self, filter: &EventFilter, page: Page) -> Result<Vec<EventRow>, JournalError> {
        query::events(&self.db, filter, page)
    }

    /// One event with its entries, the oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn event(&self, event: EventId) -> Result<Option<(EventRow, Vec<EntryRow>)>, JournalError> {
        query::event(&self.db, event)
    }

    /// Unfinished events, and those that this version cannot go on with.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn unfinished(&self) -> Result<Recovery, JournalError> {
        query::recovery(&self.db)
    }

    /// Reports after this one, the oldest first; after [`Tail::acknowledged`]: those that wait.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn reports_after(&self, after: ReportSeq, limit: u32) -> Result<Vec<ReportRow>, JournalError> {
        query::reports_after(&self.db, after, limit)
    }
}

/// Opens a database in WAL mode for reading alone, whether anyone writes it or not.
pub(crate) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let opened = Connection::open_with_flags(path, flags).and_then(usable);
    match opened {
        // A database in WAL mode is read through its -shm file. After a clean stop there is none, and where the
        // folder may not be written none can be made. Then everything is in the main file, which nobody writes.
        Err(error) if needs_companions(&error) && all_is_in_the_main_file(path) => {
            let uri = format!("file:{}?immutable=1", escaped(path));
            Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI).and_then(usable)
        }
        other => other,
    }
}

fn usable(db: Connection) -> rusqlite::Result<Connection> {
    db.busy_timeout(std::time::Duration::from_secs(5))?;
    // Opening is lazy: only a read shows whether it works.
    db.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    Ok(db)
}

fn needs_companions(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

fn all_is_in_the_main_file(path: &Path) -> bool {
    let mut log = OsString::from(path);
    log.push("-wal");
    path.exists() && std::fs::metadata(PathBuf::from(log)).map_or(true, |found| found.len() == 0)
}

/// A path inside a URI.
fn escaped(path: &Path) -> String {
    path.to_string_lossy().replace('%', "%25").replace('?', "%3f").replace('#', "%23")
}
