//! The file to be uploaded: its size, its digest, its bytes from an offset on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::limits;
use dewpoint_proto::spec::ImageDigest;
use futures::Stream;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncSeekExt};

use crate::failure::{Failure, invalid};
use crate::meter::Meter;
use crate::output::Output;

const CHUNK: usize = 256 * 1024;

/// A file whose digest has been taken.
pub(crate) struct File {
    path: PathBuf,
    pub(crate) size: u64,
    pub(crate) digest: ImageDigest,
}

impl File {
    /// Reads it whole, for its digest.
    ///
    /// # Errors
    /// `INVALID` for what is no regular file or cannot be read, `TOO_LARGE` beyond what an image may have.
    pub(crate) async fn read(path: PathBuf, output: &mut Output<'_>) -> Result<Self, Failure> {
        let unreadable = |error: std::io::Error| unusable(&path, &error.to_string());
        let metadata = tokio::fs::metadata(&path).await.map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(unusable(&path, "it is not a regular file").into());
        }
        let size = metadata.len();
        if !limits::IMAGE_BYTES.contains(&size) {
            let reason = if size == 0 { Reason::Invalid } else { Reason::TooLarge };
            return Err(Cause::new(reason, format!("{} has {size} bytes", path.display()))
                .advise("give an image file")
                .into());
        }
        let mut file = tokio::fs::File::open(&path).await.map_err(unreadable)?;
        let mut meter = Meter::bytes(output, "hashing", size);
        let mut hasher = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        let mut done = 0;
        loop {
            let read = file.read(&mut buffer).await.map_err(unreadable)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            done += read as u64;
            meter.done(output, done)?;
        }
        if done != size {
            return Err(changed(&path).into());
        }
        Ok(Self { path, size, digest: ImageDigest(hasher.finalize().into()) })
    }

    /// Its bytes from `start` up to `end`, counted in `sent` as they are taken. Ends with an error where the file has
    /// become shorter.
    pub(super) async fn between(
        &self,
        start: u64,
        end: u64,
        sent: Arc<AtomicU64>,
    ) -> Result<impl Stream<Item = std::io::Result<Vec<u8>>> + Send + 'static, Cause> {
        let unreadable = |error: std::io::Error| unusable(&self.path, &error.to_string());
        let mut file = tokio::fs::File::open(&self.path).await.map_err(unreadable)?;
        file.seek(std::io::SeekFrom::Start(start)).await.map_err(unreadable)?;
        let begin = (file, end - start);
        Ok(futures::stream::try_unfold(begin, move |(mut file, left)| {
            let sent = Arc::clone(&sent);
            async move {
                if left == 0 {
                    return Ok(None);
                }
                let most = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
                let mut chunk = vec![0; most];
                let read = file.read(&mut chunk).await?;
                if read == 0 {
                    return Err(std::io::ErrorKind::UnexpectedEof.into());
                }
                chunk.truncate(read);
                sent.fetch_add(read as u64, Ordering::Relaxed);
                Ok(Some((chunk, (file, left - read as u64))))
            }
        }))
    }

    /// Whether it still has the size that was hashed; a change that keeps it, the server finds by the digest.
    pub(super) async fn unchanged(&self) -> Result<(), Cause> {
        match tokio::fs::metadata(&self.path).await {
            Ok(metadata) if metadata.len() == self.size => Ok(()),
            _ => Err(changed(&self.path)),
        }
    }
}

fn unusable(path: &std::path::Path, why: &str) -> Cause {
    invalid(format!("{} cannot be used: {why}", path.display()))
        .advise("give an image file that can be read")
        .with("path", path.display())
}

fn changed(path: &std::path::Path) -> Cause {
    invalid(format!("{} changed while it was read", path.display()))
        .advise("wait until nothing writes to it, then try again")
        .with("path", path.display())
}
