//! What an image file claims to be, read by us before QEMU ever opens it.
//!
//! A qcow2 may name other files, which QEMU would open with its own rights: such an image could read any file of a
//! host. So only self-contained ones pass. The rules follow QEMU's `docs/interop/qcow2.txt`. Pure but for reading the
//! given file; never opens another.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::limits;

/// How a disk is laid out in an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageFormat {
    /// QEMU's own, version 2 or 3.
    Qcow2,
    /// The disk's bytes as they are.
    Raw,
}

impl ImageFormat {
    /// As in the catalogue.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Qcow2 => "qcow2",
            Self::Raw => "raw",
        }
    }
}

/// What was found in an image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// Its layout.
    pub format: ImageFormat,
    /// The file's length.
    pub size_bytes: u64,
    /// The length of the disk in it.
    pub virtual_size_bytes: u64,
}

/// Reads the headers of an image file.
///
/// # Errors
/// `IMAGE_REFUSED` for an image of another format, one that names other files, needs a feature that we do not know, or
/// has impossible sizes; `STORAGE_ERROR` when it cannot be read.
pub fn inspect(file: &File) -> Result<Inspected, Cause> {
    let size_bytes = file.metadata().map_err(|e| unreadable(&e))?.len();
    if !limits::IMAGE_BYTES.contains(&size_bytes) {
        return Err(refused(format!("the file has {size_bytes} bytes"), "give an image of 1 byte to 16 TiB"));
    }
    let head = read_head(file, size_bytes).map_err(|e| unreadable(&e))?;
    let (format, virtual_size_bytes) = if head.starts_with(QCOW_MAGIC) {
        (ImageFormat::Qcow2, qcow2(&head, size_bytes)?)
    } else {
        foreign(&head)?;
        (ImageFormat::Raw, raw(size_bytes)?)
    };
    if !limits::DISK_BYTES.contains(&virtual_size_bytes) {
        return Err(refused(
            format!("the disk in it has {virtual_size_bytes} bytes"),
            "give an image with a disk of 1 MiB to 64 TiB",
        ));
    }
    Ok(Inspected { format, size_bytes, virtual_size_bytes })
}

const QCOW_MAGIC: &[u8] = b"QFI\xfb";
/// The header and its extensions lie in the first cluster, at most 2 MiB long.
const HEAD_BYTES: u64 = 2 * 1024 * 1024;

fn read_head(file: &File, size: u64) -> io::Result<Vec<u8>> {
    let mut head = vec![0; usize::try_from(size.min(HEAD_BYTES)).unwrap_or(0)];
    file.read_exact_at(&mut head, 0)?;
    Ok(head)
}

fn raw(size: u64) -> Result<u64, Cause> {
    if size.is_multiple_of(512) {
        return Ok(size);
    }
    Err(refused(
        format!("the file has no known format, and its {size} bytes are no whole number of sectors"),
        "check that it is a disk image and whole; a raw one can be padded with `truncate --size=%512 FILE`",
    ))
}

