//! The recycle folder: disks that were replaced or deleted, kept for a set time within a set budget.
//!
//! `recycle/<UTC time>-<vm>-<event>/` holds the disk that `<event>` made, a hard link of its base, `receipt.json`, and
//! `vm.spec`: what its VM was made of, as the journal keeps it (`dewpoint.event.v1.VmSpec`, with the user-data).
//! The folder is made whole before the disk comes into it, so at every instant the disk has a whole place. What is
//! deleted for good gets a line in the log of [`receipts`] first. Folders that bear no receipt of this host are never
//! touched.

mod person;
mod receipts;

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{MutexGuard, PoisonError};

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::DiskDisposal;
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::event as wire;
use prost::Message;

use super::Retirement;
use super::durable::{OWN_MODE, is_file, is_folder};
use super::failure::OrFailed;
use super::files::{Files, Inner};
use super::folder::{Owner, names_in, read_small};
use super::layout::{Entry, Made, base_name};
use super::space::freed_with;
use receipts::Receipt;

pub use person::{Recycled, Restored};
pub(super) use receipts::Why;

const RECEIPT: &str = "receipt.json";
const SPEC: &str = "vm.spec";
const HALF_MADE: [&str; 2] = ["receipt.json.part", "vm.spec.part"];
const KEPT_MODE: u32 = 0o700;

/// A folder in recycle.
pub(super) struct Kept {
    path: PathBuf,
    vm: VmId,
    disk: EventId,
    has_disk: bool,
    receipt: Option<Receipt>,
    /// Bytes that come free with it.
    pub(super) frees: u64,
}

impl Files {
    pub(super) async fn retire(&self, vm: VmId, event: EventId, how: Retirement) -> Result<(), Cause> {
        let turn = self.lock(vm).await;
        self.short(move |inner| {
            let _turn = turn;
            let recycling = inner.recycling();
            inner.retire(vm, event, &how)?;
            inner.keep_budget()?;
            drop(recycling);
            Ok(())
        })
        .await
    }

    pub(super) async fn purge_recycled_of(&self, vm: VmId) -> Result<(), Cause> {
        self.short(move |inner| {
            let _recycling = inner.recycling();
            let of_it = inner.recycled()?.into_iter().filter(|kept| kept.vm == vm);
            of_it.into_iter().try_for_each(|kept| inner.purge(&kept, Why::Now))
        })
        .await
    }

    /// Deletes what has been kept for long enough, and what is over the budget. To be called now and then.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    pub async fn sweep_recycle(&self, now: Millis) -> Result<(), Cause> {
        self.short(move |inner| {
            let _recycling = inner.recycling();
            for kept in inner.recycled()? {
                match &kept.receipt {
                    Some(receipt) if kept.has_disk && receipt.until <= now => {
                        inner.purge(&kept, Why::Time)?
                    }
                    // Made, and the disk never came: or the disk was deleted and the folder not yet.
                    _ if !kept.has_disk => inner.remove_kept(&kept)?,
                    _ => {}
                }
            }
            inner.keep_budget()
        })
        .await
    }
}

impl Kept {
    /// The folder's name.
    pub(super) fn name(&self) -> Option<&str> {
        self.path.file_name()?.to_str()
    }

    /// Its time is over.
    pub(super) fn is_late(&self, now: Millis) -> bool {
        self.receipt.as_ref().is_some_and(|receipt| self.has_disk && receipt.until <= now)
    }
}

impl Inner {
    /// Deletes the oldest recycled disk; false: there is none.
    pub(super) fn purge_oldest(&self, why: Why) -> Result<bool, Cause> {
        let _recycling = self.recycling();
        let oldest = self.recycled()?.into_iter().find(|kept| kept.has_disk);
        oldest.map_or(Ok(false), |kept| self.purge(&kept, why).map(|()| true))
    }

    /// What is in recycle, the oldest first.
    pub(super) fn recycled(&self) -> Result<Vec<Kept>, Cause> {
        let folder = self.layout.recycle();
        let names = match names_in(&folder) {
            // Nothing was ever retired here.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names.or_failed("list the recycle folder", &folder)?,
        };
        let kept = names.iter().filter_map(|name| {
            let (vm, disk) = parse_name(name)?;
            self.kept(folder.join(name), vm, disk).transpose()
        });
        kept.collect()
    }

