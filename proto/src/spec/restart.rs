//! The restart policy of a VM.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cause::{Cause, Reason, shortened};
use crate::wire::event as wire;

/// What a VM's host does when the VM goes off by itself while it is wanted on. A boot of the host is not the VM's doing:
/// after one, every bound VM that is wanted on is started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Only events start it.
    Never,
    /// After a crash of QEMU or of the guest; a guest that powers itself off stays off.
    #[default]
    OnCrash,
    /// However it went off.
    Always,
}

impl Restart {
    /// Every policy.
    pub const ALL: [Self; 3] = [Self::Never, Self::OnCrash, Self::Always];

    /// As in files, on the command line and in tables.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::OnCrash => "on-crash",
            Self::Always => "always",
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Restart {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == text).ok_or_else(|| {
            Cause::new(Reason::Invalid, format!("`{}` is not a restart policy", shortened(text)))
                .advise("give never, on-crash or always")
        })
    }
}

impl From<wire::Restart> for Restart {
    fn from(policy: wire::Restart) -> Self {
        match policy {
            wire::Restart::OnCrash => Self::OnCrash,
            wire::Restart::Never => Self::Never,
            wire::Restart::Always => Self::Always,
        }
    }
}

impl From<Restart> for wire::Restart {
    fn from(policy: Restart) -> Self {
        match policy {
            Restart::OnCrash => Self::OnCrash,
            Restart::Never => Self::Never,
            Restart::Always => Self::Always,
        }
    }
}
