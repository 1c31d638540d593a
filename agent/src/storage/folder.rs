//! A VM's folder: our mark on it, what is in it, and how it goes.
//!
//! A folder bears `vm.json` from the moment that anything is put into it; an empty one is nobody's, and may be taken.
//! A folder with another host's mark, or with content and no mark, is never touched.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use dewpoint_common::image::qcow2::{Header, Unreadable};
use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{EventId, HostId, VmId};
use dewpoint_proto::spec::ImageDigest;
use serde::{Deserialize, Serialize};

use super::durable::{READ_MODE, VM_FOLDER_MODE, is_file, is_folder, open};
use super::failure::{OrFailed, not_ours};
use super::files::{Files, Inner};
use super::layout::{Entry, MARK, Made, base_of, vm_of};
use super::made_of::{self, MadeOf};
use super::{Seen, SnapshotFile, VmFiles};

/// Names in one folder that we look at; more are not of our making.
const MOST_ENTRIES: usize = 10_000;

/// No mark is longer, in bytes.
pub(super) const MOST_MARK: usize = 64 * 1024;

/// `vm.json`, as far as it says whose the folder is.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FolderMark {
    vm: VmId,
    host: HostId,
}

/// Whose a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// There is none.
    NoFolder,
    /// Empty, or with half a mark.
    Nobody,
    /// It bears our mark.
    Us,
}

/// What a folder's mark says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Marked {
    /// There is no folder.
    NoFolder,
    /// Empty, or with half a mark.
    Nobody,
    /// It is ours.
    Us,
    /// It is another host's.
    Host(HostId),
}

impl Files {
    pub(super) async fn see(&self, vm: VmId) -> Seen<VmFiles> {
        match self.short(move |inner| inner.see(vm)).await {
            Ok(Some(files)) => Seen::There(files),
            Ok(None) => Seen::Absent,
            Err(cause) => Seen::Unknown(cause.text),
        }
    }

    pub(super) async fn list_folders(&self) -> Result<BTreeSet<VmId>, Cause> {
        self.short(|inner| {
            let vms = inner.layout.vms();
            let names = names_in(&vms).or_failed("list the VMs' folders", &vms)?;
            Ok(names.iter().filter_map(|name| vm_of(name)).collect())
        })
        .await
    }

    pub(super) async fn discard_of(&self, vm: VmId, event: EventId) -> Result<(), Cause> {
        let turn = self.lock(vm).await;
        self.short(move |inner| {
            let _turn = turn;
            match inner.owner(vm)? {
                Owner::NoFolder | Owner::Nobody => Ok(()),
                Owner::Us => inner.discard(vm, event),
            }
        })
        .await
    }

    pub(super) async fn remove_folder_of(&self, vm: VmId) -> Result<(), Cause> {
        let turn = self.lock(vm).await;
        self.short(move |inner| {
            let _turn = turn;
            inner.remove_folder(vm)
        })
        .await
    }
}

impl Inner {
    /// Whose a VM's folder is; another's is an error.
    pub(super) fn owner(&self, vm: VmId) -> Result<Owner, Cause> {
        match self.marked(vm)? {
            Marked::NoFolder => Ok(Owner::NoFolder),
            Marked::Nobody => Ok(Owner::Nobody),
            Marked::Us => Ok(Owner::Us),
            Marked::Host(host) => {
                Err(not_ours(&self.layout.folder(vm), format_args!("belongs to the host {host}")))
            }
        }
    }

    /// An error for what is no folder of ours or nobody's.
    pub(super) fn must_be_ours(&self, vm: VmId) -> Result<(), Cause> {
        match self.owner(vm)? {
            Owner::Us => Ok(()),
            Owner::NoFolder | Owner::Nobody => {
                Err(not_ours(&self.layout.folder(vm), "is not a folder that bears our mark"))
            }
        }
    }

