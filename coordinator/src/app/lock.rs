//! One coordinator a data folder, by flock: the kernel lets go of it however the process ends.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};

/// Held as long as it lives.
pub(crate) struct DataLock(#[expect(dead_code, reason = "held, not read")] Flock<File>);

impl DataLock {
    /// Makes the folder when missing, and takes it.
    ///
    /// # Errors
    /// When another process has it, naming its pid, or when the folder cannot be used.
    pub(crate) fn take(data_dir: &Path) -> anyhow::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(data_dir)
            .with_context(|| format!("the data folder {} cannot be made", data_dir.display()))?;
        let path = data_dir.join("coordinator.lock");
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o640)
            .open(&path)
            .with_context(|| format!("{} cannot be opened", path.display()))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, _)) => {
                let mut pid = String::new();
                // For the message alone.
                let _ = Read::by_ref(&mut file).take(16).read_to_string(&mut pid);
                bail!("another coordinator (pid {}) has {}: stop it first", pid.trim(), data_dir.display());
            }
        };
        lock.set_len(0).and_then(|()| lock.rewind()).context("the lock file cannot be written")?;
        writeln!(lock, "{}", std::process::id()).context("the lock file cannot be written")?;
        Ok(Self(lock))
    }
}