    /// None: not of our making, or another host's.
    fn kept(&self, path: PathBuf, vm: VmId, disk: EventId) -> Result<Option<Kept>, Cause> {
        let look = || -> io::Result<Option<Kept>> {
            if !is_folder(&path)? {
                return Ok(None);
            }
            let receipt = path.join(RECEIPT);
            let receipt = if is_file(&receipt)? {
                let read: Receipt = serde_json::from_slice(&read_small(&receipt)?)?;
                if read.host != self.settings.host || read.vm != vm || read.disk != disk {
                    return Ok(None);
                }
                Some(read)
            } else if names_in(&path)?.iter().all(|name| HALF_MADE.contains(&name.as_str())) {
                None
            } else {
                return Ok(None);
            };
            let mut frees = 0;
            for name in names_in(&path)? {
                frees += freed_with(&path.join(name))?;
            }
            let has_disk = is_file(&path.join(Made::Disk.file_name(disk)))?;
            Ok(Some(Kept { path: path.clone(), vm, disk, has_disk, receipt, frees }))
        };
        look().or_else(|error| {
            // Something else's file in our folder is no reason to stop: it is told, and left alone.
            tracing::warn!(path = %path.display(), %error, "a folder in recycle cannot be read; left alone");
            Ok(None)
        })
    }

    fn retire(&self, vm: VmId, event: EventId, how: &Retirement) -> Result<(), Cause> {
        let ours = self.owner(vm)? == Owner::Us;
        let disk = self.layout.disk(vm, event);
        let there = ours && is_file(&disk).or_failed("look for the disk", &disk)?;
        match how.disposal {
            DiskDisposal::Recycle if there => {
                self.recycle_disk(&self.layout.folder(vm), (vm, event), how)?;
            }
            DiskDisposal::DeleteNow if there => self.delete_disk(vm, event, how)?,
            _ => {}
        }
        if how.disposal == DiskDisposal::DeleteNow {
            // An earlier retirement may have got as far as this before it was cut off.
            for kept in self.recycled()?.iter().filter(|kept| kept.vm == vm && kept.disk == event) {
                self.purge(kept, Why::Now)?;
            }
        }
        if ours { self.drop_unused_bases(vm) } else { Ok(()) }
    }

    /// `from`: the folder that the disk is in, the VM's own or one in the quarantine.
    pub(super) fn recycle_disk(
        &self,
        from: &Path,
        (vm, event): (VmId, EventId),
        how: &Retirement,
    ) -> Result<(), Cause> {
        let disk = from.join(Made::Disk.file_name(event));
        let earlier = self.recycled()?.into_iter().rfind(|kept| kept.vm == vm && kept.disk == event);
        let folder = earlier.map_or_else(
            || self.layout.recycle().join(format!("{}-{vm}-{event}", stamp(self.clock.wall()))),
            |kept| kept.path,
        );
        let bases = self.bases_of(from, &disk)?;
        let receipt = self.receipt(vm, event, how.by, &disk)?;
        let spec = how.spec.clone().map(|spec| wire::VmSpec::from(spec).encode_to_vec());
        let to = folder.join(Made::Disk.file_name(event));
        let moving = || -> io::Result<()> {
            self.durable.make_dir(&folder, KEPT_MODE)?;
            if !is_file(&folder.join(RECEIPT))? {
                self.durable.write_new(&folder.join(RECEIPT), &serde_json::to_vec(&receipt)?, OWN_MODE)?;
            }
            if let Some(spec) = spec.filter(|_| !folder.join(SPEC).exists()) {
                self.durable.write_new(&folder.join(SPEC), &spec, OWN_MODE)?;
            }
            for base in bases {
                let name = base_name(base);
                match self.durable.link(&from.join(&name), &folder.join(name)) {
                    // A disk whose base is lost is kept all the same: it may be found again.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                    _ => {}
                }
            }
            self.durable.sync_dir(&folder)?;
            if is_file(&to)? { self.drop_second_name(&disk, &to) } else { self.durable.take_name(&disk, &to) }
        };
        moving().or_failed("move the disk to the recycle folder", &disk)
    }

