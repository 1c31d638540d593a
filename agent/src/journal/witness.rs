//! The journal's witness: a small file beside it that says how far it was written.
//!
//! It is written after each commit and never synced, so it is never ahead of a journal that nobody replaced, not even
//! after power loss. A copy of the journal that is put back is older than its witness: then what is unfinished in it may
//! long be done, and nothing of it is gone on with until a person has reconciled the host.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::JournalId;
use rusqlite::Connection;

use super::schema;

/// In `meta`: groups committed.
pub(super) const WRITES: &str = "writes";
/// In `meta`: the id before the newest reconciliation, which the witness may still bear after a crash.
pub(super) const PREVIOUS: &str = "previous_journal_id";
/// In `meta`: why the journal is not believed, as JSON.
pub(super) const DOUBT: &str = "doubt";

/// The file; none: it cannot be written, and nothing is known at the next start.
pub(super) struct Witness {
    path: PathBuf,
    file: Option<File>,
}

/// What the witness is told after each commit.
pub(super) struct Told {
    pub(super) journal: JournalId,
    pub(super) writes: u64,
    pub(super) witness: Witness,
}

impl Told {
    /// One more group is on disk, perhaps under another id.
    pub(super) fn committed(&mut self, renamed: Option<JournalId>, believed: bool) {
        self.writes += 1;
        self.journal = renamed.unwrap_or(self.journal);
        if believed {
            self.witness.say(self.journal, self.writes);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    /// There is no file: the first start, or a person has removed it.
    Nothing,
    /// What it says cannot be read: power was lost while it was written.
    Unreadable,
    /// This journal, so many groups.
    Mark(JournalId, u64),
}

impl Witness {
    /// Beside the database.
    pub(super) fn beside(database: &Path) -> Self {
        let mut path = database.as_os_str().to_owned();
        path.push(".seen");
        Self { path: PathBuf::from(path), file: None }
    }

    /// Why the journal is not to be believed; kept in it until a person has decided. Removing the file is such a
    /// decision.
    pub(super) fn doubt(&self, db: &Connection) -> rusqlite::Result<Option<Cause>> {
        let said = self.read();
        let kept = schema::get(db, DOUBT)?.and_then(|text| serde_json::from_str(&text).ok());
        let doubt = match (said, kept) {
            (Said::Nothing, Some(_)) => {
                forget(db)?;
                None
            }
            (Said::Nothing | Said::Unreadable, kept) => kept,
            (Said::Mark(..), Some(cause)) => Some(cause),
            (Said::Mark(journal, writes), None) => self.compare(db, journal, writes)?,
        };
        if let Some(cause) = &doubt {
            schema::put(db, DOUBT, &serde_json::to_string(cause).unwrap_or_default())?;
        }
        Ok(doubt)
    }

    fn compare(&self, db: &Connection, journal: JournalId, writes: u64) -> rusqlite::Result<Option<Cause>> {
        let ours = schema::read_epoch(db)?.journal;
        let written = writes_of(db)?;
        if ours == journal {
            return Ok((written < writes).then(|| self.cause("is an older copy of itself", written, writes)));
        }
        let renamed = schema::get(db, PREVIOUS)?.is_some_and(|previous| previous == journal.to_string());
        if written == 0 && !renamed {
            tracing::error!(was = %journal.0, now = %ours.0, "the journal was lost: a new one begins");
        }
        Ok((written > 0 && !renamed)
            .then(|| self.cause("is another host's, or another time's", written, writes)))
    }

    fn cause(&self, what: &str, written: u64, seen: u64) -> Cause {
        Cause::new(Reason::JournalLost, format!("the journal {what}: nothing in it is gone on with"))
            .advise(format!(
                "VMs run on. Stop the agent and put the right agent.db back; or reconcile the host at its coordinator; \
                 or, to believe it as it is, remove {} and start again",
                self.path.display()
            ))
            .with("groups_written", written)
            .with("groups_seen", seen)
    }

    fn read(&self) -> Said {
        let mut text = String::new();
        match File::open(&self.path).and_then(|file| file.take(256).read_to_string(&mut text)) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Said::Nothing,
            Err(_) => return Said::Unreadable,
        }
        let mut words = text.split_whitespace();
        let journal = words.next().and_then(|word| word.parse().ok());
        let writes = words.next().and_then(|word| word.parse().ok());
        match (journal, writes, words.next()) {
            (Some(journal), Some(writes), Some("end")) => Said::Mark(journal, writes),
            _ => Said::Unreadable,
        }
    }

    /// Says how far the journal is, after a commit.
    pub(super) fn say(&mut self, journal: JournalId, writes: u64) {
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(0o600);
            self.file = options.open(&self.path).ok();
        }
        // Of one width: what is written over is written over wholly.
        let line = format!("{journal} {writes:020} end\n");
        if let Some(file) = &self.file
            && let Err(error) = file.write_all_at(line.as_bytes(), 0)
        {
            tracing::debug!(%error, "the journal's witness cannot be written");
        }
    }
}

/// Groups committed so far.
pub(super) fn writes_of(db: &Connection) -> rusqlite::Result<u64> {
    Ok(schema::get(db, WRITES)?.and_then(|text| text.parse().ok()).unwrap_or(0))
}

/// A person has decided.
pub(super) fn forget(db: &Connection) -> rusqlite::Result<()> {
    db.prepare_cached("DELETE FROM meta WHERE key = ?1")?.execute([DOUBT]).map(drop)
}
