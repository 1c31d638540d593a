//! Who this host is: the file `host-id` in the data folder, and the lock that lets one agent at a time use that folder.
//!
//! The id is made at the first start and bound to the machine's product UUID, never to the hostname. It shares the fate
//! of the disks it marks: a host whose folder holds marked VMs but no id is not given a new one, for those VMs would
//! become somebody else's; and an id that came with a copied disk is not believed on another machine.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dewpoint_common::durable::Durable;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::HostId;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

const FILE: &str = "host-id";
const MODE: u32 = 0o600;
const PRODUCT_UUID: &str = "/sys/class/dmi/id/product_uuid";
/// The unit's `LoadCredential=`.
const CREDENTIAL: &str = "product-uuid";
/// The unit's `SetCredential=`, which stands in where the machine has none.
const UNTOLD: &str = "unknown";

/// What the file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// This host.
    pub host_id: HostId,
    /// The machine it was made on; none: that machine does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product_uuid: Option<String>,
}

/// The machine's product UUID, if it has one that can be read.
///
/// Only root may read it; the unit lets systemd read it, and hands it on as a credential.
#[must_use]
pub fn product_uuid() -> Option<String> {
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    product_uuid_in(credentials.as_deref(), Path::new(PRODUCT_UUID))
}

fn product_uuid_in(credentials: Option<&Path>, dmi: &Path) -> Option<String> {
    let handed = credentials.and_then(|folder| std::fs::read_to_string(folder.join(CREDENTIAL)).ok());
    let text = handed.or_else(|| std::fs::read_to_string(dmi).ok())?;
    let text = text.trim().to_ascii_lowercase();
    (!text.is_empty() && text != UNTOLD).then_some(text)
}

/// Reads the host's id without making one.
///
/// # Errors
/// `INVALID` when the file is damaged; none: there is no file yet.
pub fn read(data_dir: &Path) -> Result<Option<Identity>, Cause> {
    let path = data_dir.join(FILE);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(&path, &error)),
    };
    toml::from_str(&text).map(Some).map_err(|error| {
        Cause::new(Reason::Invalid, format!("{} is damaged: {}", path.display(), error.message()))
            .advise("restore it from a backup: it names this host and marks its VMs")
    })
}

/// Reads the host's id, or makes it at the first start.
///
/// # Errors
/// `INVALID`: damaged; gone beside marked VMs; or made on another machine.
pub fn read_or_make(data_dir: &Path, machine: Option<String>) -> Result<Identity, Cause> {
    read_or_make_through(&durable(data_dir), data_dir, machine)
}

fn read_or_make_through(
    durable: &Durable,
    data_dir: &Path,
    machine: Option<String>,
) -> Result<Identity, Cause> {
    match read(data_dir)? {
        Some(identity) => {
            // Whoever wrote it may have been killed before its name was synced.
            durable.sync_dir(data_dir).map_err(|error| unreadable(&data_dir.join(FILE), &error))?;
            believed(identity, machine.as_deref(), data_dir)
        }
        None if has_marked_vms(data_dir) => Err(disowned(data_dir)),
        None => {
            let identity = Identity { host_id: HostId::fresh(), product_uuid: machine };
            write(durable, data_dir, &identity)?;
            Ok(identity)
        }
    }
}

fn durable(data_dir: &Path) -> Durable {
    Durable::new(data_dir.to_owned(), None, None)
}

fn believed(identity: Identity, machine: Option<&str>, data_dir: &Path) -> Result<Identity, Cause> {
    match (identity.product_uuid.as_deref(), machine) {
        (Some(made_on), Some(here)) if made_on != here => Err(Cause::new(
            Reason::Diverged,
            format!("{} was made on another machine", data_dir.join(FILE).display()),
        )
        .advise(
            "if this is a copied disk, remove the data folder; if the mainboard was replaced, or the disks moved for good: \
             `dewpoint-agent host-id --accept-machine`",
        )
        .with("made_on", made_on)
        .with("here", here)),
        _ => Ok(identity),
    }
}

