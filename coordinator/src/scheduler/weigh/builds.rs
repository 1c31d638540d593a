//! Prefers hosts that build few VMs now: building is bounded on each, and the rest waits.

use super::Weigher;
use crate::scheduler::Ask;

pub(super) const WEIGHER: Weigher = Weigher { name: "builds", factor: 0.5, weigh };

fn weigh(ask: &Ask<'_>) -> f64 {
    1.0 / (1.0 + f64::from(ask.host.builds))
}