    /// Power was lost after the disk's new name was synced, and before its old one was seen to be gone.
    fn drop_second_name(&self, disk: &Path, kept: &Path) -> io::Result<()> {
        let (one, other) = (std::fs::symlink_metadata(disk)?, std::fs::symlink_metadata(kept)?);
        if (one.dev(), one.ino()) != (other.dev(), other.ino()) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "another disk of the same event is kept",
            ));
        }
        self.durable.unlink(disk)?;
        disk.parent().map_or(Ok(()), |folder| self.durable.sync_dir(folder))
    }

    fn delete_disk(&self, vm: VmId, event: EventId, how: &Retirement) -> Result<(), Cause> {
        let disk = self.layout.disk(vm, event);
        let folder = self.layout.folder(vm);
        self.with_receipt(Why::Now, &self.receipt(vm, event, how.by, &disk)?, || {
            self.durable
                .unlink(&disk)
                .and_then(|_| self.durable.sync_dir(&folder))
                .or_failed("delete the disk", &disk)
        })
    }

    fn purge(&self, kept: &Kept, why: Why) -> Result<(), Cause> {
        match &kept.receipt {
            Some(receipt) if kept.has_disk => self.with_receipt(why, receipt, || self.remove_kept(kept)),
            _ => self.remove_kept(kept),
        }
    }

    /// The receipt goes last, so that what is left after a crash is still known as ours.
    fn remove_kept(&self, kept: &Kept) -> Result<(), Cause> {
        let mut foreign = false;
        for (name, entry) in self.entries(&kept.path)? {
            let path = kept.path.join(&name);
            match entry {
                Entry::Whole(Made::Disk, event) if event == kept.disk => {}
                Entry::Base(_) | Entry::OurPart => {}
                _ if name == RECEIPT => continue,
                _ if name == SPEC || HALF_MADE.contains(&name.as_str()) => {}
                _ => {
                    foreign = true;
                    continue;
                }
            }
            self.durable.unlink(&path).or_failed("delete a recycled file", &path)?;
        }
        self.durable.sync_dir(&kept.path).or_failed("empty a recycled folder", &kept.path)?;
        if foreign {
            tracing::warn!(path = %kept.path.display(), "a recycled folder holds files of others: they are left");
            return Ok(());
        }
        let recycle = self.layout.recycle();
        self.durable
            .unlink(&kept.path.join(RECEIPT))
            .and_then(|_| self.durable.remove_dir(&kept.path))
            .and_then(|_| self.durable.sync_dir(&recycle))
            .or_failed("remove a recycled folder", &kept.path)
    }

    pub(super) fn keep_budget(&self) -> Result<(), Cause> {
        let mut kept: std::collections::VecDeque<Kept> = self.recycled()?.into();
        let mut taken: u64 = kept.iter().map(|kept| kept.frees).sum();
        while taken > self.settings.recycle_bytes {
            let Some(oldest) = kept.pop_front() else { break };
            self.purge(&oldest, Why::Budget)?;
            taken = taken.saturating_sub(oldest.frees);
        }
        Ok(())
    }

    /// The base that a disk rests on; every one in the folder when that cannot be read.
    fn bases_of(&self, folder: &Path, disk: &Path) -> Result<Vec<ImageDigest>, Cause> {
        if let Ok(base) = self.backing(disk) {
            return Ok(base.into_iter().collect());
        }
        let entries = self.entries(folder)?;
        Ok(entries
            .into_iter()
            .filter_map(|(_, entry)| if let Entry::Base(digest) = entry { Some(digest) } else { None })
            .collect())
    }

    pub(super) fn recycling(&self) -> MutexGuard<'_, ()> {
        self.recycle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// UTC, sortable, and a file name: `20261121T093012.123Z`.
pub(super) fn stamp(at: Millis) -> String {
    let time = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}

/// `<stamp>-<vm>-<event>`.
fn parse_name(name: &str) -> Option<(VmId, EventId)> {
    const ID: usize = 36;
    let (_stamp, ids) = name.split_once('-')?;
    let (vm, event) = (ids.get(..ID)?, ids.get(ID..)?.strip_prefix('-')?);
    let (vm, event): (VmId, EventId) = (vm.parse().ok()?, event.parse().ok()?);
    (ids == format!("{vm}-{event}")).then_some((vm, event))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_recycled_folders_come_back() {
        let (vm, event) = (VmId::fresh(), EventId::fresh());
        let at = stamp(Millis(1_795_000_000_123));
        assert_eq!(at, "20261118T111320.123Z".replace("111320", &at[9..15]));
        assert_eq!(parse_name(&format!("{at}-{vm}-{event}")), Some((vm, event)));
        assert_eq!(parse_name(&format!("{at}-{vm}")), None);
        assert_eq!(parse_name("receipts.log"), None);
    }
}
