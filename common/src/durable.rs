//! Every change that we make to the file system goes through here, in an order that power loss cannot spoil.
//!
//! Owns: how a file becomes whole (`.part`, fsync, its name, fsync of the folder) and who may open it (group and mode).
//! Never: replaces a file but in [`Durable::replace`], follows a symbolic link to a file, or changes anything outside the
//! data folder. A [`Witness`] sees each change before and after it is made; the tests' recorder is one, and drops what
//! was not synced.

#[cfg(feature = "faults")]
pub mod recorder;

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
use nix::libc;
use nix::unistd::{Gid, Uid, fchown};

/// Ours alone.
const OWN_MODE: u32 = 0o600;
/// Ends the name of what is not whole yet.
pub const PART: &str = ".part";

/// One change of the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An empty folder.
    MakeDir(PathBuf),
    /// An empty file, written to afterwards.
    Create(PathBuf),
    /// A file's content onto the disk.
    SyncFile(PathBuf),
    /// A folder's names onto the disk.
    SyncDir(PathBuf),
    /// A second name for a file.
    Link(PathBuf, PathBuf),
    /// Another name for a file or folder; one in use only in [`Durable::replace`].
    Rename(PathBuf, PathBuf),
    /// A name taken away.
    Unlink(PathBuf),
    /// An empty folder taken away.
    RemoveDir(PathBuf),
}

/// Sees every change.
pub trait Witness: Send + Sync + 'static {
    /// Before it is made.
    ///
    /// # Errors
    /// Returned in place of making it.
    fn before(&self, change: &Change) -> io::Result<()>;
    /// After it was made.
    fn after(&self, change: &Change);
}

/// The file system below a data folder. Errors are the file system's own, or `PermissionDenied` outside of the folder.
#[derive(Clone)]
pub struct Durable {
    root: PathBuf,
    /// Whose the data folder is, when a person works in it as root; none: whoever we are.
    owner: Option<Uid>,
    group: Option<Gid>,
    witness: Option<Arc<dyn Witness>>,
}

impl Durable {
    /// Changes what is below `root`, and gives files to a group; none: the process's own.
    #[must_use]
    pub fn new(root: PathBuf, group: Option<Gid>, witness: Option<Arc<dyn Witness>>) -> Self {
        Self { owner: owner_for_root(&root), root, group, witness }
    }

