//! The log written into the journal's file, when the agent stops in order: then `agent.db` alone is the whole journal.

use std::time::Duration;

use rusqlite::Connection;

use super::error::JournalError;

/// How long whoever reads the journal meanwhile is waited for.
const READERS: Duration = Duration::from_secs(1);
/// How long anything else waits for the database.
const USUAL: Duration = Duration::from_secs(5);

/// False: somebody reads it, and a part stays in the log.
pub(super) fn checkpoint(db: &Connection) -> Result<bool, JournalError> {
    db.busy_timeout(READERS)?;
    let busy = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0));
    db.busy_timeout(USUAL)?;
    Ok(busy? == 0)
}
