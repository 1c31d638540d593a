//! One upload: bytes appended to `<digest>.part`, verified, inspected, synced, and only then renamed.
//!
//! A digest has one writer at a time. Between the requests of one upload its running hash is kept in memory; after a
//! restart, or when too many wait, the part is hashed again from its bytes.

use std::collections::hash_map::Entry;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use dewpoint_common::image::{Shape, inspect};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::limits;
use dewpoint_proto::spec::ImageDigest;
use futures::{Stream, StreamExt};
use sha2::{Digest, Sha256};

use super::range::Brought;
use super::{Images, blocking, disk_full, storage_error};

/// What became of the bytes of one request.
#[derive(Debug)]
pub(super) enum Stored {
    /// The image is whole and verified, by this request or before it.
    Whole(Shape),
    /// Stored, and more is missing.
    Part {
        /// Where the next request must begin.
        offset: u64,
    },
}

/// Why the bytes of one request were not all taken.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The request itself is wrong.
    Invalid(Cause),
    /// Another request writes this image.
    Locked(Cause),
    /// Too many uploads at a time.
    TooMany(Cause),
    /// It does not begin where the part ends.
    WrongOffset(u64),
    /// The bytes are not the digest's, or no image that can be taken; the part is gone.
    Image(Cause),
    /// No room; the part stays.
    Full(Cause, u64),
    /// No byte came for too long; the part stays.
    Stalled(Cause, u64),
    /// The connection broke, or brought more or less than it said; the part stays.
    Broken(Cause, u64),
    /// A file operation failed.
    Storage(Cause),
}

impl Refusal {
    fn storage(cause: Cause, offset: u64) -> Self {
        if cause.reason == Reason::DiskFull { Self::Full(cause, offset) } else { Self::Storage(cause) }
    }
}

/// Takes the bytes of one request.
///
/// # Errors
/// [`Refusal`], which says what of the part is left.
pub(super) async fn receive<S, E>(
    images: &Arc<Images>,
    digest: ImageDigest,
    brought: Brought,
    body: S,
) -> Result<Stored, Refusal>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    if brought.total > *limits::IMAGE_BYTES.end() {
        return Err(Refusal::Invalid(
            Cause::new(Reason::TooLarge, format!("the image has {} bytes", brought.total))
                .advise("an image has at most 16 TiB"),
        ));
    }
    let found = images.find(digest).await.map_err(Refusal::Storage)?;
    if let Some(inspected) = found {
        return Ok(Stored::Whole(inspected));
    }
    let _permit = images.writers.try_acquire().map_err(|_| Refusal::TooMany(too_many(images)))?;
    let claim = Claim::take(images, digest).ok_or_else(|| Refusal::Locked(locked(digest)))?;
    let part = blocking(move || Part::open(claim)).await.map_err(Refusal::Storage)?;
    if part.offset != brought.start {
        return Err(Refusal::WrongOffset(part.offset));
    }
    images.check_room(brought.total - brought.start).map_err(|cause| Refusal::storage(cause, part.offset))?;
    let part = append(images, part, brought, body).await?;
    if part.offset < brought.total {
        let (offset, synced) =
            blocking(move || Ok((part.offset, part.sync()))).await.map_err(Refusal::Storage)?;
        synced.map_err(|cause| Refusal::storage(cause, offset))?;
        return Ok(Stored::Part { offset });
    }
    finish(part).await.map(Stored::Whole)
}

/// Nobody else looks into what is not verified.
const PART_MODE: u32 = 0o600;
/// Bytes gathered before they are hashed and written.
const GATHER: usize = 1024 * 1024;

