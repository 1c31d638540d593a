//! Where an event stands on its host, and the one function that says which entries are legal.

use dewpoint_proto::outcome::Outcome;

use super::entry::Entry;

/// Where an event stands on its host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// On disk, not begun.
    Accepted,
    /// Its first step is journaled.
    Running,
    /// The decision to undo is journaled, and final.
    Undoing,
    /// Ended, its report written.
    Finished(Outcome),
    /// Ended, its report acknowledged by the coordinator.
    Reported(Outcome),
}

/// An entry that cannot follow: a bug, or a damaged journal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event that is {stage} cannot take the entry {entry}")]
pub struct IllegalEntry {
    /// The stage's name.
    pub stage: &'static str,
    /// The entry's name.
    pub entry: &'static str,
}

impl Stage {
    /// Live appends and replay after a crash both come through here.
    ///
    /// # Errors
    /// [`IllegalEntry`] for every pair that is not named.
    pub fn after(self, entry: &Entry) -> Result<Self, IllegalEntry> {
        match (self, entry) {
            (Self::Accepted | Self::Running, Entry::StepStarted { .. }) => Ok(Self::Running),
            (Self::Undoing, Entry::StepStarted { .. }) => Ok(Self::Undoing),
            (stage @ (Self::Running | Self::Undoing), Entry::StepDone { .. } | Entry::StepFailed { .. }) => {
                Ok(stage)
            }
            (Self::Accepted | Self::Running, Entry::UndoDecided { .. }) => Ok(Self::Undoing),
            (Self::Accepted | Self::Running | Self::Undoing, Entry::Finished { outcome, .. }) => {
                Ok(Self::Finished(outcome.clone()))
            }
            (Self::Finished(outcome), Entry::Acknowledged) => Ok(Self::Reported(outcome)),
            (stage, entry) => Err(IllegalEntry { stage: stage.name(), entry: entry.name() }),
        }
    }

    /// As stored and shown.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Running => "running",
            Self::Undoing => "undoing",
            Self::Finished(_) => "finished",
            Self::Reported(_) => "reported",
        }
    }

    /// Whether its VM may take another event.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self, Self::Finished(_) | Self::Reported(_))
    }
}
