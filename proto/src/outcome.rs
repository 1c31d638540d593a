//! How an event ended.

use serde::{Deserialize, Serialize};

use crate::cause::{Cause, Reason};
use crate::spec::ImageRef;
use crate::wire::event as wire;

/// How an event ended. The coordinator's `unknown` is said by it alone, so a host cannot say it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Done, and seen to be done.
    Succeeded(Succeeded),
    /// Not done; what had been done of it is undone.
    Failed(Cause),
    /// Turned away by intake; nothing was done.
    Refused(Cause),
    /// Not begun by its deadline; nothing was done.
    Expired(Cause),
    /// Ended by a cancel or a destroy.
    Cancelled(Cause),
}

/// What a success made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Succeeded {
    /// The image that a snapshot made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<ImageRef>,
    /// What a person may want to know; empty: nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

impl Outcome {
    /// A success with nothing more to say.
    #[must_use]
    pub fn success() -> Self {
        Self::Succeeded(Succeeded::default())
    }

    /// The stage of that name: `succeeded`, `failed`, `refused`, `expired` or `cancelled`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Succeeded(_) => "succeeded",
            Self::Failed(_) => "failed",
            Self::Refused(_) => "refused",
            Self::Expired(_) => "expired",
            Self::Cancelled(_) => "cancelled",
        }
    }

    /// Why, for all but success.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        match self {
            Self::Succeeded(_) => None,
            Self::Failed(cause) | Self::Refused(cause) | Self::Expired(cause) | Self::Cancelled(cause) => {
                Some(cause)
            }
        }
    }
}

impl From<Outcome> for wire::Outcome {
    fn from(outcome: Outcome) -> Self {
        use wire::outcome::End;
        let end = match outcome {
            Outcome::Succeeded(done) => {
                End::Succeeded(wire::Succeeded { image: done.image.map(Into::into), note: done.note })
            }
            Outcome::Failed(cause) => End::Failed(cause.into()),
            Outcome::Refused(cause) => End::Refused(cause.into()),
            Outcome::Expired(cause) => End::Expired(cause.into()),
            Outcome::Cancelled(cause) => End::Cancelled(cause.into()),
        };
        Self { end: Some(end) }
    }
}

impl TryFrom<wire::Outcome> for Outcome {
    type Error = Cause;

    fn try_from(outcome: wire::Outcome) -> Result<Self, Cause> {
        use wire::outcome::End;
        Ok(match outcome.end {
            Some(End::Succeeded(done)) => Self::Succeeded(Succeeded {
                image: done.image.map(ImageRef::try_from).transpose()?,
                note: done.note,
            }),
            Some(End::Failed(cause)) => Self::Failed(cause.into()),
            Some(End::Refused(cause)) => Self::Refused(cause.into()),
            Some(End::Expired(cause)) => Self::Expired(cause.into()),
            Some(End::Cancelled(cause)) => Self::Cancelled(cause.into()),
            Some(End::Unknown(_)) | None => {
                return Err(Cause::new(Reason::Invalid, "a report has an outcome that no host may give")
                    .advise("check that agent and coordinator are of neighbouring versions"));
            }
        })
    }
}
