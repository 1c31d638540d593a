//! Formats of disks and archives that we do not take, by their first bytes.

use dewpoint_proto::cause::Cause;

use super::{CONVERT, refused};

/// Every magic lies within so many bytes.
pub(super) const START: usize = 512;

/// What a person does with such a file.
#[derive(Clone, Copy)]
enum WayOut {
    /// `qemu-img` reads the format under this name.
    Convert(&'static str),
    /// This tool unpacks it.
    Unpack(&'static str),
    /// No tool of today reads it.
    Remake,
}

use WayOut::{Convert, Remake, Unpack};

/// Where the magic lies, the magic, what has it.
const KNOWN: [(usize, &[u8], &str, WayOut); 18] = [
    (0, b"KDMV", "a VMDK disk", Convert("vmdk")),
    (0, b"COWD", "a VMDK disk", Convert("vmdk")),
    (0, b"# Disk DescriptorFile", "a VMDK descriptor", Convert("vmdk")),
    (0, b"vhdxfile", "a VHDX disk", Convert("vhdx")),
    (0, b"conectix", "a VHD disk", Convert("vpc")),
    (0x40, &[0x7f, 0x10, 0xda, 0xbe], "a VDI disk", Convert("vdi")),
    (0, b"QED\0", "a QED disk", Convert("qed")),
    (0, b"WithoutFreeSpace", "a Parallels disk", Convert("parallels")),
    (0, b"WithouFreSpacExt", "a Parallels disk", Convert("parallels")),
    (0, b"Bochs Virtual HD Image", "a Bochs disk", Convert("bochs")),
    (0, b"#!/bin/sh\n#V2.0 Format", "a cloop disk", Convert("cloop")),
    (0, b"LUKS\xba\xbe", "a LUKS volume", Remake),
    (0, b"OOOM", "a user-mode Linux disk", Remake),
    (0, b"\x1f\x8b", "compressed with gzip", Unpack("gunzip")),
    (0, b"\xfd7zXZ\0", "compressed with xz", Unpack("unxz")),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd", Unpack("unzstd")),
    (0, b"BZh", "compressed with bzip2", Unpack("bunzip2")),
    (0, b"PK\x03\x04", "a zip archive", Unpack("unzip")),
];

/// Refuses a file whose beginning is one of theirs.
///
/// # Errors
/// `IMAGE_REFUSED`, with the way out.
pub(super) fn check(start: &[u8]) -> Result<(), Cause> {
    let has = |at: usize, magic: &[u8]| start.get(at..).is_some_and(|rest| rest.starts_with(magic));
    let Some((_, _, name, way_out)) = KNOWN.into_iter().find(|(at, magic, ..)| has(*at, magic)) else {
        return Ok(());
    };
    let advice = match way_out {
        Convert(format) => {
            format!("convert it first: `qemu-img convert -f {format} -O qcow2 FILE NEW.qcow2`")
        }
        Unpack(tool) => format!("unpack it first, with `{tool}`"),
        Remake => CONVERT.to_owned(),
    };
    Err(refused(format_args!("is {name}, not qcow2 or raw"), advice))
}
