//! `restore`: a backup in the database's place. The database that was there is kept beside it, with a receipt.
//!
//! ```text
//! lock ─▶ copy, verify, mark ─▶ settle the present one ─▶ receipt ─▶ keep it under another name ─▶ rename over it ─▶ sync
//! ```
//!
//! Cut off before the last rename, the present database is still in place, and the receipt says where its other name
//! is. Afterwards the restored one is, which waits for its hosts before it places anything.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;

use super::{
    Contents, Progress, beside, database, io_error, missing_files, must_be_there, private_file, stamp, sync,
    sync_folder_of,
};
use crate::app::DataLock;
use crate::config::Config;
use crate::store::sqlite::copy::{self, Log};
use crate::store::{About, Act, AuditEntry, StoreError, Word};

/// A restore that was made.
#[derive(Clone, Debug)]
pub struct Restored {
    /// The database that was there, under its new name; none: there was none.
    pub kept: Option<PathBuf>,
    /// What says so.
    pub receipt: PathBuf,
    /// What is in place now.
    pub contents: Contents,
    /// Images of its catalogue whose files are not here.
    pub missing: Vec<ImageDigest>,
}

/// Puts a backup in the database's place.
///
/// # Errors
/// `HELD` while a coordinator runs, or someone reads the database; `STORAGE_ERROR`, `JOURNAL_ERROR` when the backup is not
/// whole or something cannot be written: the present database is in its place then.
pub fn restore(config: &Config, from: &Path, word: Word, told: Progress<'_>) -> Result<Restored, Cause> {
    must_be_there(from)?;
    let _lock = DataLock::take(&config.data_dir).map_err(|error| {
        Cause::new(Reason::Held, format!("{error:#}")).advise("stop the coordinator, then restore")
    })?;
    let place = database(config);
    let fresh = beside(&place, ".restoring");
    let at = word.at;
    private_file(&fresh)?;
    copy::copy(from, &fresh, at, told).map_err(|error| not_whole(from, error))?;
    let detail = format!("from {}", from.display());
    let contents = copy::prepare(
        &fresh,
        &AuditEntry { act: Act::Restore, about: About::default(), detail, word: word.clone() },
    )?;
    sync(&fresh)?;
    let kept =
        fs::symlink_metadata(&place).is_ok().then(|| beside(&place, &format!(".before-{}", stamp(at))));
    if kept.is_some() {
        settle(&place)?;
    }
    let receipt = beside(&place, &format!(".restored-{}.json", stamp(at)));
    write_receipt(&receipt, from, kept.as_deref(), &word)?;
    if let Some(kept) = &kept {
        keep(&place, kept)?;
    }
    fs::rename(&fresh, &place).map_err(|error| io_error("it cannot be renamed", &fresh, &error))?;
    sync_folder_of(&place)?;
    let missing = missing_files(config, &contents.images);
    Ok(Restored { kept, receipt, contents, missing })
}

/// The backup, not the database in place, is what is wrong; nothing was changed yet.
fn not_whole(from: &Path, error: StoreError) -> Cause {
    let cause = Cause::from(error);
    match cause.reason {
        Reason::JournalError => {
            Cause::new(cause.reason, format!("{} cannot be restored from: {}", from.display(), cause.text))
                .advise("take another backup: this one is not whole, or not one; nothing was changed")
        }
        _ => cause,
    }
}

/// Makes the present database one file. Of one that is damaged the log stays, and is kept beside it; of a sound one it must
/// not: without its log it would lack what it was last told, if the restore were cut off there.
fn settle(place: &Path) -> Result<(), Cause> {
    match copy::settle(place) {
        Ok(Log::Written) => Ok(()),
        Ok(Log::InUse) => {
            let text = format!("{} is being read: a backup or a check of it goes on", place.display());
            Err(Cause::new(Reason::Held, text).advise("wait until that is done, then restore"))
        }
        Err(error) => {
            tracing::warn!(%error, "the present database is kept as it is, with its log");
            Ok(())
        }
    }
}

/// Gives the present database a second name, with its log when that could not be written into it.
fn keep(place: &Path, kept: &Path) -> Result<(), Cause> {
    fs::hard_link(place, kept).map_err(|error| io_error("it cannot be kept", place, &error))?;
    for log in ["-wal", "-shm"] {
        let (there, aside) = (beside(place, log), beside(kept, log));
        // The log of one database must never lie beside another.
        match fs::rename(&there, &aside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(io_error("it cannot be kept", &there, &error));
            }
            Ok(()) | Err(_) => {}
        }
    }
    sync_folder_of(place)
}

fn write_receipt(path: &Path, from: &Path, kept: Option<&Path>, word: &Word) -> Result<(), Cause> {
    let Word { who, reason, at } = word;
    let text = serde_json::json!({
        "restored_from": from.display().to_string(),
        "kept": kept.map(|kept| kept.display().to_string()),
        "at": when(*at),
        "who": who,
        "reason": reason,
    });
    private_file(path)?;
    fs::OpenOptions::new()
        .write(true)
        .open(path)
        .and_then(|mut file| {
            writeln!(file, "{text:#}")?;
            file.sync_all()
        })
        .map_err(|error| io_error("it cannot be written", path, &error))?;
    sync_folder_of(path)
}

fn when(at: Millis) -> String {
    jiff::Timestamp::from_millisecond(at.0).unwrap_or_default().to_string()
}