/// Formats that QEMU knows and we do not take, and those that an unfinished download leaves.
fn foreign(head: &[u8]) -> Result<(), Cause> {
    const MAGICS: [(usize, &[u8], &str); 12] = [
        (0, b"KDMV", "vmdk"),
        (0, b"COWD", "vmdk"),
        (0, b"# Disk DescriptorFile", "vmdk"),
        (64, b"\x7f\x10\xda\xbe", "vdi"),
        (0, b"vhdxfile", "vhdx"),
        (0, b"conectix", "vpc"),
        (0, b"QED\0", "qed"),
        (0, b"LUKS\xba\xbe", "luks"),
        (0, b"WithoutFreeSpace", "parallels"),
        (0, b"WithouFreSpacExt", "parallels"),
        (0, b"Bochs Virtual HD Image", "bochs"),
        (0, b"#!/bin/sh\n#V2.0 Format", "cloop"),
    ];
    const PACKED: [(&[u8], &str); 5] = [
        (b"\x1f\x8b", "gunzip"),
        (b"\xfd7zXZ\0", "unxz"),
        (b"\x28\xb5\x2f\xfd", "unzstd"),
        (b"BZh", "bunzip2"),
        (b"PK\x03\x04", "unzip"),
    ];
    let at = |from: usize, magic: &[u8]| head.get(from..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((_, _, name)) = MAGICS.iter().find(|(from, magic, _)| at(*from, magic)) {
        return Err(refused(
            format!("it is of the format {name}"),
            format!("convert it first: `qemu-img convert -f {name} -O qcow2 FILE NEW.qcow2`"),
        ));
    }
    if let Some((_, tool)) = PACKED.iter().find(|(magic, _)| at(0, magic)) {
        return Err(refused("it is compressed".to_owned(), format!("unpack it first, with `{tool}`")));
    }
    Ok(())
}

/// Incompatible features that we know to be harmless: the compression type, and extended L2 entries.
const HARMLESS_FEATURES: u64 = 1 << 3 | 1 << 4;
const DIRTY: u64 = 1 << 0;
const CORRUPT: u64 = 1 << 1;
const EXTERNAL_DATA: u64 = 1 << 2;

/// The virtual size of a self-contained qcow2.
fn qcow2(head: &[u8], file_size: u64) -> Result<u64, Cause> {
    let header = Fields(head);
    let version = header.u32(4)?;
    if !(2..=3).contains(&version) {
        return Err(refused(format!("it is a qcow of version {version}"), CONVERT));
    }
    if header.u64(8)? != 0 || header.u32(16)? != 0 {
        return Err(refused(
            "it names a backing file".to_owned(),
            "flatten it first: `qemu-img convert -O qcow2 FILE NEW.qcow2`",
        ));
    }
    if header.u32(32)? != 0 {
        return Err(refused("it is encrypted".to_owned(), CONVERT));
    }
    if header.u32(60)? != 0 {
        return Err(refused("it has internal snapshots".to_owned(), CONVERT));
    }
    let cluster_bits = header.u32(20)?;
    if !(9..=21).contains(&cluster_bits) {
        return Err(damaged(format!("clusters of 2^{cluster_bits} bytes")));
    }
    let header_length = if version == 2 { 72 } else { version_3(&header)? };
    let virtual_size = header.u64(24)?;
    let tables = Tables { file_size, cluster: 1 << cluster_bits, virtual_size };
    tables.check(&header, version)?;
    extensions(&header, header_length, tables.cluster)?;
    Ok(virtual_size)
}

/// What version 3 adds; returns the header's length.
fn version_3(header: &Fields<'_>) -> Result<u64, Cause> {
    let features = header.u64(72)?;
    if features & EXTERNAL_DATA != 0 {
        return Err(names_data_file());
    }
    if features & (DIRTY | CORRUPT) != 0 {
        return Err(refused(
            "it is marked dirty or corrupt".to_owned(),
            "repair it where it was made: `qemu-img check -r all FILE`",
        ));
    }
    if features & !HARMLESS_FEATURES != 0 {
        return Err(refused(format!("it needs unknown features ({features:#x})"), CONVERT));
    }
    if header.u32(96)? > 6 {
        return Err(damaged("a reference count order above 6".to_owned()));
    }
    let length = u64::from(header.u32(100)?);
    if length < 104 || !length.is_multiple_of(8) {
        return Err(damaged(format!("a header of {length} bytes")));
    }
    if length > 104 && header.u8(104)? > 1 {
        return Err(refused("it is compressed in an unknown way".to_owned(), CONVERT));
    }
    Ok(length)
}

/// Where a qcow2's tables must lie.
struct Tables {
    file_size: u64,
    cluster: u64,
    virtual_size: u64,
}

impl Tables {
    fn check(&self, header: &Fields<'_>, version: u32) -> Result<(), Cause> {
        let (l1_entries, l1_at) = (u64::from(header.u32(36)?), header.u64(40)?);
        let (refcount_at, refcount_clusters) = (header.u64(48)?, u64::from(header.u32(56)?));
        let extended_l2 = version == 3 && header.u64(72)? & (1 << 4) != 0;
        let l2_entry = if extended_l2 { 16 } else { 8 };
        let per_l1_entry = self.cluster.saturating_mul(self.cluster / l2_entry);
        if l1_entries < self.virtual_size.div_ceil(per_l1_entry) || l1_entries > 4 * limits::MIB {
            return Err(damaged(format!("{l1_entries} level-1 entries for {} bytes", self.virtual_size)));
        }
        if refcount_clusters == 0 || refcount_clusters.saturating_mul(self.cluster) > 64 * limits::MIB {
            return Err(damaged(format!("a reference count table of {refcount_clusters} clusters")));
        }
        // QEMU leaves the last cluster of a file short, but never cuts a table.
        self.inside("level-1 table", l1_at, l1_entries * 8)?;
        self.inside("reference count table", refcount_at, 8)
    }

    fn inside(&self, what: &str, at: u64, length: u64) -> Result<(), Cause> {
        let end = at.saturating_add(length);
        if at >= self.cluster && at.is_multiple_of(self.cluster) && end <= self.file_size {
            return Ok(());
        }
        Err(damaged(format!("a {what} at {at} in a file of {} bytes", self.file_size)))
    }
}

/// Walks the header extensions; the one that names a data file is refused whatever the feature bits say.
fn extensions(header: &Fields<'_>, from: u64, cluster: u64) -> Result<(), Cause> {
    const END: u32 = 0;
    const DATA_FILE: u32 = 0x4441_5441;
    const ENCRYPTION: u32 = 0x0537_be77;
    let mut at = from;
    while at.saturating_add(8) <= cluster.min(header.0.len() as u64) {
        let here = usize::try_from(at).unwrap_or(usize::MAX);
        match header.u32(here)? {
            END => return Ok(()),
            DATA_FILE => return Err(names_data_file()),
            ENCRYPTION => return Err(refused("it is encrypted".to_owned(), CONVERT)),
            _ => {}
        }
        let length = u64::from(header.u32(here + 4)?);
        at = at + 8 + length.next_multiple_of(8);
    }
    if at > cluster {
        return Err(damaged("header extensions beyond the first cluster".to_owned()));
    }
    Ok(())
}

/// Big-endian fields of a header that may be cut short.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], Cause> {
        let found = at.checked_add(N).and_then(|end| self.0.get(at..end));
        found.and_then(|b| b.try_into().ok()).ok_or_else(|| damaged("a header that is cut short".to_owned()))
    }

    fn u8(&self, at: usize) -> Result<u8, Cause> {
        self.bytes(at).map(u8::from_be_bytes)
    }

    fn u32(&self, at: usize) -> Result<u32, Cause> {
        self.bytes(at).map(u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, Cause> {
        self.bytes(at).map(u64::from_be_bytes)
    }
}

const CONVERT: &str = "convert it first: `qemu-img convert -O qcow2 FILE NEW.qcow2`";

fn names_data_file() -> Cause {
    refused("it names an external data file".to_owned(), CONVERT)
}

fn damaged(what: String) -> Cause {
    refused(
        format!("its qcow2 header is damaged: {what}"),
        "check the file where it was made: `qemu-img check FILE`",
    )
}

fn refused(what: String, advice: impl Into<String>) -> Cause {
    Cause::new(Reason::ImageRefused, format!("the image is refused: {what}")).advise(advice)
}

fn unreadable(error: &io::Error) -> Cause {
    Cause::new(Reason::StorageError, format!("the uploaded image cannot be read: {error}"))
        .advise("check the coordinator's disk")
}

#[cfg(test)]
mod tests;
