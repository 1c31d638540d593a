//! The quarantine: what bears our mark and nothing explains, moved aside for a person to look at. Never purged.
//!
//! `quarantine/<UTC time>-<vm>/` is a VM's whole folder, or holds single files of one; `quarantined.json` says since when
//! and why. Moving is all that is done here: what is in use elsewhere, the caller has seen not to be there.

use std::io;
use std::path::{Path, PathBuf};

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::DiskDisposal;
use dewpoint_proto::ids::{HostId, VmId};
use dewpoint_proto::spec::VmSpec;
use dewpoint_proto::time::Millis;
use serde::{Deserialize, Serialize};

use super::Retirement;
use super::durable::{OWN_MODE, is_file, is_folder};
use super::failure::{OrFailed, not_ours};
use super::files::{Files, Inner};
use super::folder::{names_in, read_small};
use super::layout::{Entry, MARK, Made, base_name};
use super::recycle::stamp;
use super::space::allocated;

const NOTE: &str = "quarantined.json";
const KEPT_MODE: u32 = 0o700;

/// `quarantined.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    host: HostId,
    vm: VmId,
    at: Millis,
    why: String,
}

/// Something in the quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Its name in the quarantine folder.
    pub name: String,
    /// Of which VM; none: that is not noted.
    pub vm: Option<VmId>,
    /// Since when; none: that is not noted.
    pub since: Option<Millis>,
    /// Why; empty: that is not noted.
    pub why: String,
    /// What it takes on the disk.
    pub size_bytes: u64,
    /// The files in it.
    pub files: Vec<String>,
    /// Where it is.
    pub path: PathBuf,
}

impl Files {
    /// Moves a VM's whole folder to the quarantine. Returns where it is then.
    ///
    /// # Errors
    /// `STORAGE_ERROR`, also when the folder is not ours.
    pub async fn quarantine_folder(&self, vm: VmId, why: &str) -> Result<PathBuf, Cause> {
        let (turn, why) = (self.lock(vm).await, why.to_owned());
        self.short(move |inner| {
            let _turn = turn;
            inner.must_be_ours(vm)?;
            inner.quarantine_folder(vm, &why)
        })
        .await
    }

    /// Moves single files of a VM's folder to the quarantine; what is gone already is passed over. Returns where they
    /// are then.
    ///
    /// # Errors
    /// `STORAGE_ERROR`, also when the folder or a file is not ours.
    pub async fn quarantine_files(&self, vm: VmId, names: &[String], why: &str) -> Result<PathBuf, Cause> {
        let (turn, names, why) = (self.lock(vm).await, names.to_owned(), why.to_owned());
        self.short(move |inner| {
            let _turn = turn;
            inner.must_be_ours(vm)?;
            inner.quarantine_files(vm, &names, &why)
        })
        .await
    }

    /// Takes something out of the quarantine for good: its disks go to recycle, with receipts. Returns what was done.
    ///
    /// # Errors
    /// `STORAGE_ERROR`, also when it is not there or bears no note of ours.
    pub async fn empty_quarantined(&self, name: &str) -> Result<Vec<String>, Cause> {
        let name = name.to_owned();
        self.short(move |inner| {
            let _recycling = inner.recycling();
            let done = inner.empty_quarantined(&name)?;
            inner.keep_budget()?;
            Ok(done)
        })
        .await
    }

    /// What is in the quarantine, the oldest first.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>, Cause> {
        self.short(|inner| {
            let folder = inner.layout.quarantine();
            let names = match names_in(&folder) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
                names => names.or_failed("list the quarantine", &folder)?,
            };
            Ok(names.into_iter().map(|name| inner.quarantined(name)).collect())
        })
        .await
    }
}

impl Inner {
    pub(super) fn quarantine_folder(&self, vm: VmId, why: &str) -> Result<PathBuf, Cause> {
        let folder = self.layout.folder(vm);
        let aside = self.aside(vm);
        tracing::warn!(vm_id = %vm, to = %aside.display(), why, "a VM's folder is moved to the quarantine");
        self.note(&folder, vm, why)
            .and_then(|()| self.durable.take_name(&folder, &aside))
            .or_failed("move the VM's folder to the quarantine", &folder)?;
        Ok(aside)
    }

    fn quarantine_files(&self, vm: VmId, names: &[String], why: &str) -> Result<PathBuf, Cause> {
        let folder = self.layout.folder(vm);
        // Only what is in the folder itself, and of our making.
        let entries = self.entries(&folder)?;
        let ours = |name: &str| entries.iter().find(|(found, _)| found == name).map(|(_, entry)| entry);
        if let Some(name) = names
            .iter()
            .find(|name| matches!(ours(name), Some(Entry::Foreign | Entry::Mark)) || name.contains('/'))
        {
            return Err(not_ours(&folder.join(name), "is not moved: it is none that we make and leave"));
        }
        let aside = self.aside(vm);
        let moving = || -> io::Result<()> {
            self.durable.make_dir(&aside, KEPT_MODE)?;
            self.note(&aside, vm, why)?;
            for name in names.iter().filter(|name| ours(name).is_some()) {
                self.link_base_beside(&folder.join(name), &aside)?;
                self.durable.take_name(&folder.join(name), &aside.join(name))?;
            }
            Ok(())
        };
        tracing::warn!(vm_id = %vm, to = %aside.display(), files = names.len(), why, "files are moved to the quarantine");
        moving().or_failed("move files to the quarantine", &folder)?;
        Ok(aside)
    }

