//! Why something was refused or failed: one form at every layer, on the wire and in the databases.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use crate::wire::event as wire;

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $text:literal, $code:ident;)*) => {
        /// A stable name for a cause, for programs to act on. Names are never reused for another meaning.
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum Reason {
            $($(#[$doc])* $variant,)*
            /// A reason that a newer version knows.
            Other(String),
        }

        impl Reason {
            /// Its stable text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other(text) => text,
                }
            }

            /// The gRPC code it travels as.
            #[must_use]
            pub fn code(&self) -> tonic::Code {
                match self {
                    $(Self::$variant => tonic::Code::$code,)*
                    Self::Other(_) => tonic::Code::Unknown,
                }
            }
        }

        impl From<String> for Reason {
            fn from(text: String) -> Self {
                match text.as_str() {
                    $($text => Self::$variant,)*
                    _ => Self::Other(text),
                }
            }
        }
    };
}

reasons! {
    /// A value from outside does not fit its type or its limit.
    Invalid = "INVALID", InvalidArgument;
    /// A bound of `limits` was exceeded.
    TooLarge = "TOO_LARGE", InvalidArgument;
    /// An event of a kind or version that this side does not know.
    UnknownKind = "UNKNOWN_KIND", Unimplemented;
    /// The same event id with another body.
    EventIdReused = "EVENT_ID_REUSED", AlreadyExists;
    /// The VM has an unfinished event.
    VmBusy = "VM_BUSY", FailedPrecondition;
    /// A generation not above the highest ever accepted.
    StaleGeneration = "STALE_GENERATION", FailedPrecondition;
    /// The VM exists already.
    VmExists = "VM_EXISTS", AlreadyExists;
    /// No such VM.
    VmNotFound = "VM_NOT_FOUND", NotFound;
    /// More than one VM has that name.
    NameAmbiguous = "NAME_AMBIGUOUS", FailedPrecondition;
    /// No such event.
    EventNotFound = "EVENT_NOT_FOUND", NotFound;
    /// No such host.
    HostNotFound = "HOST_NOT_FOUND", NotFound;
    /// No such image.
    ImageNotFound = "IMAGE_NOT_FOUND", NotFound;
    /// The image is used by VMs or events and cannot be removed.
    ImageInUse = "IMAGE_IN_USE", FailedPrecondition;
    /// The name points at another image.
    ImageNameTaken = "IMAGE_NAME_TAKEN", AlreadyExists;
    /// No such network.
    NetworkNotFound = "NETWORK_NOT_FOUND", NotFound;
    /// A network of that name exists and differs.
    NetworkExists = "NETWORK_EXISTS", AlreadyExists;
    /// VMs have addresses of the network.
    NetworkInUse = "NETWORK_IN_USE", FailedPrecondition;
    /// The network has no free address, or the wanted one is taken.
    NoAddress = "NO_ADDRESS", ResourceExhausted;
    /// No host fits.
    NoCapacity = "NO_CAPACITY", ResourceExhausted;
    /// A queue or table is at its bound.
    TooBusy = "TOO_BUSY", ResourceExhausted;
    /// As many VMs were destroyed in a minute as the fleet allows.
    DestroyLimit = "DESTROY_LIMIT", ResourceExhausted;
    /// Too late: the event ended, or went past the point where it can be undone.
    TooLate = "TOO_LATE", FailedPrecondition;
    /// The event stands where this makes no sense.
    WrongStage = "WRONG_STAGE", FailedPrecondition;
    /// A person answered for a host that stays silent.
    Forced = "FORCED", Unknown;
    /// Ended by a cancel.
    CancelledByCaller = "CANCELLED_BY_CALLER", Aborted;
    /// Ended by a destroy that came after it.
    Superseded = "SUPERSEDED", Aborted;
    /// Not begun before its deadline.
    Expired = "EXPIRED", DeadlineExceeded;
    /// The guest was asked to go down and did not by the timeout.
    GuestIgnoredRequest = "GUEST_IGNORED_REQUEST", DeadlineExceeded;
    /// The guest agent took a freeze and does not say that it thawed.
    GuestFrozen = "GUEST_FROZEN", FailedPrecondition;
    /// The VM must be running for this.
    VmNotRunning = "VM_NOT_RUNNING", FailedPrecondition;
    /// What was asked may have happened, and cannot be proven.
    Unconfirmed = "UNCONFIRMED", Unknown;
    /// Bytes do not match their digest.
    DigestMismatch = "DIGEST_MISMATCH", DataLoss;
    /// An image that names other files, is of another format, or is damaged.
    ImageRefused = "IMAGE_REFUSED", InvalidArgument;
    /// The image could not be fetched.
    ImageUnavailable = "IMAGE_UNAVAILABLE", Unavailable;
    /// Not enough room on the host's disk.
    DiskFull = "DISK_FULL", ResourceExhausted;
    /// A file operation failed.
    StorageError = "STORAGE_ERROR", Internal;
    /// libvirt refused or failed a call.
    HypervisorError = "HYPERVISOR_ERROR", Internal;
    /// A call overran its deadline.
    CallOverran = "CALL_OVERRAN", DeadlineExceeded;
    /// libvirt is not reachable.
    HypervisorDown = "HYPERVISOR_DOWN", Unavailable;
    /// A domain with this name or UUID exists and bears no mark of ours.
    ForeignDomain = "FOREIGN_DOMAIN", FailedPrecondition;
    /// A VM's domain was undefined by somebody else.
    DomainGone = "DOMAIN_GONE", FailedPrecondition;
    /// A VM's domain was changed by somebody else.
    DomainChanged = "DOMAIN_CHANGED", FailedPrecondition;
    /// The VM was started again as often as its host does.
    RestartLimit = "RESTART_LIMIT", ResourceExhausted;
    /// The VM is another host's.
    VmElsewhere = "VM_ELSEWHERE", FailedPrecondition;
    /// The host's network could not be set up for the VM.
    NetworkError = "NETWORK_ERROR", Internal;
    /// The journal or the store cannot be written.
    JournalError = "JOURNAL_ERROR", Unavailable;
    /// The journal is damaged: a person decides how to go on.
    JournalDamaged = "JOURNAL_DAMAGED", DataLoss;
    /// The journal was written by a newer version.
    JournalNewer = "JOURNAL_NEWER", FailedPrecondition;
    /// The host is held by an operator.
    Held = "HELD", FailedPrecondition;
    /// The host only reports: its agent is configured so.
    ObserveOnly = "OBSERVE_ONLY", FailedPrecondition;
    /// The two logs of a host do not match.
    Diverged = "DIVERGED", FailedPrecondition;
    /// What was shown is not what there is any more: look again.
    PlanChanged = "PLAN_CHANGED", FailedPrecondition;
    /// The host has VMs.
    HostInUse = "HOST_IN_USE", FailedPrecondition;
    /// A person has retired the host.
    HostRetired = "HOST_RETIRED", FailedPrecondition;
    /// The host's journal was lost with the event unfinished.
    JournalLost = "JOURNAL_LOST", DataLoss;
    /// Another coordinator has claimed the host since.
    TermLost = "TERM_LOST", Aborted;
    /// Plaintext beyond loopback without `--insecure`.
    PlaintextRefused = "PLAINTEXT_REFUSED", FailedPrecondition;
    /// Not reachable.
    Unreachable = "UNREACHABLE", Unavailable;
    /// Two sources on a host disagree; its doctor tells how.
    Disagreement = "DISAGREEMENT", FailedPrecondition;
    /// Something is to be done first; what was asked tells what.
    NotReady = "NOT_READY", Unknown;
    /// A bug: a state that should not exist.
    Internal = "INTERNAL", Internal;
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.as_str().to_owned()
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something was refused or failed, what happened, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct Cause {
    /// For programs.
    pub reason: Reason,
    /// For people: what happened. One sentence, no full stop.
    pub text: String,
    /// For people: what to do next; empty: nothing to be done.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub advice: String,
    /// The values that the text speaks of.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, String>,
}

impl Cause {
    /// A cause without advice or fields.
    #[must_use]
    pub fn new(reason: Reason, text: impl Into<String>) -> Self {
        Self { reason, text: text.into(), advice: String::new(), fields: BTreeMap::new() }
    }

    /// With what to do next.
    #[must_use]
    pub fn advise(mut self, advice: impl Into<String>) -> Self {
        self.advice = advice.into();
        self
    }

    /// With one more value.
    #[must_use]
    pub fn with(mut self, field: &str, value: impl fmt::Display) -> Self {
        self.fields.insert(field.to_owned(), value.to_string());
        self
    }
}

impl From<Cause> for wire::Cause {
    fn from(cause: Cause) -> Self {
        Self {
            reason: cause.reason.into(),
            text: cause.text,
            advice: cause.advice,
            fields: cause.fields.into_iter().collect(),
        }
    }
}

impl From<wire::Cause> for Cause {
    /// Total: a cause from a newer version is kept as it is, shortened to what a person can read.
    fn from(cause: wire::Cause) -> Self {
        Self {
            reason: Reason::from(shortened(&cause.reason)),
            text: bounded(cause.text, 4096),
            advice: bounded(cause.advice, 4096),
            fields: cause
                .fields
                .into_iter()
                .take(32)
                .map(|(k, v)| (bounded(k, 64), bounded(v, 1024)))
                .collect(),
        }
    }
}

/// Text from outside, cut to what fits an error message, with control characters made visible.
#[must_use]
pub fn shortened(text: &str) -> String {
    let mut short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    if text.chars().nth(80).is_some() {
        short.push_str("...");
    }
    short
}

/// Parses a value that a file or a row holds as text; the error says the advice too, as serde carries nothing else.
pub(crate) fn from_text<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err = Cause>,
{
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|cause: Cause| D::Error::custom(format_args!("{}: {}", cause.text, cause.advice)))
}

fn bounded(mut text: String, most: usize) -> String {
    if text.len() > most {
        let cut = (0..=most).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(cut);
    }
    text
}
