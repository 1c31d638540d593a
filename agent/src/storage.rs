//! Images, disks, seeds, snapshots and the recycle folder. Real in nearly all tests.
//!
//! Layout below the data folder:
//!
//! ```text
//! images/<sha256>                    verified, read-only, never changed after
//! images/<sha256>.part               half fetched; kept for a day after the last byte
//! vms/<vm>/vm.json                   our mark on the folder: the VM's id and the host's; and what the VM is made of
//! vms/<vm>/<sha256>.base             hard link to the image that an overlay rests on
//! vms/<vm>/<event>.qcow2             the disk that <event> made
//! vms/<vm>/<event>.seed              the NoCloud seed that <event> made
//! vms/<vm>/<event>.snapshot          the image that <event> is making, then made
//! vms/<vm>/console.log               written by libvirt's log daemon
//! recycle/<time>-<vm>-<event>/       a disk that was replaced or deleted, with its base, a receipt, and what its VM
//!                                    was made of
//! recycle/receipts.log               a line for each disk or image deleted for good; the one before is `receipts.log.1`
//! quarantine/<time>-<vm>/            what bears our mark and nothing explains, for a person to look at; never purged
//! mended.log                         a line for each repair that a person had made
//! ```
//!
//! All of it is on one file system, but for `images`, which may be on another: bases are then copies.
//!
//! Whatever an event makes bears its id, is made under a name ending in `.part`, synced, and then takes its name: a
//! file under its final name is whole. Nothing is renamed over another file.

mod budget;
mod cache;
mod copy;
mod disk;
mod durable;
mod failure;
#[cfg(any(test, feature = "faults"))]
pub mod fake;
#[cfg(any(test, feature = "faults"))]
pub mod fault;
mod fetch;
mod files;
mod folder;
mod inspect;
mod layout;
mod locks;
mod made_of;
mod overlay;
mod part;
mod qemu_img;
mod quarantine;
mod recycle;
mod seed;
mod snapshot;
mod space;
pub mod survey;
mod sweep;
#[cfg(test)]
mod tests;
mod trouble;
mod upload;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::DiskDisposal;
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::spec::{DiskMode, ImageDigest, ImageRef, VmSpec};

pub(crate) use self::files::SHORT;
pub use self::files::{Files, Settings};
pub use self::made_of::{Described, Told};
pub use self::quarantine::Quarantined;
pub use self::recycle::{Recycled, Restored};
pub use self::snapshot::describe_image;
pub use crate::hypervisor::{BackingFile, DiskFormat, Seen};

/// What is on disk for one VM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VmFiles {
    /// Whole disks, by the event that made them, each with its backing image (none: it stands alone).
    pub disks: BTreeMap<EventId, Option<ImageDigest>>,
    /// Whole seeds, by the event that made them.
    pub seeds: BTreeSet<EventId>,
    /// Images that snapshots are making or made.
    pub snapshots: BTreeMap<EventId, SnapshotFile>,
    /// Files that are half made (`.part`), by the event that was making them; and anything else in the folder.
    pub leftovers: BTreeSet<String>,
}

/// How far a snapshot's file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotFile {
    /// Being written, or left half written.
    Partial,
    /// Whole and synced.
    Sealed,
}

/// How much of a job is done, in bytes; shared with whoever shows it.
#[derive(Clone, Debug, Default)]
pub struct JobProgress(Arc<(AtomicU64, AtomicU64)>);

impl JobProgress {
    /// Says how far the job is.
    pub fn set(&self, done: u64, total: u64) {
        self.0.0.store(done, Ordering::Relaxed);
        self.0.1.store(total, Ordering::Relaxed);
    }

    /// Bytes done, bytes in all; 0 of 0: not known.
    #[must_use]
    pub fn get(&self) -> (u64, u64) {
        (self.0.0.load(Ordering::Relaxed), self.0.1.load(Ordering::Relaxed))
    }
}

/// Where images are fetched from and put to: scheme, host and port of the coordinator's image server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageServer(pub String);

/// The files of one disk, for defining a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskPaths {
    /// The qcow2 itself.
    pub disk: PathBuf,
    /// Its backing files, the nearest first.
    pub backing: Vec<BackingFile>,
}

