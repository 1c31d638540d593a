//! The image cache: one download for all that want an image, and nothing under a final name that was not verified.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dewpoint_common::image::{self, Shape};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::{ImageDigest, ImageRef};
use tokio::sync::OwnedMutexGuard;

use super::durable::{IMAGE_MODE, is_file, open};
use super::failure::OrFailed;
use super::files::{Files, Inner};
use super::inspect::{check_size, inspect};
use super::layout::part_of;
use super::part::Part;
use super::space::Place;
use super::{ImageServer, JobProgress, Seen};

/// How often those who share a download look at its progress.
const LOOK: Duration = Duration::from_millis(200);

/// The downloads under way.
#[derive(Default)]
pub(super) struct Downloads(Mutex<HashMap<ImageDigest, Arc<Download>>>);

#[derive(Default)]
struct Download {
    lock: Arc<tokio::sync::Mutex<()>>,
    progress: JobProgress,
    failures: Mutex<(u64, Option<Cause>)>,
}

impl Downloads {
    fn of(&self, digest: ImageDigest) -> Arc<Download> {
        let mut downloads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The lock is also held by a blocking thread whose caller has gone away.
        downloads.retain(|_, it| Arc::strong_count(it) > 1 || Arc::strong_count(&it.lock) > 1);
        Arc::clone(downloads.entry(digest).or_default())
    }

    /// Waits for an image's turn.
    pub(super) async fn turn(&self, digest: ImageDigest) -> OwnedMutexGuard<()> {
        Arc::clone(&self.of(digest).lock).lock_owned().await
    }

    /// The turn of an image that nobody fetches now; whoever wants to, waits for it.
    pub(super) fn try_turn(&self, digest: ImageDigest) -> Option<OwnedMutexGuard<()>> {
        Arc::clone(&self.of(digest).lock).try_lock_owned().ok()
    }
}

impl Download {
    fn failures(&self) -> u64 {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// What the download that we waited for failed of: it would fail us just so.
    fn failed_since(&self, before: u64) -> Option<Cause> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.0 == before { None } else { failures.1.clone() }
    }

    fn record(&self, cause: &Cause) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        *failures = (failures.0 + 1, Some(cause.clone()));
    }
}

impl Files {
    pub(super) async fn cached(&self, digest: ImageDigest) -> Seen<()> {
        let found = self.short(move |inner| inner.is_cached(digest)).await;
        match found {
            Ok(true) => Seen::There(()),
            Ok(false) => Seen::Absent,
            Err(cause) => Seen::Unknown(cause.text),
        }
    }

    pub(super) async fn fetch(
        &self,
        image: &ImageRef,
        from: Option<&ImageServer>,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        let download = self.inner.downloads.of(image.digest);
        let _using = self.inner.in_use.using(image.digest);
        let before = download.failures();
        let lock = Arc::clone(&download.lock);
        let turn = mirrored(&download.progress, progress, lock.lock_owned()).await;
        if let Some(cause) = download.failed_since(before) {
            return Err(cause);
        }
        let work = Box::pin(self.fetch_alone(image, from, &download.progress, turn));
        let done = mirrored(&download.progress, progress, work).await;
        done.inspect_err(|cause| download.record(cause))
    }

    /// With the image's lock held: `turn` goes into the file that is written, and so outlives a caller who gives up.
    async fn fetch_alone(
        &self,
        image: &ImageRef,
        from: Option<&ImageServer>,
        progress: &JobProgress,
        turn: OwnedMutexGuard<()>,
    ) -> Result<(), Cause> {
        let wanted = image.clone();
        if self.short(move |inner| inner.has(&wanted)).await? {
            progress.set(image.size_bytes, image.size_bytes);
            return Ok(());
        }
        let part = Part::open(self, image, turn, progress).await?;
        self.keep_image_budget(image.size_bytes).await?;
        self.make_room(Place::Images, image.size_bytes.saturating_sub(part.length()), "the image").await?;
        self.fill(&part, image, from, progress).await?;
        self.accept(&part, image).await
    }

