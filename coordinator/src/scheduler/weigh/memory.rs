//! Spreads by the declared memory that would be left.

use super::{Weigher, left};
use crate::scheduler::Ask;

pub(super) const WEIGHER: Weigher = Weigher { name: "memory", factor: 1.0, weigh };

fn weigh(ask: &Ask<'_>) -> f64 {
    left(ask.host.claims.memory_bytes, ask.request.memory_bytes, ask.most.memory_bytes)
}
