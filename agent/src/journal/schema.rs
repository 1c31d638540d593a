//! The database file: how it is opened, made, and brought from one schema to the next.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use dewpoint_proto::ids::{Epoch, JournalId};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OptionalExtension, params};

use super::error::OpenError;

/// Each brings the schema from its index to the next; never edited once released.
const MIGRATIONS: [&str; 3] =
    [include_str!("schema/1.sql"), include_str!("schema/2.sql"), include_str!("schema/3.sql")];

/// The schema that this agent writes.
pub const SCHEMA: u32 = MIGRATIONS.len() as u32;

/// `PRAGMA application_id`: "DPJL".
pub(super) const APPLICATION_ID: i64 = 0x4450_4a4c;

/// Opens the journal for writing, made or migrated if need be, and counts the start. It was found sound, or nothing.
pub(super) fn open(path: &Path) -> Result<(Connection, Epoch), OpenError> {
    let (db, _) = make(path)?;
    let epoch = count_start(&db).map_err(|source| OpenError::of(path, source))?;
    sync_folder(path)?;
    Ok((db, epoch))
}

/// The same, without counting a start: for a journal that is begun by hand.
pub(super) fn make(path: &Path) -> Result<(Connection, Epoch), OpenError> {
    make_private(path)?;
    let sqlite = |source| OpenError::of(path, source);
    let mut db = Connection::open(path).map_err(sqlite)?;
    check_newer(&db, path)?;
    configure(&db).map_err(sqlite)?;
    migrate(&mut db, path)?;
    let epoch = read_epoch(&db).map_err(sqlite)?;
    sync_folder(path)?;
    Ok((db, epoch))
}

/// Bodies hold user-data: the file is the agent's alone. SQLite gives its companions the same mode.
fn make_private(path: &Path) -> Result<(), OpenError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map(drop)
        .map_err(|source| OpenError::Io { path: path.to_owned(), source })
}

fn configure(db: &Connection) -> rusqlite::Result<()> {
    db.busy_timeout(std::time::Duration::from_secs(5))?;
    // With NORMAL a committed transaction can vanish on power loss.
    db.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = FULL;
         PRAGMA foreign_keys = ON;
         PRAGMA trusted_schema = OFF;
         PRAGMA temp_store = MEMORY;
         PRAGMA journal_size_limit = 4194304;",
    )?;
    db.set_prepared_statement_cache_capacity(64);
    // Else a statement that partial indexes or statistics bear on is compiled anew each time it leaves the cache.
    db.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

/// Refuses what a newer agent wrote.
pub(super) fn check_newer(db: &Connection, path: &Path) -> Result<(), OpenError> {
    let found = version(db).map_err(|source| OpenError::of(path, source))?;
    if found > SCHEMA {
        return Err(OpenError::NewerSchema { path: path.to_owned(), found, known: SCHEMA });
    }
    Ok(())
}

/// For reading alone: what an older schema, which only a start may migrate, does not have is empty.
pub(super) fn fill_in(db: &Connection) -> rusqlite::Result<()> {
    if version(db)? >= 2 {
        return Ok(());
    }
    db.execute_batch(
        "PRAGMA temp_store = MEMORY;
         CREATE TEMP TABLE keeping (vm_id TEXT PRIMARY KEY, version INTEGER, json TEXT);",
    )
}

pub(super) fn version(db: &Connection) -> rusqlite::Result<u32> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Each step is one transaction with its `user_version`: a crash leaves the old schema or the new one.
fn migrate(db: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let sqlite = |source| OpenError::of(path, source);
    let from = version(db).map_err(sqlite)?;
    for (at, sql) in MIGRATIONS.iter().enumerate().skip(from as usize) {
        let step = || -> rusqlite::Result<()> {
            let tx = db.unchecked_transaction()?;
            tx.execute_batch(sql)?;
            if at == 0 {
                tx.pragma_update(None, "application_id", APPLICATION_ID)?;
                put(&tx, "journal_id", &JournalId::fresh().to_string())?;
                put(&tx, "start_count", "0")?;
            }
            tx.pragma_update(None, "user_version", version(&tx)? + 1)?;
            tx.commit()
        };
        step().map_err(sqlite)?;
    }
    Ok(())
}

fn count_start(db: &Connection) -> rusqlite::Result<Epoch> {
    let tx = db.unchecked_transaction()?;
    let before = read_epoch(&tx)?;
    let epoch = Epoch { start_count: before.start_count + 1, ..before };
    put(&tx, "start_count", &epoch.start_count.to_string())?;
    tx.commit()?;
    Ok(epoch)
}

/// Journal id and start count, as stored.
pub(super) fn read_epoch(db: &Connection) -> rusqlite::Result<Epoch> {
    Ok(Epoch { journal: parsed(db, "journal_id")?, start_count: parsed(db, "start_count")? })
}

fn parsed<T>(db: &Connection, key: &str) -> rusqlite::Result<T>
where
    T: std::str::FromStr,
    T::Err: std::error::Error + Send + Sync + 'static,
{
    let text = get(db, key)?.ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    text.parse().map_err(|error: T::Err| super::columns::wrong(0, error))
}

/// A value of `meta`.
pub(super) fn get(db: &Connection, key: &str) -> rusqlite::Result<Option<String>> {
    db.prepare_cached("SELECT value FROM meta WHERE key = ?1")?.query_row([key], |row| row.get(0)).optional()
}

/// Sets a value of `meta`.
pub(super) fn put(db: &Connection, key: &str, value: &str) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO meta (key, value) VALUES (?1, ?2) ON CONFLICT (key) DO UPDATE SET value = ?2",
    )?
    .execute(params![key, value])
    .map(drop)
}

/// A new file is durable once its folder is.
fn sync_folder(path: &Path) -> Result<(), OpenError> {
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|source| OpenError::Io { path: folder.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::super::{append, orphan, query};
    use super::*;

    /// The package's control file and its preinst take the number of files for the schema.
    #[test]
    fn every_migration_is_a_file_and_every_file_a_migration() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/journal/schema");
        assert_eq!(std::fs::read_dir(folder).unwrap().count(), MIGRATIONS.len());
    }

    /// Else a report takes the longer to acknowledge, the more are kept.
    #[test]
    fn what_waits_is_found_without_a_look_at_what_was_acknowledged() {
        let dir = tempfile::tempdir().unwrap();
        let (db, _) = make(&dir.path().join("agent.db")).unwrap();
        for query in [append::ACKNOWLEDGE, query::ACKNOWLEDGED, orphan::WAITS_SINCE] {
            let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
            let bound = vec![0_i64; plan.parameter_count()];
            let steps = plan.query_map(rusqlite::params_from_iter(bound), |row| row.get("detail")).unwrap();
            let steps: Vec<String> = steps.collect::<Result<_, _>>().unwrap();
            assert!(steps.iter().all(|step| step.contains("reports_unacked")), "{query}: {steps:?}");
        }
    }

    /// The preinst reads it there, without SQLite.
    #[test]
    fn the_schema_stands_in_the_header_at_60() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.db");
        drop(open(&path).unwrap());
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(u32::from_be_bytes(bytes[60..64].try_into().unwrap()), SCHEMA);
    }
}