    /// What a disk rests on stays in the VM's folder for the disks there, and goes with this one as well.
    fn link_base_beside(&self, disk: &Path, aside: &Path) -> io::Result<()> {
        let Ok(Some(base)) = self.backing(disk) else { return Ok(()) };
        let name = base_name(base);
        match self.durable.link(&disk.with_file_name(&name), &aside.join(name)) {
            Err(error) if matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound) => {
                Ok(())
            }
            linked => linked,
        }
    }

    /// Disks go to recycle, each with its receipt; what else we made goes; what others made keeps the folder where it is.
    fn empty_quarantined(&self, name: &str) -> Result<Vec<String>, Cause> {
        let folder = self.layout.quarantine().join(name);
        let there =
            !name.contains('/') && is_folder(&folder).or_failed("look into the quarantine", &folder)?;
        let note = self.quarantined(name.to_owned());
        let Some(vm) = note.vm.filter(|_| there) else {
            return Err(not_ours(&folder, "is not in the quarantine, or bears no note of ours"));
        };
        let spec = self.spec_in(&folder, vm);
        let mut done = Vec::new();
        let (mut removed, mut foreign) = (Vec::new(), false);
        for (name, entry) in self.entries(&folder)? {
            match entry {
                Entry::Whole(Made::Disk, event) => {
                    let how = Retirement { disposal: DiskDisposal::Recycle, by: None, spec: spec.clone() };
                    self.recycle_disk(&folder, (vm, event), &how)?;
                    done.push(format!("moved the disk {event} to recycle"));
                }
                Entry::Foreign if name != NOTE => foreign = true,
                _ => removed.push(name),
            }
        }
        if foreign {
            done.push(format!("left {}: files of others are in it", folder.display()));
            return Ok(done);
        }
        // The note goes last: what is left after a crash is still known as ours.
        removed.sort_by_key(|name| name == NOTE);
        for name in &removed {
            self.durable.unlink(&folder.join(name)).or_failed("remove a leftover", &folder)?;
        }
        let quarantine = self.layout.quarantine();
        self.durable
            .remove_dir(&folder)
            .and_then(|_| self.durable.sync_dir(&quarantine))
            .or_failed("remove the quarantined folder", &folder)?;
        done.push(format!("removed {} with {} files that we had made", folder.display(), removed.len()));
        Ok(done)
    }

    /// What a VM was made of, as far as the folder tells: enough to build it again from its disk.
    fn spec_in(&self, folder: &Path, vm: VmId) -> Option<VmSpec> {
        let entries = self.entries(folder).ok()?;
        let made = |wanted: Made| {
            let of = |(_, entry): &(String, Entry)| match entry {
                Entry::Whole(made, event) if *made == wanted => Some(*event),
                _ => None,
            };
            entries.iter().rev().find_map(of)
        };
        let described = self.described(folder, vm, (made(Made::Disk)?, made(Made::Seed)?));
        described.map(|described| described.spec).ok()
    }

    fn aside(&self, vm: VmId) -> PathBuf {
        self.layout.quarantine().join(format!("{}-{vm}", stamp(self.clock.wall())))
    }

    fn note(&self, folder: &Path, vm: VmId, why: &str) -> io::Result<()> {
        let path = folder.join(NOTE);
        if is_file(&path)? {
            return Ok(());
        }
        let note = Note { host: self.settings.host, vm, at: self.clock.wall(), why: why.to_owned() };
        self.durable.write_new(&path, &serde_json::to_vec(&note)?, OWN_MODE)
    }

    /// What cannot be read is listed all the same.
    fn quarantined(&self, name: String) -> Quarantined {
        let path = self.layout.quarantine().join(&name);
        let note = read_small(&path.join(NOTE)).ok();
        let note: Option<Note> = note.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let mut files = names_in(&path).unwrap_or_default();
        files.retain(|name| name != NOTE && name != MARK);
        Quarantined {
            vm: note.as_ref().map(|note| note.vm).or_else(|| vm_of_name(&name)),
            since: note.as_ref().map(|note| note.at),
            why: note.map(|note| note.why).unwrap_or_default(),
            size_bytes: files.iter().filter_map(|file| allocated(&path.join(file)).ok()).sum(),
            files,
            name,
            path,
        }
    }
}

/// `<stamp>-<vm>`.
fn vm_of_name(name: &str) -> Option<VmId> {
    name.split_once('-').and_then(|(_, vm)| super::layout::vm_of(vm))
}
