//! The notes read-only, for `why`: the same whether the daemon is up or down.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::Power;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::rows::{CallEnd, CallRow, Lost, Sight, StartRow, StateRow};
use crate::journal::connect_read_only;

/// The most rows of one kind that are given, the newest.
pub const MOST: u32 = 5000;

/// A read-only view. Blocks; for commands, not for the daemon.
pub struct NotesReader {
    db: Connection,
}

impl NotesReader {
    /// Opens `notes.db`.
    ///
    /// # Errors
    /// `STORAGE_ERROR`: it is missing or cannot be read; the journal tells the rest of the story without it.
    pub fn open(path: &Path) -> Result<Self, Cause> {
        connect_read_only(path).map(|db| Self { db }).map_err(|error| unreadable(&error))
    }

    /// Calls for a VM since then, and failed calls for all, the oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn calls(&self, vm: VmId, since: Millis) -> Result<Vec<CallRow>, Cause> {
        let sql = "SELECT vm_id, call, at, until, times, took_us, result, reason, error FROM calls
            WHERE (vm_id = ?1 OR vm_id IS NULL) AND until >= ?2 ORDER BY n DESC LIMIT ?3";
        self.rows(sql, vm, since, call_row)
    }

    /// States of a VM since then, the oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn states(&self, vm: VmId, since: Millis) -> Result<Vec<StateRow>, Cause> {
        let sql = "SELECT at, was, now, detail, run, words FROM states
            WHERE vm_id = ?1 AND at >= ?2 ORDER BY n DESC LIMIT ?3";
        self.rows(sql, vm, since, state_row)
    }

    /// Starts of the agent since then, the oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn starts(&self, since: Millis) -> Result<Vec<StartRow>, Cause> {
        let read = || -> rusqlite::Result<Vec<StartRow>> {
            let mut statement =
                self.db.prepare("SELECT at, version FROM starts WHERE at >= ?1 ORDER BY n")?;
            let rows = statement
                .query_map([since.0], |row| Ok(StartRow { at: Millis(row.get(0)?), version: row.get(1)? }))?;
            rows.collect()
        };
        read().map_err(|error| unreadable(&error))
    }

    /// What was not recorded, as there was no room for it.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn lost(&self) -> Result<Option<Lost>, Cause> {
        let value = |key: &str| {
            self.db
                .query_row("SELECT value FROM meta WHERE key = ?1", [key], |row| row.get::<_, i64>(0))
                .optional()
                .map_err(|error| unreadable(&error))
        };
        let (Some(records), Some(at)) = (value("lost")?, value("lost_at")?) else { return Ok(None) };
        Ok(Some(Lost { records: u64::try_from(records).unwrap_or(0), at_ms: Millis(at) }))
    }

    fn rows<T>(
        &self,
        sql: &str,
        vm: VmId,
        since: Millis,
        read: fn(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, Cause> {
        let newest_first = || {
            let mut statement = self.db.prepare(sql)?;
            let rows = statement.query_map(params![vm.to_string(), since.0, MOST], read)?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut rows = newest_first().map_err(|error| unreadable(&error))?;
        rows.reverse();
        Ok(rows)
    }
}

fn call_row(row: &Row<'_>) -> rusqlite::Result<CallRow> {
    let (result, reason, error): (String, _, Option<String>) = (row.get(6)?, row.get(7)?, row.get(8)?);
    let error = error.unwrap_or_default();
    let end = match result.as_str() {
        "well" => CallEnd::Well,
        "overran" => CallEnd::Overran { error },
        _ => CallEnd::Failed { reason, error },
    };
    Ok(CallRow {
        of_vm: row.get::<_, Option<String>>(0)?.is_some(),
        call: row.get(1)?,
        at: Millis(row.get(2)?),
        until: Millis(row.get(3)?),
        times: row.get(4)?,
        took: Duration::from_micros(u64::try_from(row.get::<_, i64>(5)?).unwrap_or(0)),
        end,
    })
}

fn state_row(row: &Row<'_>) -> rusqlite::Result<StateRow> {
    let at = Millis(row.get(0)?);
    Ok(match row.get::<_, Option<String>>(5)? {
        Some(words) => StateRow::Told { at, words },
        None => StateRow::Seen {
            at,
            was: row.get(1)?,
            now: row.get(2)?,
            detail: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
            run: row.get(4)?,
        },
    })
}

/// Each VM that was there, as it was seen last.
pub(super) fn last_seen(db: &Connection) -> rusqlite::Result<HashMap<VmId, Sight>> {
    let mut statement = db.prepare(
        "SELECT vm_id, now, detail, run FROM states
         WHERE n IN (SELECT max(n) FROM states WHERE words IS NULL GROUP BY vm_id) AND now <> 'absent'",
    )?;
    let rows = statement.query_map([], |row| {
        let (vm, power): (String, String) = (row.get(0)?, row.get(1)?);
        let (detail, run): (Option<String>, Option<String>) = (row.get(2)?, row.get(3)?);
        let run = run.and_then(|run| run.parse().ok());
        // One of a newer version is seen anew.
        let sight = power_named(&power).map(|power| Sight { power, detail: detail.unwrap_or_default(), run });
        Ok(vm.parse().ok().zip(sight))
    })?;
    rows.filter_map(Result::transpose).collect()
}

fn power_named(name: &str) -> Option<Power> {
    use Power::{Absent, Crashed, Off, Paused, Running, ShuttingDown, Unknown};
    let all = [Unknown, Absent, Off, Running, Paused, Crashed, ShuttingDown];
    all.into_iter().find(|power| power.as_str() == name)
}

fn unreadable(error: &rusqlite::Error) -> Cause {
    Cause::new(Reason::StorageError, format!("the record of calls and states cannot be read: {error}"))
        .advise("the journal tells the rest; a damaged notes.db is begun anew when the agent starts")
}
