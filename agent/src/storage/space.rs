//! Room on the disk: how much there is, and how it is made.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use dewpoint_proto::cause::Cause;

use super::Space;
use super::durable::is_folder;
use super::failure::{OrFailed, disk_full};
use super::files::{Files, Inner};
use super::recycle::Why;

/// Which file system is written to: the images may be on one of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// VMs' folders, recycle, and the journal.
    Disks,
    /// The image cache.
    Images,
}

impl Files {
    pub(super) async fn measure_space(&self) -> Result<Space, Cause> {
        self.short(|inner| {
            let vms = inner.layout.vms();
            // An agent that only observes makes no folders.
            let is_ours = is_folder(&vms).or_failed("look at a folder", &vms)?;
            let (total, free) = inner.statvfs(if is_ours { &vms } else { &inner.layout.root })?;
            let spare = if is_ours { inner.spare()? } else { 0 };
            let free = free.saturating_add(spare).saturating_sub(inner.settings.reserve_bytes);
            Ok(Space { total, free: free.min(total) })
        })
        .await
    }

    /// Sees that `need` bytes can be written beyond the reserve. Images that nobody uses go for it, which can be
    /// fetched again; then recycled disks, the oldest first.
    pub(super) async fn make_room(&self, place: Place, need: u64, what: &'static str) -> Result<(), Cause> {
        self.short(move |inner| inner.make_room(place, need, what)).await
    }
}

impl Inner {
    /// Bytes on the disks' file system that may be given up.
    fn spare(&self) -> Result<u64, Cause> {
        let recycled: u64 = self.recycled()?.iter().map(|kept| kept.frees).sum();
        if !self.images_beside_disks()? {
            return Ok(recycled);
        }
        Ok(recycled + self.spare_images()?.iter().map(|image| image.frees).sum::<u64>())
    }

    fn make_room(&self, place: Place, need: u64, what: &str) -> Result<(), Cause> {
        let folder = match place {
            Place::Disks => self.layout.vms(),
            Place::Images => self.layout.images(),
        };
        loop {
            let (_, free) = self.statvfs(&folder)?;
            let reserve = self.settings.reserve_bytes;
            if need <= free.saturating_sub(reserve) {
                return Ok(());
            }
            if self.give_up_something(place)? {
                continue;
            }
            return Err(disk_full(format!(
                "{what} needs {need} bytes; {free} are free, of which {reserve} are kept in reserve"
            ))
            .with("need_bytes", need)
            .with("free_bytes", free)
            .with("reserve_bytes", reserve));
        }
    }

    /// Deletes one thing that takes room there; false: there is nothing that may go.
    fn give_up_something(&self, place: Place) -> Result<bool, Cause> {
        let one_disk = self.images_beside_disks()?;
        if (one_disk || place == Place::Images) && self.evict_oldest(Why::Room)? {
            return Ok(true);
        }
        if one_disk || place == Place::Disks { self.purge_oldest(Why::Room) } else { Ok(false) }
    }

    /// Whether images and disks share a file system: then what the one gives up is room for the other.
    pub(super) fn images_beside_disks(&self) -> Result<bool, Cause> {
        let device = |folder: &Path| {
            fs::metadata(folder).map(|found| found.dev()).or_failed("look at a folder", folder)
        };
        Ok(device(&self.layout.images())? == device(&self.layout.vms())?)
    }
}

/// Bytes that a file takes on the disk.
pub(super) fn allocated(path: &Path) -> io::Result<u64> {
    Ok(fs::symlink_metadata(path)?.blocks() * 512)
}

/// Bytes that would come free with this name.
pub(super) fn freed_with(path: &Path) -> io::Result<u64> {
    let found = fs::symlink_metadata(path)?;
    Ok(if found.nlink() == 1 { found.blocks() * 512 } else { 0 })
}
