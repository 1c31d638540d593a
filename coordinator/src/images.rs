//! The files of the image catalogue: `<data>/images/<sha256>`, and `<sha256>.part` while one is being uploaded.
//!
//! Owns that folder. A file bears its digest only once its bytes were verified, inspected and synced, and is never
//! changed after. Files come before catalogue rows, and go after them: a file without a row is harmless, a row
//! without a file is not. Never: names tags (the store does), opens an image with QEMU, deletes a whole image by
//! itself (one may be a snapshot whose report is still on its way).

mod http;
mod range;
mod upload;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use dewpoint_common::durable::{Durable, PART, Witness, part_of};
use dewpoint_common::image::{Shape, inspect};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::ImageDigest;
use tokio::sync::Semaphore;

pub use http::{listen, routes};

/// How the image files are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder; made when missing.
    pub folder: PathBuf,
    /// Bytes left free on its file system, for the store beside it: uploads that would take them are refused.
    pub keep_free: u64,
    /// An upload that brings no byte for this long is ended.
    pub stall: Duration,
    /// What was uploaded of an image is deleted when nothing was added for this long.
    pub part_lifetime: Duration,
    /// Uploads at a time.
    pub uploads: usize,
    /// Downloads at a time.
    pub downloads: usize,
}

impl Settings {
    /// The defaults, for one folder.
    #[must_use]
    pub fn at(folder: PathBuf) -> Self {
        Self {
            folder,
            keep_free: 1 << 30,
            stall: Duration::from_secs(30),
            part_lifetime: Duration::from_secs(24 * 3600),
            uploads: 16,
            downloads: 128,
        }
    }
}

/// Others may look into the folder, and read no image.
const FOLDER_MODE: u32 = 0o750;

/// The image files. Cheap to share.
pub struct Images {
    settings: Settings,
    durable: Durable,
    /// Digests being written, and the hashes of parts that wait for more.
    uploads: Mutex<HashMap<ImageDigest, upload::Slot>>,
    writers: Arc<Semaphore>,
    readers: Arc<Semaphore>,
    catalogue: tokio::sync::Mutex<()>,
}

impl Images {
    /// Opens the folder, making it when missing.
    ///
    /// # Errors
    /// `STORAGE_ERROR` when it cannot be made.
    pub fn open(settings: Settings) -> Result<Arc<Self>, Cause> {
        Self::open_witnessed(settings, None)
    }

    /// The same, with somebody who sees every change before it is made.
    pub(crate) fn open_witnessed(
        settings: Settings,
        witness: Option<Arc<dyn Witness>>,
    ) -> Result<Arc<Self>, Cause> {
        // The folder's own name lasts, too: rows of the store beside it name files in it.
        let beside = settings.folder.parent().unwrap_or(&settings.folder);
        let durable = Durable::new(beside.to_owned(), None, witness);
        fs::create_dir_all(beside)
            .and_then(|()| durable.make_dir(&settings.folder, FOLDER_MODE))
            // A coordinator that was killed may have named a file, and not synced that.
            .and_then(|()| durable.sync_dir(&settings.folder))
            .map_err(|e| storage_error("the image folder cannot be made", &e))?;
        Ok(Arc::new(Self {
            writers: Arc::new(Semaphore::new(settings.uploads)),
            readers: Arc::new(Semaphore::new(settings.downloads)),
            uploads: Mutex::default(),
            catalogue: tokio::sync::Mutex::default(),
            settings,
            durable,
        }))
    }

    /// What is known of a whole image; none: it is not here, or not whole.
    ///
    /// # Errors
    /// `STORAGE_ERROR` when the file cannot be read, `IMAGE_REFUSED` when it is not what was once accepted.
    pub async fn find(self: &Arc<Self>, digest: ImageDigest) -> Result<Option<Shape>, Cause> {
        let path = self.path(digest);
        blocking(move || match File::open(&path) {
            Ok(file) => inspect(&file).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(storage_error("an image cannot be opened", &error)),
        })
        .await
    }

