//! What is recorded, and what is read again.

use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{RunId, VmId};
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::Power;
use serde::Serialize;

use crate::hypervisor::Domain;

/// A call to libvirt that was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallNote {
    /// For which VM; none: for all.
    pub vm: Option<VmId>,
    /// Its name.
    pub call: &'static str,
    /// When it was asked for.
    pub at: Millis,
    /// From then until it was answered, the wait for a worker included.
    pub took: Duration,
    /// What came of it.
    pub end: CallEnd,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum CallEnd {
    /// It returned well.
    Well,
    /// It returned an error.
    Failed {
        /// Its stable reason, when there is one.
        reason: Option<String>,
        /// What libvirt said.
        error: String,
    },
    /// It went past its deadline, and may take effect all the same.
    Overran {
        /// What was said of it.
        error: String,
    },
}

impl CallEnd {
    /// Of a call that failed.
    #[must_use]
    pub fn of(cause: &Cause) -> Self {
        let error = cause.text.clone();
        match cause.reason {
            Reason::CallOverran => Self::Overran { error },
            ref reason => Self::Failed { reason: Some(reason.as_str().to_owned()), error },
        }
    }
}

/// A VM as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Its power.
    pub power: Power,
    /// libvirt's words for it.
    pub detail: String,
    /// The run in progress.
    pub run: Option<RunId>,
}

impl Sight {
    /// Of a domain that is ours; none: it is not, and is nobody's business.
    #[must_use]
    pub fn of(domain: &Domain) -> Option<Self> {
        let live = domain.live.there().filter(|mark| mark.vm == domain.vm);
        live.or(domain.mark.there().filter(|mark| mark.vm == domain.vm))?;
        Some(Self { power: domain.power, detail: domain.detail.clone(), run: live.and_then(|mark| mark.run) })
    }
}

/// A change that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StateNote {
    pub(super) vm: VmId,
    pub(super) at: Millis,
    pub(super) was: Option<Power>,
    pub(super) now: Sight,
}

/// What waits for the thread.
#[derive(Clone, Debug)]
pub(super) enum Note {
    Start { at: Millis, version: &'static str },
    Call(CallNote),
    State(StateNote),
    Told { vm: VmId, at: Millis, words: String },
}

/// A call as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallRow {
    /// For this VM, or, when it is false, for all.
    pub of_vm: bool,
    /// Its name.
    pub call: String,
    /// When the first was made.
    pub at: Millis,
    /// When the last was made.
    pub until: Millis,
    /// How many there were; more than one only of looks that went well.
    pub times: u32,
    /// The longest of them.
    pub took: Duration,
    /// What came of it.
    pub end: CallEnd,
}

/// A state as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateRow {
    /// It was seen.
    Seen {
        /// When.
        at: Millis,
        /// What it was before; none: not known.
        was: Option<String>,
        /// What it is.
        now: String,
        /// libvirt's words for that.
        detail: String,
        /// The run in progress.
        run: Option<String>,
    },
    /// libvirt told of it.
    Told {
        /// When.
        at: Millis,
        /// In its words.
        words: String,
    },
}

/// A start of an agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StartRow {
    /// When.
    pub at: Millis,
    /// Of which version.
    pub version: String,
}

/// What was not recorded, as there was no room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// How many records, ever.
    pub records: u64,
    /// The last time.
    pub at_ms: Millis,
}