/// The host's files. Calls are short; jobs take a [`JobProgress`], resume where they can, and end early when their
/// future is dropped, leaving at most a `.part`.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// What is there for a VM. `Absent`: it has no folder.
    async fn observe(&self, vm: VmId) -> Seen<VmFiles>;

    /// Every VM that has a folder.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    async fn list(&self) -> Result<BTreeSet<VmId>, Cause>;

    /// An image of the cache: there only when whole and verified.
    async fn image(&self, digest: ImageDigest) -> Seen<()>;

    /// Job. Brings an image into the cache: resumes a broken download, verifies the digest while fetching, then
    /// refuses what is not a plain qcow2 or raw image, or names a backing or data file. Two VMs that want the same
    /// image share one download.
    ///
    /// # Errors
    /// `IMAGE_UNAVAILABLE`, `DIGEST_MISMATCH`, `IMAGE_REFUSED`, `DISK_FULL`, `STORAGE_ERROR`.
    async fn fetch_image(
        &self,
        image: &ImageRef,
        from: Option<&ImageServer>,
        progress: &JobProgress,
    ) -> Result<(), Cause>;

    /// Job. Makes the VM's folder and a disk that bears the event's id, from an image of the cache.
    ///
    /// # Errors
    /// `DISK_FULL`, `IMAGE_REFUSED`, `STORAGE_ERROR`.
    async fn make_disk(&self, disk: &NewDisk, progress: &JobProgress) -> Result<(), Cause>;

    /// Makes the NoCloud seed that bears the event's id.
    ///
    /// # Errors
    /// `DISK_FULL`, `STORAGE_ERROR`.
    async fn make_seed(&self, vm: VmId, event: EventId, spec: &VmSpec) -> Result<(), Cause>;

    /// What a VM is made of, as far as its folder tells: for a host whose journal does not know.
    ///
    /// # Errors
    /// `STORAGE_ERROR`, also when the folder, its seed or its disk is not ours.
    async fn describe(&self, vm: VmId, disk: EventId, seed: EventId) -> Result<Described, Cause>;

    /// The paths of a disk that is there.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    async fn disk_paths(&self, vm: VmId, event: EventId) -> Result<DiskPaths, Cause>;

    /// The path of a seed, there or not.
    fn seed_path(&self, vm: VmId, event: EventId) -> PathBuf;

    /// The path of the VM's console log.
    fn console_path(&self, vm: VmId) -> PathBuf;

    /// Takes away a disk, with the base that nothing else of the VM rests on: into the recycle folder with a
    /// receipt, or at once. Repeatable.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    async fn retire_disk(&self, vm: VmId, disk: EventId, how: &Retirement) -> Result<(), Cause>;

    /// Deletes at once, with receipts, what earlier events put into the recycle folder for this VM. Repeatable.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    async fn purge_recycled(&self, vm: VmId) -> Result<(), Cause>;

    /// Removes what a failed or cancelled event left (`.part` files, its seed, its snapshot). Repeatable.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    async fn discard(&self, vm: VmId, event: EventId) -> Result<(), Cause>;

    /// Removes the VM's folder, which has no disks left: seeds, console log, leftovers. Repeatable.
    ///
    /// # Errors
    /// `STORAGE_ERROR`, also when a disk is still there.
    async fn remove_folder(&self, vm: VmId) -> Result<(), Cause>;

    /// Makes the empty file that a backup writes into, in place of any earlier one of the same event.
    ///
    /// # Errors
    /// `DISK_FULL`, `STORAGE_ERROR`.
    async fn make_backup_target(&self, vm: VmId, event: EventId, disk: EventId) -> Result<PathBuf, Cause>;

    /// Job. Writes the snapshot of a stopped VM's disk.
    ///
    /// # Errors
    /// `DISK_FULL`, `STORAGE_ERROR`.
    async fn copy_snapshot(
        &self,
        vm: VmId,
        event: EventId,
        disk: EventId,
        progress: &JobProgress,
    ) -> Result<(), Cause>;

    /// Syncs a snapshot's file and gives it its final name. Repeatable.
    ///
    /// # Errors
    /// `IMAGE_REFUSED` when it is not whole, `STORAGE_ERROR`.
    async fn seal_snapshot(&self, vm: VmId, event: EventId) -> Result<(), Cause>;

    /// Job. Hashes a sealed snapshot and takes it into the image cache. Repeatable.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    async fn adopt_snapshot(
        &self,
        vm: VmId,
        event: EventId,
        progress: &JobProgress,
    ) -> Result<ImageRef, Cause>;

    /// Whether the image server has an image whole.
    async fn uploaded(&self, digest: ImageDigest, to: &ImageServer) -> Seen<()>;

    /// Job. Puts an image of the cache to the image server; resumes.
    ///
    /// # Errors
    /// `IMAGE_UNAVAILABLE`, `STORAGE_ERROR`.
    async fn upload(&self, image: &ImageRef, to: &ImageServer, progress: &JobProgress) -> Result<(), Cause>;

    /// Size and free bytes of the file system with the disks; what recycle could give back counts as free, and so do
    /// images there that nobody uses.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    async fn space(&self) -> Result<Space, Cause>;

    /// What is wrong with the host's file systems as a whole; empty: all is well.
    async fn degraded(&self) -> Vec<Cause> {
        Vec::new()
    }
}

/// A disk to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewDisk {
    /// For which VM.
    pub vm: VmId,
    /// The event that makes it.
    pub event: EventId,
    /// What it begins as; in the cache.
    pub image: ImageDigest,
    /// Overlay or full copy.
    pub mode: DiskMode,
    /// Its virtual size.
    pub size_bytes: u64,
    /// For the mark on the VM's folder, when that is made; none: not known.
    pub made_of: Option<Arc<VmSpec>>,
}

/// How a disk is taken away, and what is to be known of it afterwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retirement {
    /// Into the recycle folder, or at once.
    pub disposal: DiskDisposal,
    /// The event that takes it away; none: a person does, on the spot.
    pub by: Option<EventId>,
    /// What its VM is made of, so that it can be built again from the disk; none: not known here.
    pub spec: Option<VmSpec>,
}

/// Size and free bytes of a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// In all.
    pub total: u64,
    /// Free to an unprivileged writer, with what recycle and unused images could give back, less the host's reserve.
    pub free: u64,
}
