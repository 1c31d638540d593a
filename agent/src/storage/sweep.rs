//! What was begun and nobody went on with: half-fetched images of the cache.
//!
//! A part is kept for a while, because a retry goes on where it broke. Parts in VM folders are their events' to discard.

use std::fs;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use dewpoint_proto::cause::Cause;
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;

use super::failure::OrFailed;
use super::files::{Files, Inner};
use super::folder::names_in;
use super::layout::PART;

/// How long nothing was added to a part before it is given up.
const KEPT: Duration = Duration::from_secs(24 * 3600);

impl Files {
    /// Deletes half-fetched images that nobody fetches and that nothing was added to for a day; returns how many. To
    /// be called now and then.
    ///
    /// # Errors
    /// `STORAGE_ERROR`.
    pub async fn sweep_images(&self, now: Millis) -> Result<usize, Cause> {
        let abandoned = self.short(move |inner| inner.abandoned(now)).await?;
        let mut swept = 0;
        for digest in abandoned {
            // Whoever fetches the image holds its turn, from before the part is opened until the last write to it.
            let Some(turn) = self.inner.downloads.try_turn(digest) else { continue };
            let removed = self.short(move |inner| {
                let _turn = turn;
                inner.drop_abandoned(digest, now)
            });
            swept += usize::from(removed.await?);
        }
        Ok(swept)
    }
}

impl Inner {
    fn abandoned(&self, now: Millis) -> Result<Vec<ImageDigest>, Cause> {
        let images = self.layout.images();
        let names = names_in(&images).or_failed("list the images", &images)?;
        let mut found = Vec::new();
        for digest in names.iter().filter_map(|name| part_name(name)) {
            if self.is_abandoned(&self.layout.image_part(digest), now)? {
                found.push(digest);
            }
        }
        Ok(found)
    }

    /// Looks again: it may have grown, or become whole, before the turn came.
    fn drop_abandoned(&self, digest: ImageDigest, now: Millis) -> Result<bool, Cause> {
        let path = self.layout.image_part(digest);
        if !self.is_abandoned(&path, now)? {
            return Ok(false);
        }
        self.durable.unlink(&path).or_failed("delete a half-fetched image", &path)?;
        self.sync_if(true, &self.layout.images())?;
        tracing::info!(image = %digest, "a half-fetched image that nobody went on with was deleted");
        Ok(true)
    }

    fn is_abandoned(&self, path: &Path, now: Millis) -> Result<bool, Cause> {
        let found = match fs::symlink_metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            found => found.or_failed("look at a half-fetched image", path)?,
        };
        let changed = found.modified().or_failed("look at a half-fetched image", path)?;
        let changed = changed.duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = Millis(i64::try_from(changed.as_millis()).unwrap_or(i64::MAX));
        Ok(found.is_file() && now >= changed.plus(KEPT))
    }
}

/// The image of a part's name, when it is one that we gave.
fn part_name(name: &str) -> Option<ImageDigest> {
    let whole = name.strip_suffix(PART)?;
    let digest: ImageDigest = whole.parse().ok()?;
    (digest.to_string() == whole).then_some(digest)
}
