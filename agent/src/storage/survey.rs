//! The data folder looked at as a whole, for whoever mends the host: whose each folder is, what is in it, who may open it.
//!
//! Changes nothing, and makes nothing of what it finds. One folder that cannot be read hides no other.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{EventId, HostId, VmId};
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;

use super::durable::{DISK_MODE, IMAGE_MODE, READ_MODE, VM_FOLDER_MODE};
use super::failure::OrFailed;
use super::files::{Files, Inner};
use super::folder::{Marked, names_in};
use super::layout::{Entry, Made, vm_of};

/// The data folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiskSurvey {
    /// Where it is.
    pub root: PathBuf,
    /// Everything in `vms/`, by name.
    pub folders: Vec<FolderSeen>,
    /// Images of the cache.
    pub images: Vec<ImageDigest>,
    /// The recycle folder; not looked at when one VM is.
    pub recycle: RecycleSeen,
    /// Names in the quarantine; not looked at when one VM is.
    pub quarantine: Vec<String>,
}

/// One folder of `vms/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderSeen {
    /// Its name.
    pub name: String,
    /// The VM of its name, when it is one that we gave.
    pub vm: Option<VmId>,
    /// Whose it is.
    pub owner: FolderOwner,
    /// What is in it.
    pub entries: Vec<EntrySeen>,
    /// Who may enter it; none: as it should be.
    pub access: Option<WrongAccess>,
}

/// Whose a folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FolderOwner {
    /// It bears our mark.
    Us,
    /// Empty, or with half a mark.
    Nobody,
    /// It bears another host's mark.
    Host(HostId),
    /// It has content and no mark, or is no folder at all; what is wrong.
    Unmarked(String),
}

/// One file of a VM's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntrySeen {
    /// Its name.
    pub name: String,
    /// What it is.
    pub what: What,
    /// Who may open it; none: as it should be, or not ours to say.
    pub access: Option<WrongAccess>,
}

/// What a file of a VM's folder is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// Our mark, or the console's log.
    Ours,
    /// A backing image.
    Base(ImageDigest),
    /// The disk that an event made, and what it rests on.
    Disk(EventId, Result<Option<ImageDigest>, String>),
    /// The seed that an event made.
    Seed(EventId),
    /// The snapshot that an event made.
    Snapshot(EventId),
    /// Half made, by an event or by nobody who can be named.
    Part(Option<EventId>),
    /// Nothing that we make.
    Foreign,
}

/// A file or folder that others than those meant may open, or those meant may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongAccess {
    /// As found, such as `root:root 0600`.
    pub found: String,
    /// As it should be.
    pub wanted: String,
}

/// The recycle folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecycleSeen {
    /// Disks in it.
    pub disks: usize,
    /// What they would free.
    pub bytes: u64,
    /// Disks whose time is over.
    pub late: usize,
    /// What bears no receipt of ours.
    pub unknown: Vec<String>,
}

impl Files {
    /// Looks at all of the data folder, or at what belongs to one VM.
    ///
    /// # Errors
    /// `STORAGE_ERROR` when the folder itself cannot be listed.
    pub async fn survey(&self, which: Option<VmId>, now: Millis) -> Result<DiskSurvey, Cause> {
        self.short(move |inner| inner.survey(which, now)).await
    }

    /// Gives a VM's folder and the files in it the group and the mode that they should have. Repeatable.
    ///
    /// # Errors
    /// `STORAGE_ERROR`, also when the folder is not ours.
    pub async fn mend_access(&self, vm: VmId) -> Result<(), Cause> {
        let turn = self.lock(vm).await;
        self.short(move |inner| {
            let _turn = turn;
            inner.mend_access(vm)
        })
        .await
    }
}

impl Inner {
    fn survey(&self, which: Option<VmId>, now: Millis) -> Result<DiskSurvey, Cause> {
        let vms = self.layout.vms();
        let names = match which {
            None => listed(&vms)?,
            Some(vm) => vec![vm.to_string()],
        };
        let mut survey = DiskSurvey { root: self.layout.root.clone(), ..DiskSurvey::default() };
        survey.folders = names.into_iter().filter_map(|name| self.folder_seen(&vms, name)).collect();
        let images = listed(&self.layout.images())?;
        survey.images = images.iter().filter_map(|name| name.parse().ok()).collect();
        if which.is_none() {
            survey.recycle = self.recycle_seen(now)?;
            survey.quarantine = listed(&self.layout.quarantine())?;
        }
        Ok(survey)
    }

