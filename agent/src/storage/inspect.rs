//! Whether an image may be used: by our own reading, which the coordinator shares, and by QEMU's under limits.

use std::path::Path;

use dewpoint_common::image::{self, Shape};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::ImageRef;

use super::failure::{OrFailed, refused};
use super::qemu_img::QemuImg;

/// Both readings, and the size that the event names.
pub(super) async fn inspect(qemu_img: &QemuImg, path: &Path, wanted: &ImageRef) -> Result<Shape, Cause> {
    let file = super::durable::open(path).or_failed("open the image", path)?;
    let found = image::inspect(&file)?;
    let info = qemu_img.info(path, found.format).await?;
    info.check_plain()?;
    if info.format != found.format.as_str() || info.virtual_size != found.virtual_size_bytes {
        return Err(refused(format_args!(
            "is read differently by QEMU ({}, {} bytes) and by us ({}, {} bytes)",
            info.format,
            info.virtual_size,
            found.format.as_str(),
            found.virtual_size_bytes
        )));
    }
    check_size(&found, wanted)?;
    Ok(found)
}

/// Whether an image is as long as the event says.
pub(super) fn check_size(found: &Shape, wanted: &ImageRef) -> Result<(), Cause> {
    if found.virtual_size_bytes == wanted.virtual_size_bytes {
        return Ok(());
    }
    Err(Cause::new(
        Reason::ImageRefused,
        format!(
            "the image holds a disk of {} bytes, and the event says {}",
            found.virtual_size_bytes, wanted.virtual_size_bytes
        ),
    )
    .advise("register the image again, so that its sizes are read from the file"))
}
