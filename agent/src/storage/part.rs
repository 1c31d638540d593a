//! An image that is being fetched: a `.part` file, hashed as it grows, resumed by hashing again what is there.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::ImageRef;
use nix::libc;
use sha2::{Digest, Sha256};
use tokio::sync::OwnedMutexGuard;

use super::JobProgress;
use super::durable::{OWN_MODE, is_file};
use super::failure::{OrFailed, failed};
use super::files::{Files, Inner};
use super::layout::part_of;

/// What one turn on a blocking thread reads and hashes. Small: what a thread asked for once, its part of the heap keeps.
pub(super) const STEP: usize = 256 * 1024;
/// Zeros of this length are left as a hole.
const BLOCK: usize = 64 * 1024;

/// A growing file; clones are the same one.
#[derive(Clone)]
pub(super) struct Part(Arc<Mutex<Growing>>);

struct Growing {
    file: File,
    path: PathBuf,
    hasher: Sha256,
    length: u64,
    /// Held until the last one who might still write is done.
    _turn: OwnedMutexGuard<()>,
}

impl Part {
    /// Opens what an earlier attempt left, or begins. More than the image's size is never kept.
    pub(super) async fn open(
        files: &Files,
        image: &ImageRef,
        turn: OwnedMutexGuard<()>,
        progress: &JobProgress,
    ) -> Result<Self, Cause> {
        let (path, size) = (part_of(&files.inner.layout.image(image.digest)), image.size_bytes);
        let part = files
            .short(move |inner| {
                let file = open_part(inner, &path, size).or_failed("open the half-fetched image", &path)?;
                let growing = Growing { file, path, hasher: Sha256::new(), length: 0, _turn: turn };
                Ok(Self(Arc::new(Mutex::new(growing))))
            })
            .await?;
        while part.hash_more(files).await? {
            progress.set(part.length(), size);
        }
        Ok(part)
    }

    /// Bytes that are there and hashed.
    pub(super) fn length(&self) -> u64 {
        self.growing().length
    }

    /// Adds bytes, on the calling thread.
    pub(super) fn append(&self, bytes: &[u8]) -> Result<(), Cause> {
        let mut growing = self.growing();
        growing.append(bytes).map_err(|error| failed("write the image", &growing.path, &error))
    }

    /// Empties it.
    pub(super) async fn restart(&self, files: &Files) -> Result<(), Cause> {
        let part = self.clone();
        files
            .short(move |_| {
                let mut growing = part.growing();
                growing
                    .file
                    .set_len(0)
                    .map_err(|error| failed("begin the image anew", &growing.path, &error))?;
                growing.length = 0;
                growing.hasher = Sha256::new();
                Ok(())
            })
            .await
    }

    /// Removes it: nothing of it is worth keeping.
    pub(super) async fn give_up(&self, files: &Files) -> Result<(), Cause> {
        self.restart(files).await?;
        let part = self.clone();
        files
            .short(move |inner| {
                let path = part.growing().path.clone();
                inner.durable.unlink(&path).or_failed("remove the image", &path)?;
                let images = inner.layout.images();
                inner.durable.sync_dir(&images).or_failed("remove the image", &images)
            })
            .await
    }

    /// Whether what is there is the image.
    pub(super) fn verify(&self, image: &ImageRef) -> Result<(), Cause> {
        let growing = self.growing();
        let found: [u8; 32] = growing.hasher.clone().finalize().into();
        if growing.length == image.size_bytes && found == image.digest.0 {
            return Ok(());
        }
        Err(Cause::new(
            Reason::DigestMismatch,
            format!("the image fetched has the SHA-256 {}, not {}", hex::encode(found), image.digest),
        )
        .advise(
            "find out who changed the image on its server or path; register it again if the change is right",
        )
        .with("size_bytes", growing.length))
    }

    /// Hashes the next piece of what is there; false: all of it was.
    async fn hash_more(&self, files: &Files) -> Result<bool, Cause> {
        let part = self.clone();
        files
            .blocking(move |_| {
                let mut growing = part.growing();
                growing
                    .hash_more()
                    .map_err(|error| failed("read the half-fetched image", &growing.path, &error))
            })
            .await
    }

    fn growing(&self) -> MutexGuard<'_, Growing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Growing {
    fn hash_more(&mut self) -> io::Result<bool> {
        let mut piece = vec![0; STEP];
        let got = self.file.read_at(&mut piece, self.length)?;
        self.hasher.update(&piece[..got]);
        self.length += got as u64;
        Ok(got > 0)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut at = self.length;
        for block in bytes.chunks(BLOCK) {
            if block.iter().any(|byte| *byte != 0) {
                self.file.write_all_at(block, at)?;
            }
            at += block.len() as u64;
        }
        // What ends in a hole is as long as what was hashed, so that resuming finds the right place.
        if self.file.metadata()?.len() < at {
            self.file.set_len(at)?;
        }
        self.hasher.update(bytes);
        self.length = at;
        Ok(())
    }
}

fn open_part(inner: &Inner, path: &std::path::Path, size: u64) -> io::Result<File> {
    if is_file(path)? {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)?;
        if file.metadata()?.len() <= size {
            return Ok(file);
        }
        inner.durable.unlink(path)?;
    }
    inner.durable.create(path, OWN_MODE)
}