    /// What a VM's folder says of itself; an error when that cannot be read, or is none of our making.
    pub(super) fn marked(&self, vm: VmId) -> Result<Marked, Cause> {
        let folder = self.layout.folder(vm);
        if !is_folder(&folder).or_failed("look at the VM's folder", &folder)? {
            return Ok(Marked::NoFolder);
        }
        let mark = folder.join(MARK);
        if is_file(&mark).or_failed("look for the folder's mark", &mark)? {
            let bytes = read_small(&mark).or_failed("read the folder's mark", &mark)?;
            return match serde_json::from_slice::<FolderMark>(&bytes) {
                Ok(found) if found == self.mark(vm) => Ok(Marked::Us),
                Ok(found) if found.host != self.settings.host => Ok(Marked::Host(found.host)),
                Ok(found) => Err(not_ours(&folder, format_args!("belongs to the VM {}", found.vm))),
                Err(_) => Err(not_ours(&mark, "is not a mark that we can read")),
            };
        }
        let names = names_in(&folder).or_failed("list the VM's folder", &folder)?;
        if names.iter().all(|name| Entry::of(name) == Entry::OurPart) {
            return Ok(Marked::Nobody);
        }
        Err(not_ours(&folder, "has files in it and no mark of Dewpoint"))
    }

    /// Makes a VM's folder, or finds it ours. What the VM is made of goes into the mark of one that is made.
    pub(super) fn ensure_folder(
        &self,
        vm: VmId,
        made_of: impl FnOnce() -> Option<MadeOf>,
    ) -> Result<(), Cause> {
        let folder = self.layout.folder(vm);
        let made = match self.owner(vm)? {
            Owner::Us => return Ok(()),
            Owner::Nobody => Ok(()),
            Owner::NoFolder => self.durable.make_dir(&folder, VM_FOLDER_MODE),
        };
        let mark = made_of::mark_bytes(&self.mark(vm), made_of().as_ref()).map_err(io::Error::from);
        made.and_then(|()| self.durable.write_new(&folder.join(MARK), &mark?, READ_MODE))
            .or_failed("make the VM's folder", &folder)
    }

    fn mark(&self, vm: VmId) -> FolderMark {
        FolderMark { vm, host: self.settings.host }
    }

    fn see(&self, vm: VmId) -> Result<Option<VmFiles>, Cause> {
        match self.owner(vm)? {
            Owner::NoFolder => return Ok(None),
            Owner::Nobody => return Ok(Some(VmFiles::default())),
            Owner::Us => {}
        }
        let folder = self.layout.folder(vm);
        let mut seen = VmFiles::default();
        let mut bases = BTreeMap::new();
        for (name, entry) in self.entries(&folder)? {
            match entry {
                Entry::Mark | Entry::Console => {}
                Entry::Base(digest) => drop(bases.insert(digest, name)),
                Entry::Whole(Made::Disk, event) => {
                    seen.disks.insert(event, self.backing(&folder.join(name))?);
                }
                Entry::Whole(Made::Seed, event) => drop(seen.seeds.insert(event)),
                Entry::Whole(Made::Snapshot, event) => {
                    seen.snapshots.insert(event, SnapshotFile::Sealed);
                }
                Entry::Part(Made::Snapshot, event) => {
                    seen.snapshots.entry(event).or_insert(SnapshotFile::Partial);
                }
                Entry::Part(..) | Entry::OurPart | Entry::Foreign => drop(seen.leftovers.insert(name)),
            }
        }
        // A base that no disk rests on is left of a disk that was not made, or has gone.
        let used: BTreeSet<ImageDigest> = seen.disks.values().flatten().copied().collect();
        seen.leftovers
            .extend(bases.into_iter().filter(|(digest, _)| !used.contains(digest)).map(|(_, name)| name));
        Ok(Some(seen))
    }

    /// The image that a disk of ours rests on. A name that we did not give is told, and nothing is done with the disk.
    pub(super) fn backing(&self, disk: &Path) -> Result<Option<ImageDigest>, Cause> {
        let file = open(disk).or_failed("open the disk", disk)?;
        let header = match Header::read(&file) {
            Ok(header) => header,
            Err(Unreadable::Io(error)) => return Err(super::failure::failed("read the disk", disk, &error)),
            Err(Unreadable::Malformed(what)) => return Err(not_ours(disk, what)),
        };
        match header.backing.as_deref().map(base_of) {
            None => Ok(None),
            Some(Some(digest)) => Ok(Some(digest)),
            Some(None) => Err(not_ours(disk, "rests on a file that we did not give it")),
        }
    }

    /// The virtual size of a disk of ours.
    pub(super) fn virtual_size(&self, disk: &Path) -> Result<u64, Cause> {
        let header = Header::read(&open(disk).or_failed("open the disk", disk)?);
        header.map(|header| header.virtual_size).map_err(|error| match error {
            Unreadable::Io(error) => super::failure::failed("read the disk", disk, &error),
            Unreadable::Malformed(what) => not_ours(disk, what),
        })
    }

