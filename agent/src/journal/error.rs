//! What goes wrong with the journal, and the cause that each becomes.

use std::path::{Path, PathBuf};

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

impl OpenError {
    /// What SQLite said of a database: damaged, or not to be had.
    pub(super) fn of(path: &Path, source: rusqlite::Error) -> Self {
        let path = path.to_owned();
        if is_damage(&source) {
            Self::Damaged { path, why: chain(&source) }
        } else {
            Self::Sqlite { path, source }
        }
    }
}

impl OpenError {
    /// Whether it may be that there is no room left.
    pub(super) fn may_be_full(&self) -> bool {
        use rusqlite::ErrorCode::{CannotOpen, DiskFull, SystemIoFailure};
        match self {
            Self::Sqlite { source, .. } => {
                matches!(source.sqlite_error_code(), Some(DiskFull | SystemIoFailure | CannotOpen))
            }
            Self::Io { source, .. } => source.kind() == std::io::ErrorKind::StorageFull,
            Self::NewerSchema { .. } | Self::Damaged { .. } => false,
        }
    }
}

impl From<OpenError> for Cause {
    fn from(error: OpenError) -> Self {
        let (reason, advice) = match &error {
            OpenError::NewerSchema { .. } => {
                (Reason::JournalNewer, "install the agent version that wrote it, or a newer one")
            }
            OpenError::Damaged { .. } => (Reason::JournalDamaged, DAMAGED),
            OpenError::Sqlite { .. } | OpenError::Io { .. } => {
                (Reason::JournalError, "check the data folder's disk, free space and permissions")
            }
        };
        Self::new(reason, chain(&error)).advise(advice)
    }
}

/// The ways on. The VMs need none of them: they run.
const DAMAGED: &str = "the VMs run on, and nothing was changed; put a copy of agent.db from a backup in its place, or \
                       set it aside with `dewpoint-agent journal new`, which deletes nothing and begins a new journal \
                       that a person then reconciles with the coordinator's";

/// Whether SQLite found pages that it did not write so.
fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase};
    matches!(error.sqlite_error_code(), Some(DatabaseCorrupt | NotADatabase))
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
    /// Pages of the database are damaged. New events are withheld until a person has looked.
    #[error("the journal is damaged: {0}")]
    Corrupt(String),
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
            JournalError::Disk(_) => Self::new(Reason::JournalError, text).advise(
                "the data folder's disk fails or is read-only; see the kernel's log (`journalctl -k`). If somebody \
                 mounted it so, `mount -o remount,rw` is enough. After an error: stop the agent and the VMs on it, then \
                 `umount`, `fsck`, `mount`, and start the agent. Until then VMs run as far as their disks let them",
            ),
            JournalError::Full(_) => Self::new(Reason::JournalError, text)
                .advise("free space on the data folder's disk; the agent then goes on by itself"),
            JournalError::Corrupt(_) => Self::new(Reason::JournalDamaged, text).advise(
                "VMs run on; stop the agent, look with `dewpoint-agent journal check`, and go on as it says",
            ),
            JournalError::Write(_)
            | JournalError::OutOfOrder { .. }
            | JournalError::Damaged(_)
            | JournalError::Closed => Self::new(Reason::JournalError, text)
                .advise("check the data folder's disk and free space; if it stays so, restart the agent"),
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
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Corrupt(text),
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
