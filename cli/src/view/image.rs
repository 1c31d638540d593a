//! Images.

use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::fleet::Image;
use serde::Serialize;

use super::filled;
use crate::table::{Fit, Side, Table, fields};
use crate::text::{Paint, age, instant, size};

/// An image, as JSON.
#[derive(Serialize)]
pub(crate) struct ImageView {
    digest: String,
    names: Vec<String>,
    size_bytes: u64,
    virtual_size_bytes: u64,
    format: String,
    added_at: Option<String>,
    made_by_event_id: Option<String>,
    made_from_vm_id: Option<String>,
}

impl From<&Image> for ImageView {
    fn from(image: &Image) -> Self {
        Self {
            digest: image.digest.clone(),
            names: image.names.clone(),
            size_bytes: image.size_bytes,
            virtual_size_bytes: image.virtual_size_bytes,
            format: image.format.clone(),
            added_at: instant(image.added_at_ms),
            made_by_event_id: filled(&image.made_by_event_id),
            made_from_vm_id: filled(&image.made_from_vm_id),
        }
    }
}

/// The images by name; one without a name by its whole digest.
pub(crate) fn table(images: &[Image], now: Millis, paint: Paint) -> String {
    let mut table = Table::keyed("NAME")
        .column("SIZE", Side::Right, Fit::Whole)
        .column("DISK", Side::Right, Fit::Whole)
        .column("FORMAT", Side::Left, Fit::Shrink(6))
        .column("MADE BY", Side::Left, Fit::Whole)
        .column("AGE", Side::Right, Fit::Whole);
    for image in images {
        let made_by = if image.made_by_event_id.is_empty() { "upload" } else { "snapshot" };
        table.row([
            image.names.first().unwrap_or(&image.digest).clone(),
            size(image.size_bytes),
            size(image.virtual_size_bytes),
            image.format.clone(),
            made_by.to_owned(),
            age(image.added_at_ms, now),
        ]);
        for other in image.names.iter().skip(1) {
            table.note(&format!("also {other}"));
        }
    }
    table.render(paint)
}

/// All of one image.
pub(crate) fn show(image: &Image) -> String {
    fields([
        ("digest", image.digest.clone()),
        ("names", image.names.join(", ")),
        ("format", image.format.clone()),
        ("size", size(image.size_bytes)),
        ("disk", size(image.virtual_size_bytes)),
        ("added", instant(image.added_at_ms).unwrap_or_default()),
        ("made by", image.made_by_event_id.clone()),
        ("made from", image.made_from_vm_id.clone()),
    ])
}
