//! What is written of an event, one entry after the other.

use dewpoint_proto::cause::{Cause, Reason, shortened};
use dewpoint_proto::ids::{EventId, RunId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::ImageRef;
use dewpoint_proto::vm_state::VmState;
use serde::{Deserialize, Serialize};

use crate::execute::step::Step;
use crate::hypervisor::{Consistency, Wanted};

/// One entry of the journal. Stored as kind, version and JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "entry")]
pub enum Entry {
    /// A step is about to be applied. The first one begins the event and carries how the VM was before it.
    StepStarted {
        /// Which step.
        step: Step,
        /// How often it was started before, plus one.
        attempt: u32,
        /// With the event's first step only: what undoing goes back to.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        before: Option<Before>,
    },
    /// The step's call or job returned well. Shown, and used for what it made; that it took effect is observed.
    StepDone {
        /// Which step.
        step: Step,
        /// The image that it made, for `adopt-snapshot`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        image: Option<ImageRef>,
        /// How the guest's file systems stand in the backup, for `begin-backup`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        consistency: Option<Consistency>,
    },
    /// The step's call or job returned an error. It may have taken effect all the same.
    StepFailed {
        /// Which step.
        step: Step,
        /// What it said.
        cause: Cause,
    },
    /// From here on the event is undone. Final.
    UndoDecided {
        /// Why; becomes the outcome's cause.
        cause: Cause,
        /// How the event will have ended.
        ends: UndoneAs,
    },
    /// The event ended; its report is written in the same transaction.
    Finished {
        /// How.
        outcome: Outcome,
        /// The VM as it was left; none when nothing was known of it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        vm: Option<VmState>,
        /// What later events of the VM start from; none: unchanged (refused, expired).
        #[serde(default, skip_serializing_if = "Option::is_none")]
        leaves: Option<Leaves>,
    },
    /// The coordinator has the report.
    Acknowledged,
}

impl Entry {
    /// As stored and shown.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::StepStarted { .. } => "step-started",
            Self::StepDone { .. } => "step-done",
            Self::StepFailed { .. } => "step-failed",
            Self::UndoDecided { .. } => "undo-decided",
            Self::Finished { .. } => "finished",
            Self::Acknowledged => "acknowledged",
        }
    }
}

/// The version of every kind of entry that this agent writes.
pub const VERSION: u32 = 1;

impl Entry {
    /// The entry in a row.
    ///
    /// # Errors
    /// `UNKNOWN_KIND` for one that a newer version wrote.
    pub fn from_stored(kind: &str, version: u32, json: &str) -> Result<Self, Cause> {
        let unreadable = |why: String| {
            Cause::new(Reason::UnknownKind, format!("a journal entry `{}` {why}", shortened(kind)))
                .advise("install the agent version that wrote it, or a newer one")
        };
        if version > VERSION {
            return Err(unreadable(format!("is of version {version}, this agent knows {VERSION}")));
        }
        serde_json::from_str(json).map_err(|error| unreadable(format!("cannot be read: {error}")))
    }
}

/// How an undone event ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UndoneAs {
    /// It could not be done.
    Failed,
    /// A cancel or a destroy came.
    Cancelled,
}

/// How a VM was before an event: what undoing goes back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The disk in use; none: there was no domain.
    pub disk: Option<EventId>,
    /// The seed in use.
    pub seed: Option<EventId>,
    /// The run in progress; none: it was off.
    pub run: Option<RunId>,
    /// What was wanted.
    pub wanted: Wanted,
}

/// What the journal keeps of a VM once an event has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leaves {
    /// The VM is there.
    Vm {
        /// The disk in use.
        disk: EventId,
        /// The seed in use.
        seed: EventId,
        /// What is wanted now.
        wanted: Wanted,
        /// The latest run.
        run: Option<RunId>,
    },
    /// Nothing of it is left on this host: its row becomes a tombstone that keeps the generation.
    Gone,
}
