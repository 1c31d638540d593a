//! One request to change one VM on one host.

mod convert;

use std::fmt;
use std::sync::Arc;

use prost::Message;
use prost::bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::cause::{Cause, Reason};
use crate::ids::{EventId, VmId};
use crate::limits;
use crate::names::ImageName;
use crate::spec::{ImageRef, VmSpec};
use crate::time::Millis;
use crate::wire::event as wire;

/// One request to change one VM on one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The caller's idempotency key, or made by the coordinator.
    pub id: EventId,
    /// The VM it changes.
    pub vm: VmId,
    /// When it was accepted from its caller, by that side's clock.
    pub accepted_at: Millis,
    /// Not begun by then: expires.
    pub not_after: Option<Millis>,
    /// The event that this one tries again.
    pub retry_of: Option<EventId>,
    /// Why, in the caller's words.
    pub note: String,
    /// What is asked.
    pub kind: Kind,
}

/// What an event asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Build a VM.
    Create(Box<Create>),
    /// Power it on.
    Start,
    /// Ask the guest to go down.
    Stop(Stop),
    /// Power it off and on, asking the guest first or not.
    Reboot(Reboot),
    /// Make a self-contained image of its disk.
    Snapshot(Snapshot),
    /// Give it a new disk from an image.
    Restore(Restore),
    /// Remove it with its disks.
    Destroy(Destroy),
    /// End another event of the same VM, undoing what it did.
    Cancel(Cancel),
}

/// Build a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// What it is made of.
    pub spec: VmSpec,
    /// What its disk begins as.
    pub source: ImageRef,
    /// Powered on when built, or left off.
    pub power: InitialPower,
}

/// Whether a VM is powered on when built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitialPower {
    /// Powered on.
    On,
    /// Left off.
    Off,
}

/// Ask the guest to go down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// What when the guest has not gone by the timeout.
    pub stubborn: Stubborn,
    /// Seconds the guest is given; none: the host's default.
    pub timeout_seconds: Option<u32>,
}

/// What to do with a guest that has not gone down by the timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stubborn {
    /// The event fails, the VM runs on.
    Leave,
    /// Power off.
    Force,
}

/// Power a VM off and on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reboot {
    /// Whether the guest is asked.
    pub manner: RebootManner,
    /// Seconds the guest is given to go down; none: the host's default.
    pub timeout_seconds: Option<u32>,
}

/// Whether the guest is asked before a reboot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebootManner {
    /// The guest is asked to go down; if it does not, the event fails and the VM runs on.
    Soft,
    /// Power cycle.
    Hard,
}

/// Make a self-contained image of a VM's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The tag that the catalogue gives it.
    pub image_name: Option<ImageName>,
}

/// Give a VM a new disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// What the new disk begins as.
    pub source: ImageRef,
}

/// Remove a VM with its disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destroy {
    /// What becomes of its disks.
    pub disks: DiskDisposal,
}

/// What becomes of a destroyed VM's disks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskDisposal {
    /// Kept in the recycle folder for a while.
    Recycle,
    /// Deleted at once.
    DeleteNow,
}

/// End another event of the same VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cancel {
    /// The event to end.
    pub target: EventId,
}

/// The name of an event's kind, as shown and stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KindName {
    /// Build a VM.
    Create,
    /// Power it on.
    Start,
    /// Power it off.
    Stop,
    /// Off and on.
    Reboot,
    /// Make an image.
    Snapshot,
    /// A new disk.
    Restore,
    /// Remove it.
    Destroy,
    /// End another event.
    Cancel,
}

impl KindName {
    /// Every kind, in the design's order.
    pub const ALL: [Self; 8] = [
        Self::Create,
        Self::Start,
        Self::Stop,
        Self::Reboot,
        Self::Snapshot,
        Self::Restore,
        Self::Destroy,
        Self::Cancel,
    ];

    /// Lower-case, as in tables and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Reboot => "reboot",
            Self::Snapshot => "snapshot",
            Self::Restore => "restore",
            Self::Destroy => "destroy",
            Self::Cancel => "cancel",
        }
    }

    /// The kind of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

impl fmt::Display for KindName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Kind {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> KindName {
        match self {
            Self::Create(_) => KindName::Create,
            Self::Start => KindName::Start,
            Self::Stop(_) => KindName::Stop,
            Self::Reboot(_) => KindName::Reboot,
            Self::Snapshot(_) => KindName::Snapshot,
            Self::Restore(_) => KindName::Restore,
            Self::Destroy(_) => KindName::Destroy,
            Self::Cancel(_) => KindName::Cancel,
        }
    }

    /// Whether it may come while another event of its VM is unfinished.
    #[must_use]
    pub fn supersedes(&self) -> bool {
        matches!(self, Self::Destroy(_) | Self::Cancel(_))
    }
}

/// SHA-256 of an event's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BodyDigest(pub [u8; 32]);

/// An event with its bytes as accepted: those are stored, delivered and hashed, and never encoded again.
/// Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    event: Arc<Event>,
    bytes: Bytes,
    digest: BodyDigest,
}

impl Body {
    /// Encodes an event: once in its life, by whoever accepts it.
    ///
    /// # Errors
    /// `TOO_LARGE` beyond [`limits::EVENT_BYTES`].
    pub fn encode(event: Event) -> Result<Self, Cause> {
        let bytes = Bytes::from(wire::Event::from(event.clone()).encode_to_vec());
        check_size(bytes.len())?;
        Ok(Self::of(event, bytes))
    }

    /// Parses bytes from the wire or a database, checking every bound.
    ///
    /// # Errors
    /// `TOO_LARGE`, `UNKNOWN_KIND`, or `INVALID` naming the field.
    pub fn decode(bytes: Bytes) -> Result<Self, Cause> {
        check_size(bytes.len())?;
        let message = wire::Event::decode(bytes.clone()).map_err(|error| {
            Cause::new(Reason::Invalid, format!("an event's bytes cannot be read: {error}"))
                .advise("check that both sides are of neighbouring versions")
        })?;
        Ok(Self::of(Event::try_from(message)?, bytes))
    }

    fn of(event: Event, bytes: Bytes) -> Self {
        let digest = BodyDigest(Sha256::digest(&bytes).into());
        Self { event: Arc::new(event), bytes, digest }
    }

    /// The parsed event.
    #[must_use]
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// The bytes as accepted.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Their SHA-256.
    #[must_use]
    pub fn digest(&self) -> BodyDigest {
        self.digest
    }
}

fn check_size(found: usize) -> Result<(), Cause> {
    if found <= limits::EVENT_BYTES {
        return Ok(());
    }
    Err(Cause::new(Reason::TooLarge, format!("the event has {found} bytes")).advise(format!(
        "an event has at most {} bytes: shorten user-data, keys or labels",
        limits::EVENT_BYTES
    )))
}

#[cfg(test)]
mod tests;
