//! When a VM is started again, for whoever only reads the journal. Pure.

use dewpoint_proto::time::Millis;

use super::Bounds;
use super::decide::{left, pause};
use super::incident::is_down;
use crate::hypervisor::Wanted;
use crate::journal::VmRow;
use crate::journal::admission::Presence;

/// The earliest start by policy of a VM that is noted to be off; none: none is to come, by what the journal has.
#[must_use]
pub fn next_start(row: &VmRow, bounds: &Bounds) -> Option<Millis> {
    let kept = row.presence == Presence::There && !row.unfinished && row.wanted == Wanted::On;
    let noted = row.kept.noted.as_ref().filter(|noted| kept && is_down(noted.what))?;
    let starts = left(row, noted.what).is_none() && row.kept.restarts < bounds.limit;
    starts.then(|| noted.at.wall.plus(pause(bounds, noted.what, row.kept.restarts)))
}
