//! What a person does with the data folder from outside: copies it, puts a copy back, checks it.
//!
//! - [`backup`]: a copy of the database, while the coordinator runs or not.
//! - [`restore`]: a copy in the database's place, while it does not. Nothing is deleted.
//! - [`check`]: whether rows and files agree.
//!
//! Never: copies image files, or touches the database of a running coordinator except to read.

pub mod backup;
pub mod check;
pub mod restore;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;

use crate::config::Config;

pub use crate::store::sqlite::copy::{Contents, CopiedImage};

/// Tells how many of how many pages are copied.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// The database of a data folder.
fn database(config: &Config) -> PathBuf {
    config.data_dir.join("coordinator.db")
}

fn must_be_there(path: &Path) -> Result<(), Cause> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(storage(format!("{} is no file", path.display()), "name a database")),
        Err(error) => Err(storage(
            format!("{} cannot be opened: {error}", path.display()),
            "check the path, --data-dir and whose user runs this",
        )),
    }
}

fn storage(text: String, advice: &str) -> Cause {
    Cause::new(Reason::StorageError, text).advise(advice)
}

fn io_error(doing: &str, path: &Path, error: &io::Error) -> Cause {
    storage(format!("{}: {doing}: {error}", path.display()), "check the file system and its room")
}

/// An empty file that only its owner may read: bodies hold secrets.
fn private_file(path: &Path) -> Result<(), Cause> {
    let made = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    made.map(drop).map_err(|error| io_error("it cannot be made", path, &error))
}

/// On disk, with its content.
fn sync(path: &Path) -> Result<(), Cause> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .map_err(|error| io_error("it cannot be synced", path, &error))
}

fn sync_folder_of(path: &Path) -> Result<(), Cause> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    sync(folder)
}

/// The same name with something behind it.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// An instant as file names have it: `20261125T183000Z`.
fn stamp(at: Millis) -> String {
    let instant = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
    instant.strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}

/// Images of a catalogue that have no file here, or one of another length.
fn missing_files(config: &Config, images: &[CopiedImage]) -> Vec<ImageDigest> {
    let folder = config.data_dir.join("images");
    let whole = |image: &&CopiedImage| {
        fs::metadata(folder.join(image.digest.to_string())).is_ok_and(|file| file.len() == image.size_bytes)
    };
    images.iter().filter(|image| !whole(image)).map(|image| image.digest).collect()
}