    /// Until the digest is right. A part from before may have been spoiled by power loss: it is given up once.
    async fn fill(
        &self,
        part: &Part,
        image: &ImageRef,
        from: Option<&ImageServer>,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        let resumed = part.length() > 0;
        let mut brought = self.bring(part, image, from, progress).await;
        if resumed && brought.as_ref().is_err_and(|cause| cause.reason == Reason::DigestMismatch) {
            tracing::warn!(image = %image.digest, "a half-fetched image was spoiled; fetching it anew");
            part.restart(self).await?;
            brought = self.bring(part, image, from, progress).await;
        }
        if let Err(cause) = &brought
            && matches!(cause.reason, Reason::DigestMismatch | Reason::DiskFull)
        {
            part.give_up(self).await?;
        }
        brought
    }

    async fn bring(
        &self,
        part: &Part,
        image: &ImageRef,
        from: Option<&ImageServer>,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        let brought = match (&image.local_path, from) {
            (Some(path), _) => self.copy_local(part, Path::new(path), image, progress).await,
            (None, Some(server)) => self.download(part, server, image, progress).await,
            (None, None) => Err(Cause::new(
                Reason::ImageUnavailable,
                format!(
                    "{} is not in this host's cache, and there is no server to fetch it from",
                    image.digest
                ),
            )
            .advise("connect the agent to its coordinator, or name a local file in the event")),
        };
        brought.and_then(|()| part.verify(image))
    }

    /// A verified part is looked into, and takes the image's name.
    async fn accept(&self, part: &Part, image: &ImageRef) -> Result<(), Cause> {
        let path = part_of(&self.inner.layout.image(image.digest));
        let looked = inspect(&self.inner.qemu_img, &path, image).await;
        if let Err(cause) = looked {
            if cause.reason == Reason::ImageRefused {
                part.give_up(self).await?;
            }
            return Err(cause);
        }
        let (part, digest) = (part.clone(), image.digest);
        self.blocking(move |inner| {
            let _held = part;
            inner.name_image(&path, digest)
        })
        .await
    }
}

impl Inner {
    /// Gives a verified `.part` the image's name.
    fn name_image(&self, part: &Path, digest: ImageDigest) -> Result<(), Cause> {
        let path = self.layout.image(digest);
        self.durable
            .sync_path(part, IMAGE_MODE)
            .and_then(|()| self.durable.take_name(part, &path))
            .or_failed("name the fetched image", &path)
    }

    pub(super) fn is_cached(&self, digest: ImageDigest) -> Result<bool, Cause> {
        let path = self.layout.image(digest);
        is_file(&path).or_failed("look for the image", &path)
    }

    /// The format and size of an image of the cache.
    pub(super) fn image_shape(&self, digest: ImageDigest) -> Result<Shape, Cause> {
        let path = self.layout.image(digest);
        image::inspect(&open(&path).or_failed("open the image", &path)?)
    }

    fn has(&self, image: &ImageRef) -> Result<bool, Cause> {
        if !self.is_cached(image.digest)? {
            return Ok(false);
        }
        check_size(&self.image_shape(image.digest)?, image)?;
        self.note_use(image.digest);
        Ok(true)
    }
}

/// Waits for `work`, showing meanwhile how far the shared download is.
async fn mirrored<T>(shared: &JobProgress, shown: &JobProgress, work: impl Future<Output = T>) -> T {
    let mut look = tokio::time::interval(LOOK);
    let mut work = std::pin::pin!(work);
    loop {
        let done = tokio::select! {
            done = &mut work => Some(done),
            _ = look.tick() => None,
        };
        let (bytes, total) = shared.get();
        shown.set(bytes, total);
        if let Some(done) = done {
            return done;
        }
    }
}