/// Appends what the body brings, up to the end of its range.
async fn append<S, E>(images: &Images, mut part: Part, brought: Brought, mut body: S) -> Result<Part, Refusal>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    let mut gathered = BytesMut::with_capacity(GATHER);
    let mut left = brought.end - brought.start;
    while left > 0 {
        let next = tokio::time::timeout(images.settings.stall, body.next()).await;
        let stalled = next.is_err();
        let problem = match next {
            Ok(Some(Ok(chunk))) if chunk.len() as u64 <= left => {
                left -= chunk.len() as u64;
                gathered.extend_from_slice(&chunk);
                None
            }
            Ok(Some(Ok(_))) => Some("more bytes came than the range has".to_owned()),
            Ok(Some(Err(error))) => Some(format!("the connection broke: {error}")),
            Ok(None) => Some(format!("{left} bytes of the range did not come")),
            Err(_) => Some(format!("no byte came for {} s", images.settings.stall.as_secs())),
        };
        if gathered.len() >= GATHER || left == 0 || problem.is_some() {
            part = part.write(gathered.split().freeze()).await?;
        }
        if let Some(text) = problem {
            let cause = Cause::new(Reason::Invalid, text).advise("go on from Upload-Offset");
            let refusal = if stalled { Refusal::Stalled } else { Refusal::Broken };
            return Err(refusal(cause, part.offset));
        }
    }
    Ok(part)
}

/// Verifies, inspects and names the file.
async fn finish(part: Part) -> Result<Shape, Refusal> {
    let offset = part.offset;
    blocking(move || {
        let mut part = part;
        let verdict = part.verify().and_then(|()| inspect(&part.file));
        Ok(match verdict {
            Ok(inspected) => part.publish().map(|()| inspected).map_err(|c| Refusal::storage(c, offset)),
            Err(cause) if matches!(cause.reason, Reason::DigestMismatch | Reason::ImageRefused) => {
                part.discard().map_err(Refusal::Storage).and(Err(Refusal::Image(cause)))
            }
            Err(cause) => Err(Refusal::Storage(cause)),
        })
    })
    .await
    .map_err(Refusal::Storage)?
}

/// Whether a digest is being written; if not, how far its part is hashed.
#[derive(Debug)]
pub(super) enum Slot {
    /// One writer has it.
    Writing,
    /// Bytes `..upto` of the part are hashed.
    Waiting { hash: Sha256, upto: u64 },
}

/// Hashes kept for parts that wait; beyond it they are hashed again from their bytes.
const WAITING: usize = 256;

/// The right to write one digest; given back when dropped, whoever drops it.
pub(super) struct Claim {
    images: Arc<Images>,
    digest: ImageDigest,
    /// The hash of the part's first bytes, and how many.
    hashed: Option<(Sha256, u64)>,
}

impl Claim {
    /// None: another has it.
    pub(super) fn take(images: &Arc<Images>, digest: ImageDigest) -> Option<Self> {
        let hashed = match images.slots().entry(digest) {
            Entry::Occupied(mut slot) => match slot.insert(Slot::Writing) {
                Slot::Writing => return None,
                Slot::Waiting { hash, upto } => Some((hash, upto)),
            },
            Entry::Vacant(slot) => {
                slot.insert(Slot::Writing);
                None
            }
        };
        Some(Self { images: Arc::clone(images), digest, hashed })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut slots = self.images.slots();
        slots.remove(&self.digest);
        if let Some((hash, upto)) = self.hashed.take()
            && slots.len() < WAITING
        {
            slots.insert(self.digest, Slot::Waiting { hash, upto });
        }
    }
}

/// The part of an image that is there. It holds the claim, so that file work that outlives its request keeps others
/// out until it is done.
struct Part {
    claim: Claim,
    file: File,
    offset: u64,
}

impl Part {
    fn open(mut claim: Claim) -> Result<Self, Cause> {
        let failed = |e: &io::Error| storage_error("a part of an image cannot be opened", e);
        let mut file = claim.images.open_part(claim.digest).map_err(|e| failed(&e))?;
        let offset = file.seek(SeekFrom::End(0)).map_err(|e| failed(&e))?;
        if offset == 0 {
            claim.hashed = Some((Sha256::new(), 0));
        }
        claim.hashed = claim.hashed.take().filter(|(_, upto)| *upto == offset);
        Ok(Self { claim, file, offset })
    }

    /// Hashes and writes; after a failure the part ends where it ended before.
    async fn write(mut self, bytes: Bytes) -> Result<Self, Refusal> {
        let offset = self.offset;
        blocking(move || {
            if let Err(error) = self.file.write_all(&bytes) {
                // What cannot be cut off is found by the hash at the end.
                let cut = self.file.set_len(self.offset);
                tracing::debug!(?cut, %error, "an image's bytes could not be written");
                return Err(storage_error("an image's bytes cannot be written", &error));
            }
            self.offset += bytes.len() as u64;
            if let Some((hash, upto)) = &mut self.claim.hashed {
                hash.update(&bytes);
                *upto = self.offset;
            }
            Ok(self)
        })
        .await
        .map_err(|cause| Refusal::storage(cause, offset))
    }

