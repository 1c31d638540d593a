//! The recycle folder as a person uses it: what is in it, a copy of a disk taken out of it, disks deleted by hand.
//!
//! Taking a copy leaves the recycled disk where it is. What is in use elsewhere is never touched, and no file is replaced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::spec::{ImageDigest, VmSpec};
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::event as wire;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::libc;
use prost::Message;

use super::{Kept, Made, SPEC, Why, base_name};
use crate::storage::durable::{OWN_MODE, is_file, open};
use crate::storage::failure::{OrFailed, disk_full, failed};
use crate::storage::files::{Files, Inner};
use crate::storage::folder::read_at_most;
use crate::storage::layout::part_of;
use crate::storage::space::allocated;
use crate::storage::{DiskFormat, JobProgress};

/// A spec with the most user-data is well below this.
const MOST_SPEC: u64 = 1024 * 1024;
/// What the tables of a copy may take beside its data.
const TABLES: u64 = 16 * 1024 * 1024;

/// A disk in the recycle folder. Its id is that of the event that had made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recycled {
    /// The event that had made the disk.
    pub disk: EventId,
    /// Of which VM.
    pub vm: VmId,
    /// The event that put it there; none: a person did, or an older agent, which did not note it.
    pub by: Option<EventId>,
    /// What it rests on; none: it stands alone.
    pub image: Option<ImageDigest>,
    /// What it takes on the disk.
    pub size_bytes: u64,
    /// Since when it is there.
    pub since: Millis,
    /// When it goes by itself; earlier when the budget or a new file needs the room.
    pub until: Millis,
    /// What its VM was made of; none: that was not known, or cannot be read.
    pub spec: Option<VmSpec>,
    /// Where it is.
    pub path: PathBuf,
}

/// A copy of a recycled disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restored {
    /// What was copied; it is still where it was.
    pub from: Recycled,
    /// A qcow2 that stands alone.
    pub to: PathBuf,
}

impl Files {
    /// What is in the recycle folder, the oldest first.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    pub async fn recycled_disks(&self) -> Result<Vec<Recycled>, Cause> {
        self.short(|inner| Ok(inner.recycled()?.iter().filter_map(Kept::shown).collect())).await
    }

    /// One of them.
    ///
    /// # Errors
    /// `STORAGE_ERROR`, also when it is not there.
    pub async fn recycled_disk(&self, disk: EventId) -> Result<Recycled, Cause> {
        let all = self.recycled_disks().await?;
        all.into_iter().rfind(|kept| kept.disk == disk).ok_or_else(|| not_there(disk))
    }

    /// Job. Writes a copy of a recycled disk that stands alone, to a path anywhere on the host where nothing is yet.
    ///
    /// # Errors
    /// `DISK_FULL`, `STORAGE_ERROR`; then there is no copy.
    pub async fn restore_recycled(
        &self,
        disk: EventId,
        to: &Path,
        progress: &JobProgress,
    ) -> Result<Restored, Cause> {
        let from = self.recycled_disk(disk).await?;
        let (looked_at, target) = (from.clone(), to.to_owned());
        let size = self.short(move |inner| inner.prepare_copy(&looked_at, &target)).await?;
        let part = part_of(to);
        let copied =
            self.inner.qemu_img.convert(&from.path, DiskFormat::Qcow2, &part, (progress, size)).await;
        let (copy, target) = (part.clone(), to.to_owned());
        let named = match copied {
            Ok(()) => self.blocking(move |_| named(&copy, &target)).await,
            Err(cause) => Err(cause),
        };
        match named {
            Ok(()) => Ok(Restored { from, to: to.to_owned() }),
            Err(cause) => {
                // Made by us a moment ago, and not whole; the first error is the one to tell.
                let _ = self.blocking(move |_| Ok(std::fs::remove_file(part))).await;
                Err(cause)
            }
        }
    }

    /// Deletes recycled disks for good, with receipts; those that are gone already are passed over. Returns what it
    /// deleted.
    ///
    /// # Errors
    /// `STORAGE_ERROR`; what was deleted before is.
    pub async fn purge_recycled_disks(&self, disks: Vec<EventId>) -> Result<Vec<Recycled>, Cause> {
        self.short(move |inner| {
            let _recycling = inner.recycling();
            let mut purged = Vec::new();
            for kept in inner.recycled()?.iter().filter(|kept| disks.contains(&kept.disk)) {
                let shown = kept.shown();
                inner.purge(kept, Why::Person)?;
                purged.extend(shown);
            }
            Ok(purged)
        })
        .await
    }
}