    /// Held while a catalogue row and its file change together.
    pub async fn catalogue(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.catalogue.lock().await
    }

    /// Whether an image is here, whole.
    ///
    /// # Errors
    /// `STORAGE_ERROR` when the folder cannot be read.
    pub async fn is_there(self: &Arc<Self>, digest: ImageDigest) -> Result<bool, Cause> {
        let path = self.path(digest);
        blocking(move || path.try_exists().map_err(|e| storage_error("an image cannot be looked for", &e)))
            .await
    }

    /// Deletes an image's bytes. Whoever calls has removed the catalogue's rows before. False: there were none.
    ///
    /// # Errors
    /// `STORAGE_ERROR` when they cannot be deleted.
    pub async fn remove(self: &Arc<Self>, digest: ImageDigest) -> Result<bool, Cause> {
        let images = Arc::clone(self);
        blocking(move || images.remove_file(&images.path(digest))).await
    }

    /// Deletes parts of uploads that nobody went on with; returns how many.
    ///
    /// # Errors
    /// `STORAGE_ERROR` when the folder cannot be read.
    pub async fn sweep(self: &Arc<Self>, now: SystemTime) -> Result<usize, Cause> {
        let images = Arc::clone(self);
        blocking(move || images.sweep_parts(now)).await
    }

    fn sweep_parts(self: &Arc<Self>, now: SystemTime) -> Result<usize, Cause> {
        let unreadable = |e: &io::Error| storage_error("the image folder cannot be read", e);
        let mut swept = 0;
        for entry in fs::read_dir(&self.settings.folder).map_err(|e| unreadable(&e))? {
            let entry = entry.map_err(|e| unreadable(&e))?;
            let name = entry.file_name();
            let digest = name.to_str().and_then(|n| n.strip_suffix(PART)).and_then(|d| d.parse().ok());
            let Some(digest) = digest else { continue };
            let modified = entry.metadata().and_then(|m| m.modified()).map_err(|e| unreadable(&e))?;
            let age = now.duration_since(modified).unwrap_or(Duration::ZERO);
            if age < self.settings.part_lifetime {
                continue;
            }
            // Holding the digest keeps a writer from opening the part while it goes.
            if let Some(_claim) = upload::Claim::take(self, digest)
                && self.remove_file(&entry.path())?
            {
                swept += 1;
                tracing::info!(%digest, age_seconds = age.as_secs(), "an abandoned upload was deleted");
            }
        }
        Ok(swept)
    }

    fn remove_file(&self, path: &Path) -> Result<bool, Cause> {
        let removed =
            self.durable.unlink(path).map_err(|error| storage_error("an image cannot be deleted", &error))?;
        if removed {
            self.sync_folder()?;
        }
        Ok(removed)
    }

    /// Makes names that were added or removed last.
    fn sync_folder(&self) -> Result<(), Cause> {
        self.durable
            .sync_dir(&self.settings.folder)
            .map_err(|e| storage_error("the image folder cannot be synced", &e))
    }

    fn path(&self, digest: ImageDigest) -> PathBuf {
        self.settings.folder.join(digest.to_string())
    }

    fn part_path(&self, digest: ImageDigest) -> PathBuf {
        part_of(&self.path(digest))
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<ImageDigest, upload::Slot>> {
        // Each change of the map is one insert or remove, so a panic elsewhere leaves it whole.
        self.uploads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs file work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Cause> + Send + 'static,
) -> Result<T, Cause> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Cause::new(Reason::Internal, format!("work on an image file died: {error}")))
    })
}

fn storage_error(what: &str, error: &io::Error) -> Cause {
    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
        return disk_full(format!("{what}: {error}"));
    }
    Cause::new(Reason::StorageError, format!("{what}: {error}")).advise("check the coordinator's disk")
}

fn disk_full(text: String) -> Cause {
    Cause::new(Reason::DiskFull, text).advise(
        "remove images that are no longer used (`dewpoint image remove`), or give the coordinator more disk",
    )
}

#[cfg(test)]
mod tests;
