//! Declared memory, with QEMU's own for each VM, below what is left after the host's reserve; and measured memory.

use super::{Filter, gib};
use crate::scheduler::Ask;

pub(super) const FILTER: Filter = Filter { name: "memory", fits, why };

/// As the store's conditional claim sums it.
fn sum(ask: &Ask<'_>) -> u64 {
    let overhead =
        ask.rules.placement.memory_overhead_bytes.saturating_mul(u64::from(ask.host.claims.vms) + 1);
    ask.host.claims.memory_bytes.saturating_add(ask.request.memory_bytes).saturating_add(overhead)
}

fn fits(ask: &Ask<'_>) -> bool {
    sum(ask) <= ask.most.memory_bytes && ask.request.memory_bytes <= ask.capacity.memory_available_bytes
}

fn why(ask: &Ask<'_>) -> String {
    if sum(ask) > ask.most.memory_bytes {
        return format!(
            "{} of {} is claimed, {} more does not fit",
            gib(ask.host.claims.memory_bytes),
            gib(ask.most.memory_bytes),
            gib(ask.request.memory_bytes)
        );
    }
    format!("only {} of its memory is free as measured", gib(ask.capacity.memory_available_bytes))
}
