//! What is wrong with the data folder's file systems, for the heartbeat: told before an event meets it.

use std::path::Path;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::limits::MIB;
use nix::sys::statvfs::{FsFlags, statvfs};

use super::failure::{READ_ONLY, disk_full, failed};
use super::files::{Files, Inner};

impl Files {
    /// What is wrong with the host's file systems as a whole; empty: all is well.
    pub(super) async fn trouble(&self) -> Vec<Cause> {
        self.short(|inner| Ok(inner.trouble())).await.unwrap_or_else(|cause| vec![cause])
    }
}

impl Inner {
    fn trouble(&self) -> Vec<Cause> {
        // Both are one file system on most hosts: one cause is enough then.
        let mut found: Vec<Cause> = Vec::new();
        for folder in [self.layout.vms(), self.layout.images()] {
            if let Some(cause) = trouble_of(&folder)
                && !found.iter().any(|known| known.text == cause.text)
            {
                found.push(cause);
            }
        }
        found
    }
}

/// Less than an empty overlay takes: guests pause at their next write, and the journal is next.
const FULL: u64 = 4 * MIB;

/// A folder that is missing is an agent's that only observes.
fn trouble_of(folder: &Path) -> Option<Cause> {
    match statvfs(folder) {
        Ok(found) if found.flags().contains(FsFlags::ST_RDONLY) => {
            let text = "the file system of the data folder is mounted read-only";
            Some(Cause::new(Reason::StorageError, text).advise(READ_ONLY))
        }
        // One without blocks does not count them.
        Ok(found) if found.blocks() > 0 && found.blocks_available() * found.fragment_size() < FULL => {
            Some(disk_full("the file system of the data folder is full".to_owned()))
        }
        Ok(_) | Err(nix::errno::Errno::ENOENT) => None,
        Err(error) => Some(failed("look at the data folder", folder, &error.into())),
    }
}
