//! Copies a file with its holes, sharing extents where the file system can.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::libc;
use nix::unistd::{Whence, lseek};

use super::JobProgress;
use super::durable::open;

/// One call's bytes: enough to be fast, few enough to stop soon.
const STEP: u64 = 64 * 1024 * 1024;

/// Ends a copy on another thread.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Stops when the guard is dropped, so when the waiting future is.
    pub(super) fn on_drop(self) -> StopOnDrop {
        StopOnDrop(self)
    }

    pub(super) fn check(&self) -> io::Result<()> {
        if self.0.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
    }
}

/// See [`Stop::on_drop`].
pub(super) struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Relaxed);
    }
}

/// Copies into an empty file that is there.
pub(super) fn copy_sparse(from: &Path, to: &Path, progress: &JobProgress, stop: &Stop) -> io::Result<()> {
    let source = open(from)?;
    let target = OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(to)?;
    let length = source.metadata()?.len();
    target.set_len(length)?;
    let mut at = 0;
    while let Some((begin, end)) = next_data(&source, at, length)? {
        copy_span(&source, &target, (begin, end), |done| {
            progress.set(done, length);
            stop.check()
        })?;
        at = end;
    }
    progress.set(length, length);
    Ok(())
}

/// The next span that is no hole. A file system without holes answers with the whole file.
fn next_data(file: &File, at: u64, length: u64) -> io::Result<Option<(u64, u64)>> {
    if at >= length {
        return Ok(None);
    }
    let offset = |at: u64| i64::try_from(at).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge));
    let begin = match lseek(file, offset(at)?, Whence::SeekData) {
        Ok(begin) => begin,
        Err(Errno::ENXIO) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let end = lseek(file, begin, Whence::SeekHole)?;
    Ok(Some((begin.unsigned_abs(), end.unsigned_abs().min(length))))
}

fn copy_span(
    source: &File,
    target: &File,
    (mut at, end): (u64, u64),
    mut tell: impl FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    while at < end {
        let length = usize::try_from(STEP.min(end - at)).unwrap_or(usize::MAX);
        let (mut from, mut to) = (at.cast_signed(), at.cast_signed());
        match copy_file_range(source, Some(&mut from), target, Some(&mut to), length) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(copied) => at += copied as u64,
            Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
                at += copy_by_hand(source, target, at, end)?;
            }
            Err(error) => return Err(error.into()),
        }
        tell(at)?;
    }
    Ok(())
}

/// Through memory, a MiB: between file systems of two kinds the kernel does not copy by itself.
fn copy_by_hand(source: &File, target: &File, at: u64, end: u64) -> io::Result<u64> {
    use std::os::unix::fs::FileExt;
    let mut piece = vec![0; usize::try_from((end - at).min(1024 * 1024)).unwrap_or(0)];
    source.read_exact_at(&mut piece, at)?;
    target.write_all_at(&piece, at)?;
    Ok(piece.len() as u64)
}