fn disowned(data_dir: &Path) -> Cause {
    let cause =
        Cause::new(Reason::Invalid, format!("{} has VMs, but its host-id file is gone", data_dir.display()));
    let advice = "restore host-id from a backup; a new one would disown those VMs, so none is made";
    match marked_by(data_dir).as_slice() {
        [one] => cause
            .advise(format!(
                "{advice}. All of them bear the mark of host {one}: `dewpoint-agent host-id --take {one}`"
            ))
            .with("marked_host_id", one),
        _ => cause.advise(advice),
    }
}

/// The hosts whose marks are on VM folders; at most a few.
#[must_use]
pub fn marked_by(data_dir: &Path) -> Vec<HostId> {
    #[derive(Deserialize)]
    struct Mark {
        host: HostId,
    }
    let Ok(folders) = std::fs::read_dir(data_dir.join("vms")) else { return Vec::new() };
    let marks = folders.flatten().filter_map(|folder| std::fs::read(folder.path().join("vm.json")).ok());
    let mut hosts: Vec<HostId> =
        marks.filter_map(|mark| serde_json::from_slice::<Mark>(&mark).ok()).map(|mark| mark.host).collect();
    hosts.sort_unstable();
    hosts.dedup();
    hosts
}

/// Where a host's id is kept, and on what machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The data folder.
    pub data_dir: PathBuf,
    /// Of this machine, if it tells.
    pub product_uuid: Option<String>,
}

impl Home {
    /// Writes this id, on a person's word; the agent goes by it from its next start on.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    pub fn take_id(&self, host_id: HostId) -> Result<(), Cause> {
        let identity = Identity { host_id, product_uuid: self.product_uuid.clone() };
        write(&durable(&self.data_dir), &self.data_dir, &identity)
    }
}

/// Whether there are VM folders with a mark, which is `vm.json`.
#[must_use]
pub fn has_marked_vms(data_dir: &Path) -> bool {
    let Ok(folders) = std::fs::read_dir(data_dir.join("vms")) else { return false };
    folders.flatten().any(|folder| folder.path().join("vm.json").exists())
}

/// An id that was used is never lost, and there is never half of one.
fn write(durable: &Durable, data_dir: &Path, identity: &Identity) -> Result<(), Cause> {
    let path = data_dir.join(FILE);
    toml::to_string(identity)
        .map_err(std::io::Error::other)
        .and_then(|text| durable.replace(&path, text.as_bytes(), MODE))
        .map_err(|error| unreadable(&path, &error))
}

fn unreadable(path: &Path, error: &std::io::Error) -> Cause {
    Cause::new(Reason::StorageError, format!("{} cannot be used: {error}", path.display()))
        .advise("check the data folder's owner and file system")
}

/// The data folder, held by this process until dropped.
#[derive(Debug)]
pub struct DataLock(#[expect(dead_code, reason = "held for its drop")] Flock<File>);

/// Takes the data folder for this process.
///
/// # Errors
/// `STORAGE_ERROR` when another agent has it (its process id is named), or the folder cannot be used.
pub fn lock(data_dir: &Path) -> Result<DataLock, Cause> {
    let path = data_dir.join("lock");
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o640)
        .open(&path)
        .map_err(|error| unreadable(&path, &error))?;
    let mut held = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(mut file, error)| {
        let mut holder = String::new();
        // Best effort: the holder writes its id after it has the lock.
        let _ = file.read_to_string(&mut holder);
        Cause::new(
            Reason::StorageError,
            format!("{} is in use by another agent ({}): {error}", data_dir.display(), holder.trim()),
        )
        .advise("stop that agent, or give this one a data_dir of its own")
    })?;
    held.set_len(0)
        .and_then(|()| writeln!(held, "pid {}", std::process::id()))
        .map_err(|e| unreadable(&path, &e))?;
    Ok(DataLock(held))
}

#[cfg(test)]
mod tests;
