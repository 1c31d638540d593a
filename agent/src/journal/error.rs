//! What goes wrong with the journal, and the cause that each becomes.

use std::path::PathBuf;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, Seq};

use super::stage::IllegalEntry;

/// Why the journal was not opened. The agent does not start then.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Written by a newer agent; nothing in it was touched.
    #[error("{} has schema {found}, this agent knows up to {known}", path.display())]
    NewerSchema {
        /// The database.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest that this agent knows.
        known: u32,
    },
    /// It is not a journal, or something in it is damaged.
    #[error("{} is not a sound journal: {why}", path.display())]
    Damaged {
        /// The database.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// SQLite refused.
    #[error("{} cannot be opened", path.display())]
    Sqlite {
        /// The database.
        path: PathBuf,
        /// What SQLite said.
        #[source]
        source: rusqlite::Error,
    },
    /// The thread, the reserve or the folder could not be made.
    #[error("{} cannot be prepared", path.display())]
    Io {
        /// The database or a file beside it.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl From<OpenError> for Cause {
    fn from(error: OpenError) -> Self {
        let advice = match &error {
            OpenError::NewerSchema { .. } => "install the agent version that wrote it, or a newer one",
            OpenError::Damaged { .. } => "restore the data folder's agent.db, or reconcile the host",
            OpenError::Sqlite { .. } | OpenError::Io { .. } => {
                "check the data folder's disk, free space and permissions"
            }
        };
        Self::new(Reason::JournalError, chain(&error)).advise(advice)
    }
}

/// Why the journal did not do what was asked. Nothing was written then.
#[derive(Clone, Debug, thiserror::Error)]
pub enum JournalError {
    /// New events are not taken: the disk is full or fails. What is running may still be able to end.
    #[error("the journal takes no new events: {}", .0.text)]
    Withheld(Cause),
    /// The disk is full, the reserve used up as well. Nothing of the request was written; it may be made again.
    #[error("the journal's disk is full: {0}")]
    Full(String),
    /// The disk failed. Nothing of the request was written; it may be made again.
    #[error("the journal's disk failed: {0}")]
    Disk(String),
    /// SQLite refused.
    #[error("the journal could not be written: {0}")]
    Write(String),
    /// A delivery that is not the next one; it must not be acknowledged.
    #[error("delivery {offered} came, {expected} is the next one")]
    OutOfOrder {
        /// What came.
        offered: Seq,
        /// What is needed first.
        expected: Seq,
    },
    /// Another event was journaled at that seq: the two logs do not match.
    #[error("delivery {seq} is {offered} now, and was {held} before")]
    SeqTaken {
        /// The seq.
        seq: Seq,
        /// Journaled.
        held: EventId,
        /// Delivered.
        offered: EventId,
    },
    /// An entry that cannot follow: a bug.
    #[error(transparent)]
    Illegal(IllegalEntry),
    /// No such event.
    #[error("the journal has no event {0}")]
    NoEvent(EventId),
    /// A row cannot be read.
    #[error("a row of the journal cannot be read: {0}")]
    Damaged(String),
    /// The journal's thread has ended.
    #[error("the journal is closed")]
    Closed,
}

impl From<JournalError> for Cause {
    fn from(error: JournalError) -> Self {
        let text = error.to_string();
        match error {
            JournalError::Withheld(cause) => cause,
            JournalError::NoEvent(id) => Self::new(Reason::EventNotFound, text).with("event_id", id),
            JournalError::SeqTaken { .. } => {
                Self::new(Reason::Diverged, text).advise("reconcile the host's queue with its journal")
            }
            JournalError::Illegal(_) => Self::new(Reason::Internal, text),
            JournalError::Full(_) => Self::new(Reason::JournalError, text)
                .advise("free space on the data folder's disk; the agent goes on by itself"),
            JournalError::Disk(_)
            | JournalError::Write(_)
            | JournalError::OutOfOrder { .. }
            | JournalError::Damaged(_)
            | JournalError::Closed => Self::new(Reason::JournalError, text)
                .advise("check the data folder's disk and free space; the agent goes on by itself"),
        }
    }
}

impl From<rusqlite::Error> for JournalError {
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode;
        let text = chain(&error);
        match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull) => Self::Full(text),
            Some(ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen) => {
                Self::Disk(text)
            }
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(text),
            Some(_) => Self::Write(text),
            // No code: a value did not convert, so the row is not what we wrote.
            None => Self::Damaged(text),
        }
    }
}

impl JournalError {
    /// Whether the disk is to blame, not the request: then the whole group of requests fails with it.
    pub(super) fn is_the_disk(&self) -> bool {
        matches!(self, Self::Full(_) | Self::Disk(_))
    }
}

/// An error with its sources, as one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let said = source.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = source.source();
    }
    text
}
