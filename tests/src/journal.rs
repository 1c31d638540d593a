//! What the agent's journal holds, read from its database beside the agent: when to cut it off, and what it made of it.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Row, params};

use crate::agent::Agent;
use crate::wait::EVENT;

/// A moment in an event's life on its host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Journaled, whatever came after.
    Accepted,
    /// This step is about to be applied.
    Step(&'static str),
    /// It has ended, and its report is written.
    Finished,
}

/// A reader of one agent's journal.
#[derive(Debug)]
pub struct Journal(Connection);

impl Journal {
    /// Opens it; the agent may be up or down.
    ///
    /// # Panics
    /// When it cannot be read.
    #[must_use]
    pub fn of(agent: &Agent) -> Self {
        Self::open(&agent.data().join("agent.db")).unwrap_or_else(|error| panic!("agent.db: {error}"))
    }

    fn open(path: &Path) -> rusqlite::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(path, flags)?;
        db.busy_timeout(Duration::from_secs(5))?;
        db.execute_batch("PRAGMA query_only = ON")?;
        Ok(Self(db))
    }

    /// An event's entries, the oldest first: kind, and the step when it is about one.
    #[must_use]
    pub fn entries(&self, event: &str) -> Vec<(String, Option<String>)> {
        let sql = "SELECT kind, json_extract(json, '$.step') FROM entries WHERE event_id = ?1 ORDER BY n";
        self.rows(sql, event, |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Where an event stands; none: it is not there.
    #[must_use]
    pub fn stage(&self, event: &str) -> Option<String> {
        self.rows("SELECT stage FROM events WHERE event_id = ?1", event, |row| row.get(0)).pop()
    }

    /// How many reports were written of an event.
    #[must_use]
    pub fn reports(&self, event: &str) -> usize {
        self.rows("SELECT report_seq FROM reports WHERE event_id = ?1", event, |row| row.get::<_, i64>(0))
            .len()
    }

    /// The positions of the queue that are taken, in order.
    #[must_use]
    pub fn queue(&self) -> Vec<i64> {
        self.rows("SELECT seq FROM queue WHERE ?1 <> '' ORDER BY seq", "all", |row| row.get(0))
    }

    /// How many reports the coordinator has not acknowledged.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.rows("SELECT 1 FROM reports WHERE acked = 0 AND ?1 <> ''", "all", |row| row.get::<_, i64>(0))
            .len()
    }

    /// The configuration that was noted of a VM's domain last; none: none yet.
    #[must_use]
    pub fn config(&self, vm: &str) -> Option<String> {
        let sql = "SELECT json_extract(json, '$.config') FROM keeping WHERE vm_id = ?1";
        self.rows(sql, vm, |row| row.get::<_, Option<String>>(0)).pop().flatten()
    }

    fn reached(&self, event: &str, moment: Moment) -> bool {
        let Some(stage) = self.stage(event) else { return false };
        let ended = matches!(stage.as_str(), "finished" | "reported");
        match moment {
            Moment::Accepted => true,
            Moment::Finished => ended,
            Moment::Step(step) => {
                ended || self.entries(event).iter().any(|(_, of)| of.as_deref() == Some(step))
            }
        }
    }

    fn rows<T>(&self, sql: &str, key: &str, read: impl Fn(&Row<'_>) -> rusqlite::Result<T>) -> Vec<T> {
        let all = self.0.prepare_cached(sql).and_then(|mut found| {
            let rows = found.query_map(params![key], |row| read(row))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        });
        all.unwrap_or_else(|error| panic!("agent.db: {error}"))
    }

    /// Waits for a moment of an event, looking every millisecond: steps are short.
    ///
    /// # Panics
    /// When it does not come. Whoever acts on it may still come later than the step that follows.
    pub async fn until(&self, event: &str, moment: Moment) {
        let mut looks = tokio::time::interval(Duration::from_millis(1));
        let deadline = tokio::time::Instant::now() + EVENT;
        while !self.reached(event, moment) {
            looks.tick().await;
            let late = tokio::time::Instant::now() > deadline;
            assert!(
                !late,
                "{moment:?} of {event} did not come: {:?}, {:?}",
                self.stage(event),
                self.entries(event)
            );
        }
    }
}