    /// None: there is nothing of that name.
    fn folder_seen(&self, vms: &Path, name: String) -> Option<FolderSeen> {
        let path = vms.join(&name);
        let found = fs::symlink_metadata(&path).ok()?;
        let vm = vm_of(&name);
        let owner = match vm {
            _ if !found.is_dir() => FolderOwner::Unmarked("is no folder".into()),
            None => FolderOwner::Unmarked("is not named as a VM".into()),
            Some(vm) => self.marked(vm).map_or_else(|cause| FolderOwner::Unmarked(cause.text), whose),
        };
        if owner != FolderOwner::Us {
            return Some(FolderSeen { name, vm, owner, entries: Vec::new(), access: None });
        }
        let (entries, owner) = match self.entries(&path) {
            Ok(entries) => (entries, owner),
            Err(cause) => (Vec::new(), FolderOwner::Unmarked(cause.text)),
        };
        let entries = entries.into_iter().map(|(name, entry)| self.entry_seen(&path, name, &entry)).collect();
        Some(FolderSeen { name, vm, owner, entries, access: self.wrong(&path, VM_FOLDER_MODE) })
    }

    fn entry_seen(&self, folder: &Path, name: String, entry: &Entry) -> EntrySeen {
        let path = folder.join(&name);
        let what = match entry {
            Entry::Mark | Entry::Console => What::Ours,
            Entry::Base(digest) => What::Base(*digest),
            Entry::Whole(Made::Disk, event) => {
                What::Disk(*event, self.backing(&path).map_err(|cause| cause.text))
            }
            Entry::Whole(Made::Seed, event) => What::Seed(*event),
            Entry::Whole(Made::Snapshot, event) => What::Snapshot(*event),
            Entry::Part(_, event) => What::Part(Some(*event)),
            Entry::OurPart => What::Part(None),
            Entry::Foreign => What::Foreign,
        };
        let access = wanted_mode(entry).and_then(|mode| self.wrong(&path, mode));
        EntrySeen { name, what, access }
    }

    /// What is wrong with who may open something. A file that has gone meanwhile has nothing wrong with it.
    fn wrong(&self, path: &Path, mode: u32) -> Option<WrongAccess> {
        let (found, ours) = (fs::symlink_metadata(path).ok()?, fs::symlink_metadata(&self.layout.root).ok()?);
        // The agent's user is whoever the data folder belongs to: a person may look as root.
        let group = self.durable.group().map_or_else(|| found.gid(), |group| group.as_raw());
        let has = (found.uid(), found.gid(), found.permissions().mode() & 0o7777);
        let wants = (ours.uid(), group, mode);
        (has != wants).then(|| WrongAccess { found: told(has), wanted: told(wants) })
    }

    fn mend_access(&self, vm: VmId) -> Result<(), Cause> {
        let folder = self.layout.folder(vm);
        self.must_be_ours(vm)?;
        let owner =
            fs::symlink_metadata(&self.layout.root).or_failed("look at the data folder", &folder)?.uid();
        let mend = |path: &Path, mode| match self.wrong(path, mode) {
            None => Ok(()),
            Some(_) => self.durable.own(path, owner, mode).or_failed("set who may open it", path),
        };
        mend(&folder, VM_FOLDER_MODE)?;
        for (name, entry) in self.entries(&folder)? {
            if let Some(mode) = wanted_mode(&entry) {
                mend(&folder.join(name), mode)?;
            }
        }
        Ok(())
    }

    fn recycle_seen(&self, now: Millis) -> Result<RecycleSeen, Cause> {
        let kept = self.recycled()?;
        let known: Vec<&str> = kept.iter().filter_map(|kept| kept.name()).collect();
        let unknown = listed(&self.layout.recycle())?
            .into_iter()
            .filter(|name| !name.starts_with("receipts.log") && !known.contains(&name.as_str()));
        Ok(RecycleSeen {
            disks: kept.len(),
            bytes: kept.iter().map(|kept| kept.frees).sum(),
            late: kept.iter().filter(|kept| kept.is_late(now)).count(),
            unknown: unknown.collect(),
        })
    }
}

fn whose(marked: Marked) -> FolderOwner {
    match marked {
        Marked::Us => FolderOwner::Us,
        Marked::Nobody | Marked::NoFolder => FolderOwner::Nobody,
        Marked::Host(host) => FolderOwner::Host(host),
    }
}

/// Who may open a file that we make; none: not ours, libvirt's, or about to go.
fn wanted_mode(entry: &Entry) -> Option<u32> {
    match entry {
        Entry::Mark | Entry::Whole(Made::Seed, _) => Some(READ_MODE),
        Entry::Base(_) => Some(IMAGE_MODE),
        Entry::Whole(Made::Disk, _) => Some(DISK_MODE),
        Entry::Whole(Made::Snapshot, _)
        | Entry::Part(..)
        | Entry::OurPart
        | Entry::Console
        | Entry::Foreign => None,
    }
}

fn told((uid, gid, mode): (u32, u32, u32)) -> String {
    format!("{uid}:{gid} {mode:04o}")
}

/// A folder that is not there has nothing in it.
fn listed(folder: &Path) -> Result<Vec<String>, Cause> {
    match names_in(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        names => names.or_failed("list the folder", folder),
    }
}
