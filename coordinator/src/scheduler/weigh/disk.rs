//! Spreads by the declared disk that would be left.

use super::{Weigher, left};
use crate::scheduler::Ask;

pub(super) const WEIGHER: Weigher = Weigher { name: "disk", factor: 0.25, weigh };

fn weigh(ask: &Ask<'_>) -> f64 {
    left(ask.host.claims.disk_bytes, ask.request.disk_bytes, ask.most.disk_bytes)
}
