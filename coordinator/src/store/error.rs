//! Why the store could not do or tell something. What a transition decides is its outcome, never an error.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{HostId, Term};

/// Why the store could not do or tell something. After an error of a write nothing of it is there, except after
/// [`StoreError::Unanswered`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// Its queue is at its bound.
    #[error("the store has {waiting} requests waiting, which is its bound")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// The database cannot be read or written.
    #[error("the store failed to {doing}: {text}")]
    Failed {
        /// What it was doing, as a verb.
        doing: &'static str,
        /// What the database said.
        text: String,
    },
    /// It went away before it answered: what was asked may have been done. Ask again with the same event id.
    #[error("the store stopped before it answered")]
    Unanswered,
    /// A row does not parse: written by a newer version, or damaged.
    #[error("a row of {table} cannot be read: {text}")]
    Corrupt {
        /// Which table.
        table: &'static str,
        /// What is wrong with it.
        text: String,
    },
    /// The database was written by a newer version.
    #[error("the database has schema {found}, this version knows {known}")]
    Newer {
        /// In the database.
        found: u32,
        /// The newest that this version knows.
        known: u32,
    },
    /// Another claim of the host's queue came since.
    #[error("host {host} is held under another term than {term}")]
    TermLost {
        /// Whose queue.
        host: HostId,
        /// The term that was lost.
        term: Term,
    },
    /// A value given by a caller cannot be used: a page token, for example.
    #[error("{0}")]
    Refused(Cause),
}

impl From<StoreError> for Cause {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::Busy { waiting } => {
                Self::new(Reason::TooBusy, text).advise("try again in a second").with("waiting", waiting)
            }
            StoreError::Failed { doing, .. } => Self::new(Reason::JournalError, text)
                .advise("look at the coordinator's disk and log; nothing was changed")
                .with("doing", doing),
            StoreError::Unanswered => Self::new(Reason::JournalError, text)
                .advise("send the same request with the same event id again: it takes effect once"),
            StoreError::Corrupt { table, .. } => Self::new(Reason::Internal, text)
                .advise("check whether a newer version wrote this database")
                .with("table", table),
            StoreError::Newer { found, known } => Self::new(Reason::Internal, text)
                .advise("start the newer version, or restore the backup made before the upgrade")
                .with("found", found)
                .with("known", known),
            StoreError::TermLost { host, term } => Self::new(Reason::TermLost, text)
                .advise("close the session: its successor has the host")
                .with("host_id", host)
                .with("term", term),
            StoreError::Refused(cause) => cause,
        }
    }
}
