//! The steps that plans are made of: each one side effect on the host.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One side effect on the host. What it needs beyond its name comes from the event and from what is observed, so that
/// a journaled step stays small and an old journal can always be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Job: the image into the cache.
    FetchImage,
    /// Job: the disk that bears the event's id.
    MakeDisk,
    /// The seed that bears the event's id.
    MakeSeed,
    /// Anti-spoofing rules set.
    SetShield,
    /// Persistent configuration written, mark included.
    Define,
    /// The domain pointed at the event's disk: redefined, with its mark.
    PointAtNew,
    /// The domain pointed back at the disk it had before the event.
    PointBack,
    /// Mark rewritten: generation, event, run, wanted.
    Mark,
    /// Powered on.
    Start,
    /// Guest asked to go down.
    AskShutdown,
    /// Plug pulled.
    PowerOff,
    /// Frozen file systems thawed.
    Thaw,
    /// Backup into the snapshot's file begun.
    BeginBackup,
    /// Running backup ended.
    AbortBackup,
    /// Job: the snapshot of a stopped VM written.
    CopySnapshot,
    /// The snapshot's file synced and named.
    SealSnapshot,
    /// Job: the snapshot hashed and taken into the image cache.
    AdoptSnapshot,
    /// Job: the snapshot put to the image server.
    Upload,
    /// Persistent configuration removed.
    Undefine,
    /// Anti-spoofing rules removed.
    ClearShield,
    /// Disks that are no longer in use taken away.
    RetireDisks,
    /// What the event left half made removed.
    Discard,
    /// The VM's folder removed.
    RemoveFolder,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 23] = [
        Self::FetchImage,
        Self::MakeDisk,
        Self::MakeSeed,
        Self::SetShield,
        Self::Define,
        Self::PointAtNew,
        Self::PointBack,
        Self::Mark,
        Self::Start,
        Self::AskShutdown,
        Self::PowerOff,
        Self::Thaw,
        Self::BeginBackup,
        Self::AbortBackup,
        Self::CopySnapshot,
        Self::SealSnapshot,
        Self::AdoptSnapshot,
        Self::Upload,
        Self::Undefine,
        Self::ClearShield,
        Self::RetireDisks,
        Self::Discard,
        Self::RemoveFolder,
    ];

    /// Its name in the journal, in progress and in logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FetchImage => "fetch-image",
            Self::MakeDisk => "make-disk",
            Self::MakeSeed => "make-seed",
            Self::SetShield => "set-shield",
            Self::Define => "define",
            Self::PointAtNew => "point-at-new",
            Self::PointBack => "point-back",
            Self::Mark => "mark",
            Self::Start => "start",
            Self::AskShutdown => "ask-shutdown",
            Self::PowerOff => "power-off",
            Self::Thaw => "thaw",
            Self::BeginBackup => "begin-backup",
            Self::AbortBackup => "abort-backup",
            Self::CopySnapshot => "copy-snapshot",
            Self::SealSnapshot => "seal-snapshot",
            Self::AdoptSnapshot => "adopt-snapshot",
            Self::Upload => "upload",
            Self::Undefine => "undefine",
            Self::ClearShield => "clear-shield",
            Self::RetireDisks => "retire-disks",
            Self::Discard => "discard",
            Self::RemoveFolder => "remove-folder",
        }
    }

    /// The step of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|step| step.as_str() == name)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
