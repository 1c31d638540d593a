//! Whether an image may be used: a plain qcow2 or raw file that stands alone, by our own reading and by QEMU's.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::ImageRef;

use super::DiskFormat;
use super::failure::{OrFailed, refused};
use super::qcow2::{self, Header, Unreadable};
use super::qemu_img::QemuImg;

/// An image's format and the length of the disk in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) format: DiskFormat,
    pub(super) virtual_size: u64,
}

/// Reads an image's header. A qcow2 is told by its magic; all else is raw for good, and is never probed, unless it is
/// known as something that a person would not want to boot as a raw disk.
pub(super) fn shape(file: &File) -> Result<Shape, Cause> {
    let unreadable = |error: &io::Error| super::failure::failed("read the image", Path::new(""), error);
    let length = file.metadata().map_err(|error| unreadable(&error))?.len();
    let mut start = [0; 512];
    let got = read_start(file, &mut start).map_err(|error| unreadable(&error))?;
    let start = &start[..got];
    if start.starts_with(&qcow2::MAGIC) {
        let header = Header::read(file).map_err(|error| match error {
            Unreadable::Io(error) => unreadable(&error),
            Unreadable::Malformed(what) => refused(what),
        })?;
        header.check_plain(length).map_err(refused)?;
        return Ok(Shape { format: DiskFormat::Qcow2, virtual_size: header.virtual_size });
    }
    if let Some(known) = other_format(start) {
        return Err(refused(format_args!("is {known}, not qcow2 or raw")));
    }
    if !length.is_multiple_of(512) || length == 0 {
        return Err(refused(format_args!(
            "is not qcow2, and as a raw disk its {length} bytes are no whole sectors"
        )));
    }
    Ok(Shape { format: DiskFormat::Raw, virtual_size: length })
}

/// Both readings, and the size that the event names.
pub(super) async fn inspect(qemu_img: &QemuImg, path: &Path, image: &ImageRef) -> Result<Shape, Cause> {
    let file = super::durable::open(path).or_failed("open the image", path)?;
    let found = shape(&file)?;
    let info = qemu_img.info(path, found.format).await?;
    info.check_plain()?;
    if info.format != found.format.as_str() || info.virtual_size != found.virtual_size {
        return Err(refused(format_args!(
            "is read differently by QEMU ({}, {} bytes) and by us ({}, {} bytes)",
            info.format,
            info.virtual_size,
            found.format.as_str(),
            found.virtual_size
        )));
    }
    check_size(&found, image)?;
    Ok(found)
}

/// Whether an image is as long as the event says.
pub(super) fn check_size(found: &Shape, image: &ImageRef) -> Result<(), Cause> {
    if found.virtual_size == image.virtual_size_bytes {
        return Ok(());
    }
    Err(Cause::new(
        Reason::ImageRefused,
        format!(
            "the image holds a disk of {} bytes, and the event says {}",
            found.virtual_size, image.virtual_size_bytes
        ),
    )
    .advise("register the image again, so that its sizes are read from the file"))
}

fn read_start(file: &File, into: &mut [u8]) -> io::Result<usize> {
    let mut got = 0;
    while got < into.len() {
        match file.read_at(&mut into[got..], got as u64)? {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}

/// Formats of disks and archives by their first bytes.
fn other_format(start: &[u8]) -> Option<&'static str> {
    const KNOWN: [(usize, &[u8], &str); 17] = [
        (0, b"KDMV", "a VMDK disk"),
        (0, b"COWD", "a VMDK disk"),
        (0, b"# Disk DescriptorFile", "a VMDK descriptor"),
        (0, b"vhdxfile", "a VHDX disk"),
        (0, b"conectix", "a VHD disk"),
        (0x40, &[0x7f, 0x10, 0xda, 0xbe], "a VDI disk"),
        (0, b"QED\0", "a QED disk"),
        (0, b"WithoutFreeSpace", "a Parallels disk"),
        (0, b"WithouFreSpacExt", "a Parallels disk"),
        (0, b"LUKS\xba\xbe", "a LUKS volume"),
        (0, b"Bochs Virtual HD Image", "a Bochs disk"),
        (0, b"OOOM", "a user-mode Linux disk"),
        (0, b"\x1f\x8b", "compressed with gzip"),
        (0, b"\xfd7zXZ\0", "compressed with xz"),
        (0, b"\x28\xb5\x2f\xfd", "compressed with zstd"),
        (0, b"BZh", "compressed with bzip2"),
        (0, b"PK\x03\x04", "a zip archive"),
    ];
    KNOWN
        .into_iter()
        .find(|(at, magic, _)| start.get(*at..).is_some_and(|rest| rest.starts_with(magic)))
        .map(|(_, _, name)| name)
}