    /// A new empty file, open for reading and writing.
    pub fn create(&self, path: &Path, mode: u32) -> io::Result<File> {
        self.making(Change::Create(path.to_owned()), || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create_new(true)
                .mode(OWN_MODE)
                .custom_flags(libc::O_NOFOLLOW)
                .open(path)?;
            self.set_access(&file, mode)?;
            Ok(file)
        })
    }

    /// A whole file in one call: bytes, synced, named. `AlreadyExists` when the name is taken.
    pub fn write_new(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.write_part(path, bytes, mode, |part| self.take_name(part, path))
    }

    /// The same in another's place: whenever the power goes, the old file is there whole, or the new one.
    pub fn replace(&self, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
        self.write_part(path, bytes, mode, |part| {
            self.making(Change::Rename(part.to_owned(), path.to_owned()), || fs::rename(part, path))?;
            self.sync_dir(self.parent(path))
        })
    }

    fn write_part(
        &self,
        path: &Path,
        bytes: &[u8],
        mode: u32,
        name: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let part = part_of(path);
        self.unlink(&part)?;
        let mut file = self.create(&part, mode)?;
        let written = file.write_all(bytes).and_then(|()| self.sync(&part, &file)).and_then(|()| name(&part));
        written.inspect_err(|_| {
            // The first error is the one to tell; a `.part` left over is found again by its name.
            let _ = self.unlink(&part);
        })
    }

    /// Adds a line to a file, whole or, after power loss, recognisably not.
    pub fn append_line(&self, path: &Path, line: &str) -> io::Result<()> {
        if !path.try_exists()? {
            self.create(path, OWN_MODE)?;
        }
        let mut file = OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
        // The line begins with a newline as well: whatever was left of an earlier one stands alone.
        file.write_all(format!("\n{line}\n").as_bytes())?;
        self.sync(path, &file)?;
        self.sync_dir(path.parent().unwrap_or(&self.root))
    }

    /// Group and mode, whatever the umask.
    pub fn set_access(&self, file: &File, mode: u32) -> io::Result<()> {
        if self.owner.is_some() || self.group.is_some() {
            fchown(file, self.owner, self.group)?;
        }
        file.set_permissions(Permissions::from_mode(mode))
    }

    /// The group that files are given; none: the agent's own.
    pub fn group(&self) -> Option<Gid> {
        self.group
    }

    /// Owner, group and mode of something that is there, a folder or a regular file; no link is followed.
    pub fn own(&self, path: &Path, owner: u32, mode: u32) -> io::Result<()> {
        let file =
            OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
        let found = file.metadata()?;
        if !found.is_file() && !found.is_dir() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "neither a file nor a folder"));
        }
        if found.uid() != owner {
            fchown(&file, Some(Uid::from_raw(owner)), None)?;
        }
        self.set_access(&file, mode)?;
        file.sync_all()
    }

    /// Content onto the disk.
    pub fn sync(&self, path: &Path, file: &File) -> io::Result<()> {
        self.making(Change::SyncFile(path.to_owned()), || file.sync_all())
    }

    /// Content that another process wrote onto the disk, with group and mode.
    pub fn sync_path(&self, path: &Path, mode: u32) -> io::Result<()> {
        let file = open(path)?;
        self.set_access(&file, mode)?;
        self.sync(path, &file)
    }

    /// Names onto the disk.
    pub fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.making(Change::SyncDir(path.to_owned()), || File::open(path)?.sync_all())
    }

    /// Gives a synced file or folder its name for good. `AlreadyExists` when the name is taken.
    ///
    /// The folder that it comes to is synced first: a name that is lost twice would lose the file.
    pub fn take_name(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.making(Change::Rename(from.to_owned(), to.to_owned()), || {
            renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE).map_err(io::Error::from)
        })?;
        let (old, new) = (self.parent(from), self.parent(to));
        self.sync_dir(new)?;
        if old == new { Ok(()) } else { self.sync_dir(old) }
    }

    /// A second name for a file; not synced. `AlreadyExists` when the name is taken.
    pub fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.making(Change::Link(from.to_owned(), to.to_owned()), || fs::hard_link(from, to))
    }

    /// Takes a name away; not synced. Nothing there is well, too; says whether there was something.
    pub fn unlink(&self, path: &Path) -> io::Result<bool> {
        self.removing(Change::Unlink(path.to_owned()), path, || fs::remove_file(path))
    }

    /// Takes an empty folder away; not synced. Nothing there is well, too.
    pub fn remove_dir(&self, path: &Path) -> io::Result<bool> {
        self.removing(Change::RemoveDir(path.to_owned()), path, || fs::remove_dir(path))
    }

    /// A folder, there already or made now, and synced into its parent: whoever made it may have been killed before that.
    pub fn make_dir(&self, path: &Path, mode: u32) -> io::Result<()> {
        if !is_folder(path)? {
            self.making(Change::MakeDir(path.to_owned()), || {
                fs::create_dir(path)?;
                self.set_access(&File::open(path)?, mode)
            })?;
        }
        self.sync_dir(self.parent(path))
    }

    fn removing(
        &self,
        change: Change,
        path: &Path,
        remove: impl FnOnce() -> io::Result<()>,
    ) -> io::Result<bool> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
            Ok(_) => self.making(change, remove).map(|()| true),
        }
    }

    fn making<T>(&self, change: Change, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.check_inside(&change)?;
        if let Some(witness) = &self.witness {
            witness.before(&change)?;
        }
        let made = make()?;
        if let Some(witness) = &self.witness {
            witness.after(&change);
        }
        Ok(made)
    }

    fn check_inside(&self, change: &Change) -> io::Result<()> {
        let target = match change {
            Change::MakeDir(path)
            | Change::Create(path)
            | Change::SyncFile(path)
            | Change::SyncDir(path)
            | Change::Unlink(path)
            | Change::RemoveDir(path)
            | Change::Link(_, path)
            | Change::Rename(_, path) => path,
        };
        if target.starts_with(&self.root) {
            return Ok(());
        }
        Err(io::Error::new(io::ErrorKind::PermissionDenied, "outside the data folder"))
    }

    fn parent<'a>(&'a self, path: &'a Path) -> &'a Path {
        path.parent().unwrap_or(&self.root)
    }
}

/// What root makes in an agent's folder must be the agent's, or it could not go on with it.
fn owner_for_root(root: &Path) -> Option<Uid> {
    let owner = fs::metadata(root).ok()?.uid();
    (nix::unistd::geteuid().is_root() && owner != 0).then(|| Uid::from_raw(owner))
}

/// Opens a regular file for reading; a symbolic link, FIFO or device is an error, and opening it has no effect.
pub fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Whether a folder is there; a link or anything else of that name is an error.
pub fn is_folder(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => Ok(true),
        Ok(_) => Err(io::Error::new(io::ErrorKind::NotADirectory, "not a folder")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a regular file is there; anything else of that name is an error.
pub fn is_file(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(true),
        Ok(_) => Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A path with `.part` at its end.
#[must_use]
pub fn part_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(PART);
    PathBuf::from(name)
}
