//! The header of a qcow2 file, read without trusting it.
//!
//! Source: QEMU's `docs/interop/qcow2.txt`. Only the header and its extensions are read, at most 64 KiB; tables are
//! checked to lie inside the file, and never followed.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// `QFI\xfb`.
pub(super) const MAGIC: [u8; 4] = *b"QFI\xfb";

const MOST: usize = 64 * 1024;
/// `limits::DISK_BYTES`' end.
const MOST_VIRTUAL: u64 = dewpoint_proto::limits::TIB * 64;
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

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The length of the disk in it.
    pub(super) virtual_size: u64,
    /// The backing file's name, as bytes of unknown origin.
    pub(super) backing: Option<String>,
    /// Its format.
    pub(super) backing_format: Option<String>,
    names_data_file: bool,
    incompatible: u64,
    cluster_bits: u32,
    encrypted: bool,
    l1: (u64, u64),
    reftable: (u64, u64),
    snapshots: u32,
    compression: u8,
    refcount_order: u32,
}

/// Why a header could not be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreadable {
    /// The file could not be read.
    #[error("{0}")]
    Io(io::Error),
    /// It is no header that we can understand; what is wrong with it.
    #[error("{0}")]
    Malformed(String),
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Unreadable> {
    Err(Unreadable::Malformed(what.into()))
}

impl Header {
    /// Reads it from a file's beginning.
    pub(super) fn read(file: &File) -> Result<Self, Unreadable> {
        let length = file.metadata().map_err(Unreadable::Io)?.len();
        let mut bytes = vec![0; MOST.min(usize::try_from(length).unwrap_or(MOST))];
        file.read_exact_at(&mut bytes, 0).map_err(Unreadable::Io)?;
        Self::parse(&bytes)
    }

    /// Parses the beginning of a file, at most 64 KiB.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Unreadable> {
        let at = Fields(bytes);
        if bytes.get(..4) != Some(&MAGIC) {
            return malformed("is not a qcow2 file");
        }
        let version = at.u32(4)?;
        let (incompatible, refcount_order, header_length) = match version {
            2 => (0, 4, 72),
            3 => (at.u64(72)?, at.u32(96)?, at.u32(100)?),
            other => return malformed(format!("has qcow version {other}")),
        };
        if version == 3 && !(104..=4096).contains(&header_length) {
            return malformed(format!("has a header length of {header_length}"));
        }
        let cluster_bits = at.u32(20)?;
        if !(9..=21).contains(&cluster_bits) {
            return malformed(format!("has clusters of 2^{cluster_bits} bytes"));
        }
        // Extensions end with the header's cluster, or where the backing file's name begins.
        let backing_offset = usize::try_from(at.u64(8)?).unwrap_or(usize::MAX);
        let name_at = if backing_offset == 0 { usize::MAX } else { backing_offset };
        let end = bytes.len().min(1 << cluster_bits).min(name_at);
        let extensions = Extensions::parse(bytes.get(..end).unwrap_or(bytes), header_length as usize)?;
        Ok(Self {
            virtual_size: at.u64(24)?,
            backing: at.backing()?,
            backing_format: extensions.backing_format,
            names_data_file: extensions.names_data_file,
            incompatible,
            cluster_bits,
            encrypted: at.u32(32)? != 0,
            l1: (at.u64(40)?, u64::from(at.u32(36)?)),
            reftable: (at.u64(48)?, u64::from(at.u32(56)?)),
            snapshots: at.u32(60)?,
            compression: if header_length > 104 { at.u8(104)? } else { 0 },
            refcount_order,
        })
    }

    /// Whether it is an image that stands alone, and whose tables lie inside the file; else what is wrong, to be read
    /// after "the image".
    pub(super) fn check_plain(&self, file_length: u64) -> Result<(), String> {
        self.check_references()?;
        self.check_features()?;
        self.check_sizes(file_length)
    }

    fn check_references(&self) -> Result<(), String> {
        if let Some(name) = &self.backing {
            let name = dewpoint_proto::cause::shortened(name);
            return Err(format!("names a backing file, `{name}`: it could read any file of the host"));
        }
        if self.names_data_file || self.incompatible & DATA_FILE != 0 {
            return Err("names a data file of its own: it could read any file of the host".into());
        }
        Ok(())
    }

    fn check_features(&self) -> Result<(), String> {
        let known = DIRTY | CORRUPT | DATA_FILE | COMPRESSION | EXTENDED_L2;
        let unknown = self.incompatible & !known;
        if unknown != 0 {
            return Err(format!("uses unknown features ({unknown:#x})"));
        }
        if self.incompatible & (DIRTY | CORRUPT) != 0 {
            return Err("was not closed cleanly, or is marked corrupt".into());
        }
        if self.encrypted {
            return Err("is encrypted".into());
        }
        if self.snapshots != 0 {
            return Err(format!("has {} internal snapshots", self.snapshots));
        }
        if self.compression > 1 {
            return Err(format!("uses unknown compression ({})", self.compression));
        }
        if self.refcount_order > 6 {
            return Err(format!("has reference counts of 2^{} bits", self.refcount_order));
        }
        Ok(())
    }

    fn check_sizes(&self, file_length: u64) -> Result<(), String> {
        if self.virtual_size == 0
            || self.virtual_size > MOST_VIRTUAL
            || !self.virtual_size.is_multiple_of(512)
        {
            return Err(format!("has a virtual size of {} bytes", self.virtual_size));
        }
        let cluster = 1u64 << self.cluster_bits;
        let entry = if self.incompatible & EXTENDED_L2 == 0 { 8 } else { 16 };
        let (l1_offset, l1_entries) = self.l1;
        if l1_entries < self.virtual_size.div_ceil(cluster * (cluster / entry)) {
            return Err("has too small an L1 table".into());
        }
        inside("L1 table", l1_offset, l1_entries * 8, MOST_L1_BYTES, cluster, file_length)?;
        let (offset, clusters) = self.reftable;
        inside("refcount table", offset, clusters * cluster, MOST_REFTABLE_BYTES, cluster, file_length)
    }
}

fn inside(
    what: &str,
    offset: u64,
    length: u64,
    most: u64,
    cluster: u64,
    file_length: u64,
) -> Result<(), String> {
    if length > most || length == 0 {
        return Err(format!("has a {what} of {length} bytes"));
    }
    let fits = offset >= cluster
        && offset.is_multiple_of(cluster)
        && offset
            .checked_add(length)
            .is_some_and(|end| end.div_ceil(cluster) <= file_length.div_ceil(cluster));
    if fits {
        Ok(())
    } else {
        Err(format!("has a {what} that lies outside the file: it is cut off or damaged"))
    }
}

/// Big-endian fields.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], Unreadable> {
        let found = self.0.get(at..at + N).and_then(|bytes| bytes.try_into().ok());
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

    fn backing(&self) -> Result<Option<String>, Unreadable> {
        let (offset, length) = (self.u64(8)?, self.u32(16)?);
        if offset == 0 {
            return Ok(None);
        }
        let name = usize::try_from(offset)
            .ok()
            .filter(|_| (1..=1023).contains(&length))
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
}

impl Extensions {
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
                _ => {}
            }
            at += 8 + length.next_multiple_of(8);
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
