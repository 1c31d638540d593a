//! A few MiB kept aside, so that events that are running can end when the disk is full.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::statvfs::statvfs;

/// Enough for thousands of entries, write-ahead log included.
pub(super) const RESERVE_BYTES: u64 = 8 * 1024 * 1024;

/// A file of allocated blocks beside the database; deleted when its blocks are needed.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    bytes: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Kept,
    Spent,
}

impl Reserve {
    /// The reserve beside a database, made if there is room. A start on a full disk begins with it spent.
    pub(super) fn beside(database: &Path, bytes: u64) -> Self {
        let path = reserve_of(database);
        let kept = std::fs::metadata(&path).is_ok_and(|found| found.len() == bytes);
        let mut reserve = Self { path, bytes, state: if kept { State::Kept } else { State::Spent } };
        if !kept && allocate(&reserve.path, bytes).is_ok() {
            reserve.state = State::Kept;
        }
        reserve
    }

    /// Whether it is kept: new events may be taken.
    pub(super) fn is_kept(&self) -> bool {
        self.state == State::Kept
    }

    /// Gives its blocks back to the disk. False: it was spent already.
    pub(super) fn spend(&mut self) -> bool {
        if self.state == State::Spent {
            return false;
        }
        self.state = State::Spent;
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::error!(path = %self.path.display(), %error, "the journal's reserve cannot be freed");
        }
        true
    }

    /// Makes it again once there is room for twice as much: else it would go back and forth at the brink.
    pub(super) fn refill(&mut self) {
        if self.state == State::Kept {
            return;
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let room = statvfs(folder).is_ok_and(|found| {
            found.blocks_available().saturating_mul(found.fragment_size()) >= 2 * self.bytes
        });
        if room && allocate(&self.path, self.bytes).is_ok() {
            self.state = State::Kept;
        }
    }
}

/// Deletes the reserve beside a database that cannot be opened. False: there is none.
pub(super) fn give_up(database: &Path) -> bool {
    std::fs::remove_file(reserve_of(database)).is_ok()
}

fn reserve_of(database: &Path) -> PathBuf {
    database.with_file_name("journal.reserve")
}

fn allocate(path: &Path, bytes: u64) -> std::io::Result<()> {
    let result = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .open(path)
        .and_then(|file| fill(file, bytes));
    if result.is_err() {
        // Half a reserve would be mistaken for none anyway, and its blocks are missed now.
        let _ = std::fs::remove_file(path);
    }
    result
}

fn fill(mut file: File, bytes: u64) -> std::io::Result<()> {
    let length = i64::try_from(bytes).map_err(std::io::Error::other)?;
    match fallocate(&file, FallocateFlags::empty(), 0, length) {
        Ok(()) => {}
        Err(Errno::EOPNOTSUPP) => {
            let block = vec![0xa5; 64 * 1024];
            let mut left = bytes;
            while left > 0 {
                let now = left.min(block.len() as u64);
                file.write_all(&block[..usize::try_from(now).unwrap_or(block.len())])?;
                left -= now;
            }
        }
        Err(error) => return Err(error.into()),
    }
    file.sync_all()
}
