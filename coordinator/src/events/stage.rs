//! Where an event stands, as the coordinator knows it, and the one function that says what may follow.

use std::fmt;

use dewpoint_proto::outcome::Outcome;

/// Where an event stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// Waits for a host that fits; the coordinator may still end it.
    Pending,
    /// In a host's queue; from here on only that host ends it.
    Assigned,
    /// Journaled on its host.
    Accepted,
    /// Its first step is journaled.
    Running,
    /// Done, and seen to be done.
    Succeeded,
    /// Not done, and undone.
    Failed,
    /// Turned away by its host.
    Refused,
    /// Not begun by its deadline.
    Expired,
    /// Ended by a cancel or a destroy.
    Cancelled,
    /// Its host's journal was lost with it unfinished.
    Unknown,
}

/// What may happen to an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A host was chosen and its capacity claimed.
    Assigned,
    /// Its host journaled it.
    Accepted,
    /// Its host began.
    Running,
    /// Its end, by whoever may end it.
    Ended(End),
    /// Its host's journal was lost.
    JournalLost,
    /// A person answered for its host.
    Forced(ForcedAs),
}

/// What a person may answer for a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForcedAs {
    /// It was done.
    Succeeded,
    /// It was not.
    Failed,
    /// Nobody can tell any more.
    Unknown,
}

/// An end that is reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Done.
    Succeeded,
    /// Undone.
    Failed,
    /// Turned away.
    Refused,
    /// Too late.
    Expired,
    /// Ended by another event.
    Cancelled,
}

/// What an entry does to a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum After {
    /// It stands there now.
    Moved(Stage),
    /// Known already, or overtaken: nothing changes.
    Same,
    /// It ended otherwise before: the entry is kept and shown, and changes nothing.
    Contradicted,
}

/// An entry that no correct peer sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{entry:?} cannot follow {stage}")]
pub struct IllegalEntry {
    /// Where the event stands.
    pub stage: Stage,
    /// What cannot follow.
    pub entry: Entry,
}

impl Stage {
    /// Every stage, in the order of a life.
    pub const ALL: [Self; 10] = [
        Self::Pending,
        Self::Assigned,
        Self::Accepted,
        Self::Running,
        Self::Succeeded,
        Self::Failed,
        Self::Refused,
        Self::Expired,
        Self::Cancelled,
        Self::Unknown,
    ];

    /// Every write of a stage comes through here.
    ///
    /// # Errors
    /// For an entry that skips assignment, assigns what has a host, or forces what has an end.
    pub fn after(self, entry: Entry) -> Result<After, IllegalEntry> {
        use After::{Contradicted, Moved, Same};
        Ok(match (self, entry) {
            (Self::Pending, Entry::Assigned) => Moved(Self::Assigned),
            (Self::Pending, Entry::Ended(end @ (End::Succeeded | End::Cancelled | End::Expired))) => {
                Moved(end.stage())
            }
            (Self::Assigned, Entry::Accepted) => Moved(Self::Accepted),
            // What a host tells may overtake its acknowledgement: they travel in one stream, and are stored apart.
            (Self::Assigned | Self::Accepted, Entry::Running) => Moved(Self::Running),
            (Self::Assigned | Self::Accepted | Self::Running, Entry::Ended(end)) => Moved(end.stage()),
            (Self::Assigned | Self::Accepted | Self::Running, Entry::JournalLost) => Moved(Self::Unknown),
            (Self::Assigned | Self::Accepted | Self::Running, Entry::Forced(ends)) => Moved(ends.stage()),
            // What nobody could tell may be found out later.
            (Self::Unknown, Entry::Forced(ends @ (ForcedAs::Succeeded | ForcedAs::Failed))) => {
                Moved(ends.stage())
            }
            (Self::Accepted | Self::Running, Entry::Accepted) | (Self::Running, Entry::Running) => Same,
            (ended, Entry::Ended(end)) if ended == end.stage() => Same,
            (ended, Entry::Ended(_)) if ended.has_ended() => Contradicted,
            (ended, Entry::Accepted | Entry::Running | Entry::JournalLost) if ended.has_ended() => Same,
            (stage, entry) => return Err(IllegalEntry { stage, entry }),
        })
    }

    /// Whether nothing follows.
    #[must_use]
    pub fn has_ended(self) -> bool {
        self >= Self::Succeeded
    }

    /// As on the wire and in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Assigned => "assigned",
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Unknown => "unknown",
        }
    }

    /// The stage of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == name)
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl End {
    /// The stage it leads to.
    #[must_use]
    pub fn stage(self) -> Stage {
        match self {
            Self::Succeeded => Stage::Succeeded,
            Self::Failed => Stage::Failed,
            Self::Refused => Stage::Refused,
            Self::Expired => Stage::Expired,
            Self::Cancelled => Stage::Cancelled,
        }
    }
}

impl ForcedAs {
    /// The stage it leads to.
    #[must_use]
    pub fn stage(self) -> Stage {
        match self {
            Self::Succeeded => Stage::Succeeded,
            Self::Failed => Stage::Failed,
            Self::Unknown => Stage::Unknown,
        }
    }
}

impl From<&Outcome> for End {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Succeeded(_) => Self::Succeeded,
            Outcome::Failed(_) => Self::Failed,
            Outcome::Refused(_) => Self::Refused,
            Outcome::Expired(_) => Self::Expired,
            Outcome::Cancelled(_) => Self::Cancelled,
        }
    }
}

#[cfg(test)]
mod tests;
