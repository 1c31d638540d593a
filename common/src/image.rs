//! What an image file claims to be, read by us before QEMU ever opens it.
//!
//! A qcow2 may name other files, which QEMU would open with its own rights: such an image could read any file of a
//! host. So only self-contained ones pass, here as on the coordinator and on a host. A qcow2 is told by its magic; all
//! else is raw for good and is never probed, unless it is known as something that nobody would want to boot as a raw
//! disk. Pure but for reading the given file; never opens another, never follows a table.

mod foreign;
pub mod qcow2;

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::limits;

use qcow2::{Header, Unreadable};

/// How a disk is laid out in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFormat {
    /// QEMU's own, version 2 or 3.
    Qcow2,
    /// The disk's bytes as they are.
    Raw,
}

impl DiskFormat {
    /// As QEMU, libvirt and the catalogue spell it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// What was found in an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Its layout.
    pub format: DiskFormat,
    /// The file's length.
    pub size_bytes: u64,
    /// The length of the disk in it.
    pub virtual_size_bytes: u64,
}

/// Reads the header of an image that is to stand alone.
///
/// # Errors
/// `IMAGE_REFUSED` for an image of another format, one that names other files, needs a feature that we do not know, or
/// has impossible sizes; `STORAGE_ERROR` when it cannot be read.
pub fn inspect(file: &File) -> Result<Shape, Cause> {
    let size_bytes = file.metadata().map_err(|error| unreadable(&error))?.len();
    if !limits::IMAGE_BYTES.contains(&size_bytes) {
        return Err(refused(
            format_args!("is a file of {size_bytes} bytes"),
            "give an image of 1 byte to 16 TiB",
        ));
    }
    let start = read_start(file, size_bytes, foreign::START).map_err(|error| unreadable(&error))?;
    let (format, virtual_size_bytes) = if start.starts_with(&qcow2::MAGIC) {
        (DiskFormat::Qcow2, plain_qcow2(file, size_bytes)?)
    } else {
        foreign::check(&start)?;
        (DiskFormat::Raw, raw(size_bytes)?)
    };
    Ok(Shape { format, size_bytes, virtual_size_bytes })
}

/// An image that may not be used; `what` completes "the image ...".
#[must_use]
pub fn refused(what: impl Display, advice: impl Into<String>) -> Cause {
    Cause::new(Reason::ImageRefused, format!("the image {what}")).advise(advice)
}

/// The way out for most images that are refused.
pub const CONVERT: &str = "make a plain one with `qemu-img convert -O qcow2 OLD NEW` and register that";

fn plain_qcow2(file: &File, size: u64) -> Result<u64, Cause> {
    let header = Header::read(file).map_err(|error| match error {
        Unreadable::Io(error) => unreadable(&error),
        Unreadable::Malformed(what) => {
            refused(what, "check the file where it was made: `qemu-img check FILE`")
        }
    })?;
    header.check_plain(size)?;
    Ok(header.virtual_size)
}

fn raw(size: u64) -> Result<u64, Cause> {
    if !size.is_multiple_of(512) {
        return Err(refused(
            format_args!("is not qcow2, and as a raw disk its {size} bytes are no whole sectors"),
            "check that it is a disk image and whole; a raw one can be padded with `truncate --size=%512 FILE`",
        ));
    }
    check_virtual_size(size)
}

/// A disk's length within our limits.
fn check_virtual_size(bytes: u64) -> Result<u64, Cause> {
    if limits::DISK_BYTES.contains(&bytes) && bytes.is_multiple_of(512) {
        return Ok(bytes);
    }
    Err(refused(
        format_args!("has a virtual size of {bytes} bytes"),
        "give an image with a disk of 1 MiB to 64 TiB, in whole sectors of 512 bytes",
    ))
}

/// The first bytes of a file, as many as it has.
fn read_start(file: &File, size: u64, most: usize) -> io::Result<Vec<u8>> {
    let mut start = vec![0; usize::try_from(size).unwrap_or(most).min(most)];
    file.read_exact_at(&mut start, 0)?;
    Ok(start)
}

fn unreadable(error: &io::Error) -> Cause {
    Cause::new(Reason::StorageError, format!("the image cannot be read: {error}"))
        .advise("look at the disk, and at the kernel's log for disk errors; then retry")
}

#[cfg(test)]
mod tests;
