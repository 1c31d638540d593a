//! The database file: how it is opened, and its tables.

use std::path::Path;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::codec::failed;
use crate::store::{StoreError, StoreResult};

/// The schema that this version writes. Raised with every change, each a step in [`STEPS`].
pub(super) const KNOWN: u32 = 4;

/// What leads from each schema to the next.
const STEPS: [&str; KNOWN as usize] = [
    include_str!("schema/1.sql"),
    include_str!("schema/2.sql"),
    include_str!("schema/3.sql"),
    include_str!("schema/4.sql"),
];

/// Statements that each connection keeps prepared.
const STATEMENTS: usize = 128;

/// Opens the file for writing, making or bringing up its schema.
pub(super) fn open_writer(path: &Path) -> StoreResult<Connection> {
    let mut connection = Connection::open(path).map_err(|e| failed("open the database", &e))?;
    prepare(&connection)?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(|e| failed("open the database", &e))?;
    if mode != "wal" {
        let text = format!("its journal mode is {mode}: is it on a network file system?");
        return Err(StoreError::Failed { doing: "open the database", text });
    }
    // FULL: with NORMAL a committed transaction can vanish on power loss (promise 1).
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 4000;")
        .map_err(|e| failed("open the database", &e))?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// Opens the file for reading.
pub(super) fn open_reader(path: &Path) -> StoreResult<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(|e| failed("open the database", &e))?;
    prepare(&connection)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> StoreResult<()> {
    connection.set_prepared_statement_cache_capacity(STATEMENTS);
    connection
        .busy_timeout(Duration::from_secs(10))
        // Else a statement that partial indexes or statistics bear on is compiled anew each time it leaves the cache.
        .and_then(|()| connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true))
        .and_then(|_| connection.execute_batch("PRAGMA foreign_keys = OFF; PRAGMA cache_size = -16384;"))
        .map_err(|e| failed("open the database", &e))
}

fn migrate(connection: &mut Connection) -> StoreResult<()> {
    let doing = "bring the database's schema up";
    let found: u32 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(|e| failed("read the database's schema", &e))?;
    if found > KNOWN {
        return Err(StoreError::Newer { found, known: KNOWN });
    }
    if found > 0 && found < KNOWN {
        tracing::info!(
            found,
            known = KNOWN,
            "bringing the database's schema up: some seconds for each million rows"
        );
    }
    let transaction = connection.transaction().map_err(|e| failed(doing, &e))?;
    for step in &STEPS[found as usize..] {
        transaction.execute_batch(step).map_err(|e| failed(doing, &e))?;
    }
    transaction.pragma_update(None, "user_version", KNOWN).map_err(|e| failed(doing, &e))?;
    transaction.commit().map_err(|e| failed(doing, &e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_schema_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        open_writer(&path).unwrap().pragma_update(None, "user_version", KNOWN + 1).unwrap();
        let refused = open_writer(&path).unwrap_err();
        assert_eq!(refused, StoreError::Newer { found: KNOWN + 1, known: KNOWN });
    }

    #[test]
    fn opening_twice_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.db");
        drop(open_writer(&path).unwrap());
        let again = open_writer(&path).unwrap();
        let level: i64 = again.query_row("PRAGMA synchronous", [], |row| row.get(0)).unwrap();
        assert_eq!(level, 2, "synchronous is FULL");
    }
}
