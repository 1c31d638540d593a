//! The image cache within its budget: what nobody uses goes, the least recently used first, with a receipt.
//!
//! An image that disks or snapshots rest on, which its link count tells, is theirs: it does not count, and never goes.
//! Nor does one that is fetched, uploaded or made a disk of, or that was used in the last minutes, for an event that
//! fetched it may be about to. The file's time of change says when an image was last used; its content never changes.

use std::collections::HashMap;
use std::fs::{self, File, FileTimes};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::HostId;
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;
use serde::Serialize;

use super::failure::OrFailed;
use super::files::{Files, Inner};
use super::folder::names_in;
use super::recycle::Why;

/// Between the steps of an event: fetched, and not yet made a disk of.
const IN_HAND: Duration = Duration::from_secs(600);

/// Images that someone works with now.
#[derive(Default)]
pub(super) struct InUse(Mutex<HashMap<ImageDigest, Arc<()>>>);

/// Keeps an image in the cache until dropped.
pub(super) struct Using(#[expect(dead_code, reason = "held for its count")] Arc<()>);

impl InUse {
    pub(super) fn using(&self, digest: ImageDigest) -> Using {
        let mut all = self.all();
        all.retain(|_, it| Arc::strong_count(it) > 1);
        Using(Arc::clone(all.entry(digest).or_default()))
    }

    fn is_used(&self, digest: ImageDigest) -> bool {
        self.all().get(&digest).is_some_and(|it| Arc::strong_count(it) > 1)
    }

    fn all(&self) -> MutexGuard<'_, HashMap<ImageDigest, Arc<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An image that nobody uses.
#[derive(Clone, Debug)]
pub(super) struct Spare {
    digest: ImageDigest,
    path: PathBuf,
    last_used: Millis,
    /// Bytes that come free with it.
    pub(super) frees: u64,
}

/// What is known of an image that left the cache.
#[derive(Serialize)]
struct ImageReceipt {
    host: HostId,
    image: ImageDigest,
    size_bytes: u64,
    last_used_at: Millis,
}

impl Files {
    /// Deletes images that nobody uses, the least recently used first, until the cache is within its budget; returns
    /// how many. To be called now and then.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    pub async fn sweep_cache(&self) -> Result<usize, Cause> {
        self.keep_image_budget(0).await
    }

    /// The same, with so many bytes about to come.
    pub(super) async fn keep_image_budget(&self, coming: u64) -> Result<usize, Cause> {
        self.short(move |inner| inner.keep_image_budget(coming)).await
    }
}

impl Inner {
    fn keep_image_budget(&self, coming: u64) -> Result<usize, Cause> {
        let spare = self.spare_images()?;
        let mut taken = spare.iter().map(|image| image.frees).sum::<u64>().saturating_add(coming);
        let mut gone = 0;
        for image in spare {
            if taken <= self.settings.image_bytes {
                break;
            }
            if self.evict(&image, Why::Budget)? {
                taken = taken.saturating_sub(image.frees);
                gone += 1;
            }
        }
        Ok(gone)
    }

    /// Deletes the least recently used image that nobody uses; false: there is none.
    pub(super) fn evict_oldest(&self, why: Why) -> Result<bool, Cause> {
        for image in self.spare_images()? {
            if self.evict(&image, why)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Images that nobody uses, the least recently used first.
    pub(super) fn spare_images(&self) -> Result<Vec<Spare>, Cause> {
        let folder = self.layout.images();
        let names = names_in(&folder).or_failed("list the images", &folder)?;
        let mut spare = Vec::new();
        for digest in names.iter().filter_map(|name| whole_name(name)) {
            spare.extend(self.spare_one(digest).or_failed("look at an image", &self.layout.image(digest))?);
        }
        spare.sort_by_key(|image| (image.last_used, image.digest));
        Ok(spare)
    }

    /// Notes that an image is used now; it was not deleted before, and will not be in the next minutes.
    pub(super) fn note_use(&self, digest: ImageDigest) {
        let _images = self.images();
        let path = self.layout.image(digest);
        let now = UNIX_EPOCH + Duration::from_millis(u64::try_from(self.clock.wall().0).unwrap_or(0));
        let noted = File::open(&path).and_then(|file| file.set_times(FileTimes::new().set_modified(now)));
        // Where it cannot be noted nothing can be deleted either.
        if let Err(error) = noted.or_else(gone_is_fine) {
            tracing::debug!(image = %digest, %error, "the use of an image could not be noted");
        }
    }

    /// None: it is in use, or gone.
    fn spare_one(&self, digest: ImageDigest) -> io::Result<Option<Spare>> {
        let path = self.layout.image(digest);
        let found = match fs::symlink_metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found?,
        };
        let last_used = Millis(found.mtime().saturating_mul(1000));
        let in_hand = last_used.plus(IN_HAND) > self.clock.wall();
        if !found.is_file() || found.nlink() > 1 || in_hand || self.in_use.is_used(digest) {
            return Ok(None);
        }
        Ok(Some(Spare { digest, path, last_used, frees: found.blocks() * 512 }))
    }

    /// Looks again, with the image's turn: it may have come into use meanwhile.
    fn evict(&self, image: &Spare, why: Why) -> Result<bool, Cause> {
        let Some(_turn) = self.downloads.try_turn(image.digest) else { return Ok(false) };
        let _images = self.images();
        if self.spare_one(image.digest).or_failed("look at an image", &image.path)?.is_none() {
            return Ok(false);
        }
        let receipt = ImageReceipt {
            host: self.settings.host,
            image: image.digest,
            size_bytes: image.frees,
            last_used_at: image.last_used,
        };
        tracing::info!(image = %image.digest, ?why, size_bytes = image.frees, "image deleted from the cache");
        self.with_line(why, &receipt, || {
            self.durable
                .unlink(&image.path)
                .and_then(|_| self.durable.sync_dir(&self.layout.images()))
                .or_failed("delete an image", &image.path)
        })?;
        Ok(true)
    }

    /// Between looking whether an image is in use and deleting it, nobody begins to use it.
    fn images(&self) -> MutexGuard<'_, ()> {
        self.images.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The image of a whole file's name, when it is one that we gave.
fn whole_name(name: &str) -> Option<ImageDigest> {
    let digest: ImageDigest = name.parse().ok()?;
    (digest.to_string() == name).then_some(digest)
}

fn gone_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}
