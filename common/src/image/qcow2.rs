//! The header of a qcow2 file, read without trusting it.
//!
//! Source: QEMU's `docs/interop/qcow2.txt`. Only the first cluster is read, which holds the header, its extensions and
//! the backing file's name; tables are checked to lie inside the file, and never followed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use dewpoint_proto::cause::{Cause, shortened};

use super::{CONVERT, check_virtual_size, refused};

/// `QFI\xfb`.
pub const MAGIC: [u8; 4] = *b"QFI\xfb";

/// QEMU's own bounds, `QCOW_MAX_L1_SIZE` and `QCOW_MAX_REFTABLE_SIZE`.
const MOST_L1_BYTES: u64 = 32 * 1024 * 1024;
const MOST_REFTABLE_BYTES: u64 = 8 * 1024 * 1024;

const DIRTY: u64 = 1;
const CORRUPT: u64 = 1 << 1;
const DATA_FILE: u64 = 1 << 2;
const COMPRESSION: u64 = 1 << 3;
const EXTENDED_L2: u64 = 1 << 4;

const EXTENSION_END: u32 = 0;
const EXTENSION_BACKING_FORMAT: u32 = 0xe279_2aca;
const EXTENSION_DATA_FILE: u32 = 0x4441_5441;
const EXTENSION_ENCRYPTION: u32 = 0x0537_be77;

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The length of the disk in it.
    pub virtual_size: u64,
    /// The backing file's name, as bytes of unknown origin.
    pub backing: Option<String>,
    /// Its format.
    pub backing_format: Option<String>,
    names_data_file: bool,
    incompatible: u64,
    cluster_bits: u32,
    encrypted: bool,
    l1: Table,
    reftable: Table,
    snapshots: u32,
    compression: u8,
    refcount_order: u32,
}

/// Where a table lies: L1 in entries, the refcount table in clusters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Table {
    offset: u64,
    count: u64,
}

/// Why a header could not be read.
#[derive(Debug)]
pub enum Unreadable {
    /// The file could not be read.
    Io(io::Error),
    /// It is no header that we can understand; what is wrong with it, to be read after "the image".
    Malformed(String),
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Unreadable> {
    Err(Unreadable::Malformed(what.into()))
}

impl Header {
    /// Reads it from a file's first cluster, at most 2 MiB.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn read(file: &File) -> Result<Self, Unreadable> {
        let length = file.metadata().map_err(Unreadable::Io)?.len();
        let start = super::read_start(file, length, 1 << 9).map_err(Unreadable::Io)?;
        let bits = cluster_bits(&Fields(&start))?;
        let mut cluster = vec![0; usize::try_from(length).unwrap_or(usize::MAX).min(1 << bits)];
        file.read_exact_at(&mut cluster, 0).map_err(Unreadable::Io)?;
        Self::parse(&cluster)
    }

    /// Parses the beginning of a file.
    ///
    /// # Errors
    /// [`Unreadable::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let cluster_bits = cluster_bits(&Fields(bytes))?;
        let cluster = 1 << cluster_bits;
        let bytes = bytes.get(..cluster).unwrap_or(bytes);
        let at = Fields(bytes);
        let version = at.u32(4)?;
        let (incompatible, refcount_order, header_length) = match version {
            2 => (0, 4, 72),
            3 => (at.u64(72)?, at.u32(96)?, at.u32(100)? as usize),
            other => return malformed(format!("has qcow version {other}")),
        };
        if version == 3
            && !((104..=4096.min(cluster)).contains(&header_length) && header_length.is_multiple_of(8))
        {
            return malformed(format!("has a header of {header_length} bytes"));
        }
        // Extensions end with the header's cluster, or where the backing file's name begins.
        let name_at = usize::try_from(at.u64(8)?).ok().filter(|at| *at != 0).unwrap_or(usize::MAX);
        let extensions = Extensions::parse(bytes.get(..name_at).unwrap_or(bytes), header_length)?;
        Ok(Self {
            virtual_size: at.u64(24)?,
            backing: at.backing()?,
            backing_format: extensions.backing_format,
            names_data_file: extensions.names_data_file,
            incompatible,
            cluster_bits,
            encrypted: at.u32(32)? != 0 || extensions.encrypted,
            l1: Table { offset: at.u64(40)?, count: u64::from(at.u32(36)?) },
            reftable: Table { offset: at.u64(48)?, count: u64::from(at.u32(56)?) },
            snapshots: at.u32(60)?,
            compression: if header_length > 104 { at.u8(104)? } else { 0 },
            refcount_order,
        })
    }

    /// Whether it is an image that stands alone, and whose tables lie inside a file of that length.
    ///
    /// # Errors
    /// `IMAGE_REFUSED`.
    pub fn check_plain(&self, file_length: u64) -> Result<(), Cause> {
        self.check_references()?;
        self.check_features()?;
        check_virtual_size(self.virtual_size)?;
        self.check_tables(file_length)
    }

    fn check_references(&self) -> Result<(), Cause> {
        if let Some(name) = &self.backing {
            return Err(refused(
                format_args!("names a backing file, `{}`: it could read any file of a host", shortened(name)),
                "flatten it first: `qemu-img convert -O qcow2 FILE NEW.qcow2`",
            ));
        }
        if self.names_data_file || self.incompatible & DATA_FILE != 0 {
            return Err(refused("names a data file of its own: it could read any file of a host", CONVERT));
        }
        Ok(())
    }

    fn check_features(&self) -> Result<(), Cause> {
        let unknown = self.incompatible & !(DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2);
        if unknown != 0 {
            return Err(refused(format_args!("uses unknown features ({unknown:#x})"), CONVERT));
        }
        if self.incompatible & (DIRTY | CORRUPT) != 0 {
            return Err(refused(
                "was not closed cleanly, or is marked corrupt",
                "repair it where it was made: `qemu-img check -r all FILE`",
            ));
        }
        if self.encrypted {
            return Err(refused("is encrypted", CONVERT));
        }
        if self.snapshots != 0 {
            return Err(refused(format_args!("has {} internal snapshots", self.snapshots), CONVERT));
        }
        if self.compression > 1 {
            return Err(refused(format_args!("uses unknown compression ({})", self.compression), CONVERT));
        }
        if self.refcount_order > 6 {
            return Err(damaged(format_args!("has reference counts of 2^{} bits", self.refcount_order)));
        }
        Ok(())
    }

    fn check_tables(&self, file_length: u64) -> Result<(), Cause> {
        let cluster = 1u64 << self.cluster_bits;
        let entry = if self.incompatible & EXTENDED_L2 == 0 { 8 } else { 16 };
        if self.l1.count < self.virtual_size.div_ceil(cluster * (cluster / entry)) {
            return Err(damaged(format_args!("has too small an L1 table for {} bytes", self.virtual_size)));
        }
        // QEMU may leave the last cluster of a file short, but it writes the whole of an L1 table.
        let l1_bytes = self.l1.count * 8;
        bounded("L1 table", l1_bytes, MOST_L1_BYTES)?;
        inside("L1 table", self.l1.offset, l1_bytes, cluster, file_length)?;
        let reftable_bytes = self.reftable.count * cluster;
        bounded("refcount table", reftable_bytes, MOST_REFTABLE_BYTES)?;
        let whole_clusters = file_length.checked_next_multiple_of(cluster).unwrap_or(file_length);
        inside("refcount table", self.reftable.offset, reftable_bytes, cluster, whole_clusters)
    }
}