impl Kept {
    /// None: a folder on its way in or out, without a disk or a receipt.
    fn shown(&self) -> Option<Recycled> {
        let receipt = self.receipt.as_ref().filter(|_| self.has_disk)?;
        Some(Recycled {
            disk: self.disk,
            vm: self.vm,
            by: receipt.by,
            image: receipt.image,
            size_bytes: receipt.size_bytes,
            since: receipt.retired_at,
            until: receipt.until,
            spec: spec_in(&self.path.join(SPEC)),
            path: self.path.join(Made::Disk.file_name(self.disk)),
        })
    }
}

fn spec_in(path: &Path) -> Option<VmSpec> {
    if !is_file(path).ok()? {
        return None;
    }
    let bytes = read_at_most(path, MOST_SPEC).ok()?;
    wire::VmSpec::decode(bytes.as_slice()).ok()?.try_into().ok()
}

impl Inner {
    /// Looks whether a copy can be made, and makes its empty file. Returns the disk's virtual size.
    fn prepare_copy(&self, from: &Recycled, to: &Path) -> Result<u64, Cause> {
        if std::fs::symlink_metadata(to).is_ok() {
            return Err(Cause::new(Reason::StorageError, format!("{} is there already", to.display()))
                .advise("name a path where nothing is; nothing is ever replaced"));
        }
        let mut need = allocated(&from.path).or_failed("look at the disk", &from.path)?;
        // Also refuses a disk that names a file of others.
        if let Some(base) = self.backing(&from.path)? {
            let base = from.path.with_file_name(base_name(base));
            need += allocated(&base).or_failed("look at the disk's base", &base)?;
        }
        let size = self.virtual_size(&from.path)?;
        check_room(to, need.min(size) + TABLES)?;
        let part = part_of(to);
        match make_empty(&part) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(half_made(&part)),
            made => made.or_failed("make the copy", &part).map(|()| size),
        }
    }
}

fn check_room(to: &Path, need: u64) -> Result<(), Cause> {
    let folder = to.parent().unwrap_or(Path::new("/"));
    let stat = nix::sys::statvfs::statvfs(folder)
        .map_err(|error| failed("ask for the free space there", folder, &error.into()))?;
    let free = stat.blocks_available() * stat.fragment_size();
    if need <= free {
        return Ok(());
    }
    Err(disk_full(format!("the copy may need {need} bytes, and {free} are free in {}", folder.display()))
        .advise("name a path on another file system"))
}

fn make_empty(part: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(OWN_MODE).custom_flags(libc::O_NOFOLLOW);
    options.open(part).map(drop)
}

/// The copy is synced, then takes its name, which nothing may have.
fn named(part: &Path, to: &Path) -> Result<(), Cause> {
    let naming = || -> io::Result<()> {
        open(part)?.sync_all()?;
        renameat2(AT_FDCWD, part, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)?;
        File::open(to.parent().unwrap_or(Path::new("/")))?.sync_all()
    };
    naming().or_failed("give the copy its name", to)
}

fn half_made(part: &Path) -> Cause {
    Cause::new(Reason::StorageError, format!("{} is there already", part.display()))
        .advise("a copy is being written there, or was cut off: then remove that file and try again")
}

fn not_there(disk: EventId) -> Cause {
    Cause::new(Reason::ImageNotFound, format!("the recycle folder has no disk {disk}"))
        .advise("see `dewpoint-agent recycle ls`; what was deleted for good is in recycle/receipts.log")
}
