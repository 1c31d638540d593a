//! Who this host is: the file `host-id` in the data folder, and the lock that lets one agent at a time use that folder.
//!
//! The id is made at the first start and bound to the machine's product UUID, never to the hostname. It shares the fate
//! of the disks it marks: a host whose folder holds marked VMs but no id is not given a new one, for those VMs would
//! become somebody else's; and an id that came with a copied disk is not believed on another machine.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::HostId;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

const FILE: &str = "host-id";
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
    match read(data_dir)? {
        Some(identity) => believed(identity, machine.as_deref(), data_dir),
        None if has_marked_vms(data_dir) => Err(disowned(data_dir)),
        None => {
            let identity = Identity { host_id: HostId::fresh(), product_uuid: machine };
            write(data_dir, &identity).map_err(|error| unreadable(&data_dir.join(FILE), &error))?;
            Ok(identity)
        }
    }
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
        write(&self.data_dir, &identity).map_err(|error| unreadable(&self.data_dir.join(FILE), &error))
    }
}

/// Whether there are VM folders with a mark, which is `vm.json`.
#[must_use]
pub fn has_marked_vms(data_dir: &Path) -> bool {
    let Ok(folders) = std::fs::read_dir(data_dir.join("vms")) else { return false };
    folders.flatten().any(|folder| folder.path().join("vm.json").exists())
}

/// Written, synced, named, and its folder synced: an id that was used is never lost.
fn write(data_dir: &Path, identity: &Identity) -> std::io::Result<()> {
    let part = data_dir.join("host-id.part");
    let text = toml::to_string(identity).map_err(std::io::Error::other)?;
    let mut file = File::create(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&part, data_dir.join(FILE))?;
    File::open(data_dir)?.sync_all()
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
mod tests {
    use super::*;

    fn machine(name: &str) -> Option<String> {
        Some(name.to_owned())
    }

    #[test]
    fn the_id_outlives_restarts() {
        let dir = tempfile::tempdir().unwrap();
        let first = read_or_make(dir.path(), machine("a")).unwrap();
        assert_eq!(read_or_make(dir.path(), machine("a")).unwrap(), first);
        assert_eq!(read(dir.path()).unwrap(), Some(first));
    }

    #[test]
    fn none_is_made_beside_marked_vms() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("vms/x")).unwrap();
        std::fs::write(dir.path().join("vms/x/vm.json"), "{}").unwrap();
        let cause = read_or_make(dir.path(), machine("a")).unwrap_err();
        assert!(cause.advice.contains("backup"), "{cause:?}");
        assert!(!dir.path().join(FILE).exists());
    }

    #[test]
    fn a_copied_disk_is_not_believed_on_another_machine() {
        let dir = tempfile::tempdir().unwrap();
        read_or_make(dir.path(), machine("a")).unwrap();
        assert_eq!(read_or_make(dir.path(), machine("b")).unwrap_err().reason, Reason::Diverged);
        read_or_make(dir.path(), None).unwrap();
    }

    #[test]
    fn the_id_is_read_off_the_marks_when_its_file_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let host = HostId::fresh();
        for vm in ["x", "y"] {
            std::fs::create_dir_all(dir.path().join("vms").join(vm)).unwrap();
            let mark = format!("{{\"vm\":\"{}\",\"host\":\"{host}\"}}", HostId::fresh());
            std::fs::write(dir.path().join("vms").join(vm).join("vm.json"), mark).unwrap();
        }
        let cause = read_or_make(dir.path(), machine("a")).unwrap_err();
        assert!(cause.advice.contains(&format!("--take {host}")), "{cause:?}");
        let home = Home { data_dir: dir.path().to_owned(), product_uuid: machine("a") };
        home.take_id(host).unwrap();
        assert_eq!(read_or_make(dir.path(), machine("a")).unwrap().host_id, host);
    }

    /// A mainboard was replaced, and a person says so.
    #[test]
    fn another_machine_is_accepted_on_a_persons_word() {
        let dir = tempfile::tempdir().unwrap();
        let host = read_or_make(dir.path(), machine("a")).unwrap().host_id;
        assert!(read_or_make(dir.path(), machine("b")).unwrap_err().advice.contains("--accept-machine"));
        Home { data_dir: dir.path().to_owned(), product_uuid: machine("b") }.take_id(host).unwrap();
        assert_eq!(read_or_make(dir.path(), machine("b")).unwrap().host_id, host);
        read_or_make(dir.path(), machine("a")).unwrap_err();
    }

    #[test]
    fn the_unit_hands_on_what_only_root_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let (credentials, dmi) = (dir.path().join("credentials"), dir.path().join("product_uuid"));
        std::fs::create_dir(&credentials).unwrap();
        let told = |text: &str| {
            std::fs::write(credentials.join(CREDENTIAL), text).unwrap();
            product_uuid_in(Some(&credentials), &dmi)
        };
        assert_eq!(told("4C4C-1\n"), machine("4c4c-1"));
        assert_eq!(told(UNTOLD), None);
        std::fs::write(&dmi, "4C4C-2\n").unwrap();
        assert_eq!(product_uuid_in(None, &dmi), machine("4c4c-2"));
        let unit = include_str!("../../systemd/dewpoint-agent.service");
        assert!(unit.contains(&format!("\nLoadCredential={CREDENTIAL}:{PRODUCT_UUID}\n")));
        assert!(unit.contains(&format!("\nSetCredential={CREDENTIAL}:{UNTOLD}\n")));
    }

    #[test]
    fn one_agent_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = lock(dir.path()).unwrap();
        assert!(lock(dir.path()).unwrap_err().text.contains(&std::process::id().to_string()));
        drop(held);
        lock(dir.path()).unwrap();
    }
}
