//! Room on the disk: how much there is, and how it is made.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use dewpoint_proto::cause::Cause;

use super::Space;
use super::failure::disk_full;
use super::files::{Files, Inner};
use super::recycle::Why;

impl Files {
    pub(super) async fn measure_space(&self) -> Result<Space, Cause> {
        self.short(|inner| {
            let (total, free) = inner.statvfs()?;
            let recycled: u64 = inner.recycled()?.iter().map(|kept| kept.frees).sum();
            let free = free.saturating_add(recycled).saturating_sub(inner.settings.reserve_bytes);
            Ok(Space { total, free: free.min(total) })
        })
        .await
    }

    /// Sees that `need` bytes can be written beyond the reserve, giving up recycled disks for it, the oldest first.
    pub(super) async fn make_room(&self, need: u64, what: &'static str) -> Result<(), Cause> {
        self.short(move |inner| inner.make_room(need, what)).await
    }
}

impl Inner {
    fn make_room(&self, need: u64, what: &str) -> Result<(), Cause> {
        loop {
            let (_, free) = self.statvfs()?;
            let reserve = self.settings.reserve_bytes;
            if need <= free.saturating_sub(reserve) {
                return Ok(());
            }
            if self.purge_oldest(Why::Room)? {
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
