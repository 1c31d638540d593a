//! The file: made, opened, and begun anew when it is damaged.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode};

/// Each brings the schema from its index to the next; never edited once released.
const MIGRATIONS: [&str; 1] = [include_str!("schema/1.sql")];
/// The schema that this agent writes.
const SCHEMA: u32 = MIGRATIONS.len() as u32;
/// `PRAGMA application_id`: "DPNT".
const APPLICATION_ID: i64 = 0x4450_4e54;

/// Why the file cannot be used.
enum Trouble {
    /// It holds nothing that can be used.
    Damaged(String),
    /// It may hold something, or nothing can be written there.
    Unusable(String),
}

/// The database; begun anew when it is damaged. The error says why there is none.
pub(super) fn open_or_replace(path: &Path, most_pages: u32) -> Result<Connection, String> {
    match open(path, most_pages) {
        Ok(db) => Ok(db),
        Err(Trouble::Unusable(why)) => Err(why),
        Err(Trouble::Damaged(why)) => replace(path, most_pages, &why),
    }
}

/// Begins anew: what may be lost is lost.
pub(super) fn replace(path: &Path, most_pages: u32, why: &str) -> Result<Connection, String> {
    tracing::warn!(path = %path.display(), "the record of calls and states is damaged and begun anew: {why}");
    for file in [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")] {
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(format!("{}: {error}", file.display()));
            }
            _ => {}
        }
    }
    open(path, most_pages).map_err(|(Trouble::Damaged(why) | Trouble::Unusable(why))| why)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

fn open(path: &Path, most_pages: u32) -> Result<Connection, Trouble> {
    // What is in it concerns nobody else; SQLite gives the files beside it the same mode.
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| Trouble::Unusable(error.to_string()))?;
    let db = Connection::open(path).map_err(judged)?;
    let found = version(&db).map_err(judged)?;
    if found > SCHEMA {
        return Err(Trouble::Unusable(format!("a newer agent wrote it (schema {found})")));
    }
    prepare(&db, found, most_pages).map_err(judged)?;
    Ok(db)
}

fn version(db: &Connection) -> rusqlite::Result<u32> {
    db.query_row("PRAGMA user_version", [], |row| row.get(0))
}

fn prepare(db: &Connection, found: u32, most_pages: u32) -> rusqlite::Result<()> {
    db.busy_timeout(std::time::Duration::from_secs(2))?;
    // NORMAL: no fsync but at checkpoints. The newest may be lost; the rest stays sound.
    db.execute_batch(
        "PRAGMA journal_mode = WAL;
         PRAGMA synchronous = NORMAL;
         PRAGMA trusted_schema = OFF;
         PRAGMA journal_size_limit = 4194304;",
    )?;
    db.pragma_update(None, "max_page_count", most_pages)?;
    for (sql, schema) in MIGRATIONS.iter().zip(1_u32..).skip(found as usize) {
        let tx = db.unchecked_transaction()?;
        tx.execute_batch(sql)?;
        tx.pragma_update(None, "application_id", APPLICATION_ID)?;
        tx.pragma_update(None, "user_version", schema)?;
        tx.commit()?;
    }
    Ok(())
}

fn judged(error: rusqlite::Error) -> Trouble {
    if is_damage(&error) { Trouble::Damaged(error.to_string()) } else { Trouble::Unusable(error.to_string()) }
}

/// Whether the file is to blame, and not its disk.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        Some(code) => {
            matches!(code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
        }
        // A value that is not what was written.
        None => true,
    }
}