/// Also tells that it is a qcow2 at all.
fn cluster_bits(at: &Fields<'_>) -> Result<u32, Unreadable> {
    if !at.0.starts_with(&MAGIC) {
        return malformed("is not a qcow2 file");
    }
    match at.u32(20)? {
        bits @ 9..=21 => Ok(bits),
        bits => malformed(format!("has clusters of 2^{bits} bytes")),
    }
}

fn bounded(what: &str, length: u64, most: u64) -> Result<(), Cause> {
    if (1..=most).contains(&length) {
        return Ok(());
    }
    Err(damaged(format_args!("has a {what} of {length} bytes")))
}

fn inside(what: &str, offset: u64, length: u64, cluster: u64, file_length: u64) -> Result<(), Cause> {
    let end = offset.saturating_add(length);
    if offset >= cluster && offset.is_multiple_of(cluster) && end <= file_length {
        return Ok(());
    }
    Err(damaged(format_args!("has a {what} that lies outside the file: it is cut off or damaged")))
}

fn damaged(what: impl std::fmt::Display) -> Cause {
    refused(what, "check the file where it was made: `qemu-img check FILE`")
}

/// Big-endian fields.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], Unreadable> {
        let found = at.checked_add(N).and_then(|end| self.0.get(at..end));
        let found = found.and_then(|bytes| bytes.try_into().ok());
        found.map_or_else(|| malformed("is cut off in its header"), Ok)
    }

    fn u8(&self, at: usize) -> Result<u8, Unreadable> {
        self.bytes::<1>(at).map(|[byte]| byte)
    }

    fn u32(&self, at: usize) -> Result<u32, Unreadable> {
        self.bytes(at).map(u32::from_be_bytes)
    }

    fn u64(&self, at: usize) -> Result<u64, Unreadable> {
        self.bytes(at).map(u64::from_be_bytes)
    }

    /// A length without an offset is refused as well: half a reference is no accident.
    fn backing(&self) -> Result<Option<String>, Unreadable> {
        let (offset, length) = (self.u64(8)?, self.u32(16)?);
        if (offset, length) == (0, 0) {
            return Ok(None);
        }
        let name = usize::try_from(offset)
            .ok()
            .filter(|offset| *offset != 0 && (1..=1023).contains(&length))
            .and_then(|start| self.0.get(start..start.checked_add(length as usize)?));
        match name {
            Some(name) => Ok(Some(String::from_utf8_lossy(name).into_owned())),
            None => malformed("names a backing file outside its header"),
        }
    }
}

#[derive(Default)]
struct Extensions {
    backing_format: Option<String>,
    names_data_file: bool,
    encrypted: bool,
}

impl Extensions {
    /// Those that lie in `bytes` after the header. What cannot be walked to its end is not trusted.
    fn parse(bytes: &[u8], mut at: usize) -> Result<Self, Unreadable> {
        let fields = Fields(bytes);
        let mut found = Self::default();
        while at + 8 <= bytes.len() {
            let (kind, length) = (fields.u32(at)?, fields.u32(at + 4)? as usize);
            if kind == EXTENSION_END {
                break;
            }
            let Some(value) = bytes.get(at + 8..).and_then(|rest| rest.get(..length)) else {
                return malformed("has a header extension that is cut off");
            };
            match kind {
                EXTENSION_BACKING_FORMAT => {
                    found.backing_format = Some(String::from_utf8_lossy(value).into_owned());
                }
                EXTENSION_DATA_FILE => found.names_data_file = true,
                EXTENSION_ENCRYPTION => found.encrypted = true,
                _ => {}
            }
            at += 8 + length.next_multiple_of(8);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