    /// Removes the bases that no disk of a VM's folder rests on. With a disk that cannot be read, none is removed.
    pub(super) fn drop_unused_bases(&self, vm: VmId) -> Result<(), Cause> {
        let folder = self.layout.folder(vm);
        let entries = self.entries(&folder)?;
        let mut used = BTreeSet::new();
        for (_, entry) in &entries {
            if let Entry::Whole(Made::Disk, event) = entry {
                used.extend(self.backing(&self.layout.disk(vm, *event))?);
            }
        }
        let unused = entries.iter().filter_map(|(name, entry)| match entry {
            Entry::Base(digest) if !used.contains(digest) => Some(folder.join(name)),
            _ => None,
        });
        let mut removed = false;
        for path in unused {
            removed |= self.durable.unlink(&path).or_failed("remove a base", &path)?;
        }
        self.sync_if(removed, &folder)
    }

    fn discard(&self, vm: VmId, event: EventId) -> Result<(), Cause> {
        let folder = self.layout.folder(vm);
        let mut removed = false;
        for (name, entry) in self.entries(&folder)? {
            let goes = match entry {
                Entry::Part(_, of) | Entry::Whole(Made::Seed | Made::Snapshot, of) => of == event,
                Entry::OurPart => true,
                Entry::Whole(Made::Disk, _)
                | Entry::Mark
                | Entry::Console
                | Entry::Base(_)
                | Entry::Foreign => false,
            };
            if goes {
                let path = folder.join(&name);
                removed |= self.durable.unlink(&path).or_failed("remove a leftover", &path)?;
            }
        }
        self.sync_if(removed, &folder)?;
        self.drop_unused_bases(vm)
    }

    fn remove_folder(&self, vm: VmId) -> Result<(), Cause> {
        let folder = self.layout.folder(vm);
        if self.owner(vm)? == Owner::NoFolder {
            return Ok(());
        }
        let entries = self.entries(&folder)?;
        if let Some((disk, _)) =
            entries.iter().find(|(_, entry)| matches!(entry, Entry::Whole(Made::Disk, _)))
        {
            return Err(not_ours(
                &folder.join(disk),
                "is a disk: the folder is not removed before its disks",
            ));
        }
        let (foreign, ours): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .filter(|(_, entry)| *entry != Entry::Mark)
            .partition(|(_, entry)| *entry == Entry::Foreign);
        for (name, _) in ours {
            let path = folder.join(name);
            self.durable.unlink(&path).or_failed("remove a file of the VM", &path)?;
        }
        if !foreign.is_empty() {
            return self
                .quarantine_folder(vm, "the VM is gone, and files of others are in its folder")
                .map(drop);
        }
        // The mark goes last, and only once all else is gone for good: content without a mark would be nobody's.
        self.durable.sync_dir(&folder).or_failed("empty the VM's folder", &folder)?;
        let mark = folder.join(MARK);
        let vms = self.layout.vms();
        self.durable
            .unlink(&mark)
            .and_then(|_| self.durable.remove_dir(&folder))
            .and_then(|_| self.durable.sync_dir(&vms))
            .or_failed("remove the VM's folder", &folder)
    }

    /// What is in a folder, by name. What is no regular file is none of ours, whatever its name.
    pub(super) fn entries(&self, folder: &Path) -> Result<Vec<(String, Entry)>, Cause> {
        let names = names_in(folder).or_failed("list the VM's folder", folder)?;
        let entry = |name: String| {
            let path = folder.join(&name);
            let regular = fs::symlink_metadata(&path).or_failed("look at a file of the VM", &path)?.is_file();
            let entry = if regular { Entry::of(&name) } else { Entry::Foreign };
            Ok((name, entry))
        };
        names.into_iter().map(entry).collect()
    }

    pub(super) fn sync_if(&self, changed: bool, folder: &Path) -> Result<(), Cause> {
        if !changed {
            return Ok(());
        }
        self.durable.sync_dir(folder).or_failed("sync the folder", folder)
    }
}

/// The names in a folder, sorted. One that is not UTF-8 is no name of ours, and is told by what can be read of it.
pub(super) fn names_in(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
        if names.len() > MOST_ENTRIES {
            return Err(io::Error::other(format!("more than {MOST_ENTRIES} files are in it")));
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// A small file of ours.
pub(super) fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    read_at_most(path, MOST_MARK as u64)
}

/// The first bytes of a file, at most so many.
pub(super) fn read_at_most(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}
