//! Spreads by the declared vCPUs that would be left.

use super::{Weigher, left};
use crate::scheduler::Ask;

pub(super) const WEIGHER: Weigher = Weigher { name: "cpu", factor: 0.5, weigh };

fn weigh(ask: &Ask<'_>) -> f64 {
    left(ask.host.claims.vcpus, u64::from(ask.request.vcpus), ask.most.vcpus)
}
