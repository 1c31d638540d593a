//! A file system of a lab's own on a loop device, to be filled: an ext4 in a file that takes room only as it is used.

use std::io::Write;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::statvfs;

use crate::shell;

/// What is left when it is filled: less than any disk or image needs.
const LEFT: u64 = 256 << 10;

/// A mounted file system; unmounted when dropped.
#[derive(Debug)]
pub struct Volume {
    at: PathBuf,
    filler: PathBuf,
}

impl Volume {
    /// Makes it beside `at`, and mounts it there.
    ///
    /// # Panics
    /// When it cannot be made or mounted.
    #[must_use]
    pub fn mount(at: &Path, bytes: u64) -> Self {
        let file = at.with_extension("ext4");
        let make = || {
            std::fs::create_dir_all(at)?;
            std::fs::File::create(&file)?.set_len(bytes)
        };
        make().unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        shell::run("mkfs.ext4", [Path::new("-q"), Path::new("-m"), Path::new("0"), &file]);
        shell::run("mount", [Path::new("-o"), Path::new("loop"), &file, at]);
        // ext4's own folder: nobody else's files lie there.
        let filler = at.join("lost+found/filler");
        Self { at: at.to_owned(), filler }
    }

    /// Takes nearly all that is free.
    ///
    /// # Panics
    /// When the room cannot be taken.
    pub fn fill(&self) {
        self.leave(LEFT);
    }

    /// Takes all that is free, to the last block.
    ///
    /// # Panics
    /// As [`Volume::fill`].
    pub fn fill_up(&self) {
        self.fill();
        let rest = std::fs::File::options().append(true).open(&self.filler);
        let mut rest = rest.unwrap_or_else(|error| panic!("{}: {error}", self.filler.display()));
        while rest.write_all(&[0x55; 4096]).is_ok() {}
    }

    /// Takes what is free but so many bytes.
    ///
    /// # Panics
    /// As [`Volume::fill`].
    pub fn leave(&self, bytes: u64) {
        let free = statvfs(&self.at).map(|space| space.blocks_available() * space.fragment_size());
        let free = free.unwrap_or_else(|error| panic!("{}: {error}", self.at.display()));
        let bytes = free.saturating_sub(bytes).max(1).to_string();
        // Others take room meanwhile: what was taken until it ran out is taken all the same.
        shell::attempt("fallocate", ["-l", &bytes, &self.filler.to_string_lossy()]);
    }

    /// Gives the room back.
    pub fn free(&self) {
        let _ = std::fs::remove_file(&self.filler);
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        shell::attempt("umount", [Path::new("--lazy"), &self.at]);
    }
}
