//! One type for each kind of identifier, so that no two can be mistaken for each other.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cause::{Cause, Reason};

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $a:literal $word:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh one, ordered by time of making.
            #[must_use]
            pub fn fresh() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.hyphenated().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($word, " {}"), self.0.hyphenated())
            }
        }

        impl FromStr for $name {
            type Err = Cause;

            fn from_str(text: &str) -> Result<Self, Cause> {
                match Uuid::try_parse(text) {
                    Ok(id) if !id.is_nil() => Ok(Self(id)),
                    _ => Err(Cause::new(
                        Reason::Invalid,
                        format!(concat!("`{}` is not ", $a, " ", $word, " id"), crate::cause::shortened(text)),
                    )
                    .advise(concat!("give the ", $word, " id as a UUID, such as 018f3c5e-7c1a-7d3e-9a5b-2f6d8c4b1a90"))),
                }
            }
        }
    };
}

uuid_id!(
    /// One hypervisor. Never its hostname.
    HostId, "a" "host"
);
uuid_id!(
    /// One virtual machine; also its libvirt domain UUID.
    VmId, "a" "VM"
);
uuid_id!(
    /// One event: the caller's idempotency key, or else made by the coordinator.
    EventId, "an" "event"
);
uuid_id!(
    /// One power-on of a VM.
    RunId, "a" "run"
);
uuid_id!(
    /// Made with the journal database, lost with it.
    JournalId, "a" "journal"
);
uuid_id!(
    /// One live stream between an agent and a coordinator.
    SessionId, "a" "session"
);

impl From<EventId> for RunId {
    /// A run is named by the event that caused it.
    fn from(event: EventId) -> Self {
        Self(event.0)
    }
}

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// Position of an event in one host's queue: 1, 2, 3, ... without gaps. 0: none yet.
    Seq
);
counter!(
    /// Raised with every event that changes the VM. 0: none yet.
    Generation
);
counter!(
    /// One claim of a coordinator on a host's queue.
    Term
);
counter!(
    /// Number of a report in one journal: 1, 2, 3, ... 0: none yet.
    ReportSeq
);

/// One run of one agent process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// The journal it wrote to.
    pub journal: JournalId,
    /// How many processes had opened that journal, this one included.
    pub start_count: u64,
}