    fn sync(&self) -> Result<(), Cause> {
        let images = &self.claim.images;
        images
            .durable
            .sync(&images.part_path(self.claim.digest), &self.file)
            .and_then(|()| images.durable.sync_dir(&images.settings.folder))
            .map_err(|e| storage_error("a part of an image cannot be synced", &e))
    }

    fn verify(&mut self) -> Result<(), Cause> {
        let hash = match self.claim.hashed.take() {
            Some((hash, _)) => hash,
            None => {
                hash_file(&mut self.file).map_err(|e| storage_error("an image cannot be read back", &e))?
            }
        };
        let found = ImageDigest(hash.finalize().into());
        if found == self.claim.digest {
            return Ok(());
        }
        Err(Cause::new(Reason::DigestMismatch, format!("the bytes sent have the digest {found}"))
            .advise("send the file again; if it fails again, compute its digest again with sha256sum")
            .with("expected", self.claim.digest)
            .with("found", found))
    }

    /// Gives the file its name, for good.
    fn publish(self) -> Result<(), Cause> {
        let images = &self.claim.images;
        let (part, path) = (images.part_path(self.claim.digest), images.path(self.claim.digest));
        let named = self
            .file
            .set_permissions(Permissions::from_mode(0o440))
            .and_then(|()| images.durable.sync(&part, &self.file))
            .and_then(|()| images.durable.take_name(&part, &path));
        match named {
            // Another writer was first, with the same bytes.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => images.remove_file(&part).map(drop),
            named => named.map_err(|e| storage_error("an image cannot be synced and named", &e)),
        }
    }

    fn discard(mut self) -> Result<(), Cause> {
        self.claim.hashed = None;
        self.claim.images.remove_file(&self.claim.images.part_path(self.claim.digest)).map(|_| ())
    }
}

fn hash_file(file: &mut File) -> io::Result<Sha256> {
    file.seek(SeekFrom::Start(0))?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; GATHER];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hash),
            read => hash.update(&buffer[..read]),
        }
    }
}

impl Images {
    fn open_part(&self, digest: ImageDigest) -> io::Result<File> {
        let path = self.part_path(digest);
        let mut options = OpenOptions::new();
        match options.read(true).write(true).custom_flags(nix::libc::O_NOFOLLOW).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.durable.create(&path, PART_MODE),
            opened => opened,
        }
    }

    /// Length of what is there of an image that is not whole; none: nothing.
    pub(super) async fn part_length(self: &Arc<Self>, digest: ImageDigest) -> Result<Option<u64>, Cause> {
        let path = self.part_path(digest);
        blocking(move || match fs::metadata(path) {
            Ok(found) => Ok(Some(found.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(storage_error("a part of an image cannot be seen", &error)),
        })
        .await
    }

    /// Refuses an upload that would fill the disk that the store is on as well.
    fn check_room(&self, more: u64) -> Result<(), Cause> {
        let seen = nix::sys::statvfs::statvfs(&self.settings.folder)
            .map_err(|e| storage_error("the image folder's disk cannot be seen", &e.into()))?;
        let free = seen.blocks_available().saturating_mul(seen.fragment_size());
        if more.saturating_add(self.settings.keep_free) <= free {
            return Ok(());
        }
        Err(disk_full(format!(
            "{more} bytes do not fit: {free} are free, of which {} are kept",
            self.settings.keep_free
        ))
        .with("free_bytes", free)
        .with("needed_bytes", more))
    }
}

fn locked(digest: ImageDigest) -> Cause {
    Cause::new(Reason::TooBusy, format!("image {digest} is being uploaded by another"))
        .advise("wait until that upload has ended, then ask again with HEAD")
}

fn too_many(images: &Images) -> Cause {
    Cause::new(Reason::TooBusy, format!("{} images are being uploaded already", images.settings.uploads))
        .advise("try again when one has ended")
}
