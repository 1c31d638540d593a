//! `backup`: a copy of the database as of one instant, whole or not there at all.

use std::fs;
use std::path::{Path, PathBuf};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::time::Millis;

use super::{
    Contents, Progress, beside, database, io_error, must_be_there, private_file, sync, sync_folder_of,
};
use crate::config::Config;
use crate::store::sqlite::copy;

/// A backup that was made.
#[derive(Clone, Debug)]
pub struct Backup {
    /// Where it is.
    pub path: PathBuf,
    /// Of which instant.
    pub taken_at: Millis,
    /// Its length.
    pub bytes: u64,
    /// What is in it.
    pub contents: Contents,
}

/// Copies the database to a new file; a coordinator may run meanwhile. The files of images are not copied.
///
/// # Errors
/// `INVALID` when the file is there already; `STORAGE_ERROR`, `JOURNAL_ERROR` when something cannot be read or
/// written. No file is left then.
pub fn backup(config: &Config, to: &Path, told: Progress<'_>) -> Result<Backup, Cause> {
    let from = database(config);
    must_be_there(&from)?;
    if fs::symlink_metadata(to).is_ok() {
        return Err(Cause::new(Reason::Invalid, format!("{} is there already", to.display()))
            .advise("name a new file: a backup never replaces another")
            .with("path", to.display()));
    }
    let part = beside(to, ".part");
    let made = copied(&from, &part, to, told);
    if made.is_err() {
        // It may not be there, and says nothing: the error does.
        let _ = fs::remove_file(&part);
    }
    made
}

fn copied(from: &Path, part: &Path, to: &Path, told: Progress<'_>) -> Result<Backup, Cause> {
    private_file(part)?;
    let taken_at = Millis::now();
    let contents = copy::copy(from, part, taken_at, told)?;
    sync(part)?;
    let bytes = fs::metadata(part).map_err(|error| io_error("it cannot be read", part, &error))?.len();
    fs::rename(part, to).map_err(|error| io_error("it cannot be renamed", part, &error))?;
    sync_folder_of(to)?;
    Ok(Backup { path: to.to_owned(), taken_at, bytes, contents })
}
