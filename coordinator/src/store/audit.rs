//! What people do to the fleet, and why: kept for whoever asks later.

use std::fmt;

use dewpoint_proto::ids::{EventId, HostId, VmId};
use dewpoint_proto::time::Millis;
use serde::{Deserialize, Serialize};

/// A person's word: it decides what no machine can prove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Word {
    /// As the caller said: not proven before callers have certificates.
    pub who: String,
    /// In their words; empty where none is asked for.
    pub reason: String,
    /// By the coordinator's clock.
    pub at: Millis,
}

/// What a person did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Took a host out of placement.
    Cordon,
    /// Put it back.
    Uncordon,
    /// Stopped deliveries to a host, or to all.
    Hold,
    /// Let them go on.
    Release,
    /// Let a restored database place again.
    EndRecovery,
    /// Answered for an event's host.
    Force,
    /// Set how many VMs may be destroyed in a minute.
    DestroyLimit,
    /// Put a backup in the database's place.
    Restore,
    /// Settled which of two logs holds.
    Reconcile,
    /// Put a host in another's place.
    Replace,
    /// Took a host out of the fleet for good.
    Retire,
}

impl Act {
    /// As stored and shown. Read back as text, so that a newer version's acts are shown as they are.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cordon => "cordon",
            Self::Uncordon => "uncordon",
            Self::Hold => "hold",
            Self::Release => "release",
            Self::EndRecovery => "end-recovery",
            Self::Force => "force",
            Self::DestroyLimit => "destroy-limit",
            Self::Restore => "restore",
            Self::Reconcile => "reconcile",
            Self::Replace => "replace",
            Self::Retire => "retire",
        }
    }
}

impl fmt::Display for Act {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What an act is about; nothing set: the whole fleet. As a filter: all that are set hold together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// This host.
    pub host: Option<HostId>,
    /// This event.
    pub event: Option<EventId>,
    /// This VM.
    pub vm: Option<VmId>,
}

impl About {
    /// One host.
    #[must_use]
    pub fn host(host: HostId) -> Self {
        Self { host: Some(host), ..Self::default() }
    }
}

/// An act, to be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// What was done.
    pub act: Act,
    /// To what.
    pub about: About,
    /// What was set, or what it came to; empty: the act says all.
    pub detail: String,
    /// Who did it, why and when.
    pub word: Word,
}

/// An act that was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRecord {
    /// An [`Act`]'s name, or one that a newer version knows.
    pub act: String,
    /// To what.
    pub about: About,
    /// That host's name.
    pub hostname: Option<String>,
    /// What was set, or what it came to.
    pub detail: String,
    /// Who did it, why and when.
    pub word: Word,
}
