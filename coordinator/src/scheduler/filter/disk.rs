//! Declared disk below capacity, an overlay counted in full; and measured room for what building writes at once.

use super::{Filter, gib};
use crate::scheduler::Ask;

pub(super) const FILTER: Filter = Filter { name: "disk", fits, why };

fn needed_now(ask: &Ask<'_>) -> u64 {
    ask.request.disk_now_bytes.saturating_add(ask.rules.placement.disk_reserve_bytes)
}

fn sum(ask: &Ask<'_>) -> u64 {
    ask.host.claims.disk_bytes.saturating_add(ask.request.disk_bytes)
}

fn fits(ask: &Ask<'_>) -> bool {
    sum(ask) <= ask.most.disk_bytes && needed_now(ask) <= ask.capacity.disk_free_bytes
}

fn why(ask: &Ask<'_>) -> String {
    if sum(ask) > ask.most.disk_bytes {
        return format!(
            "{} of {} is claimed, {} more does not fit",
            gib(ask.host.claims.disk_bytes),
            gib(ask.most.disk_bytes),
            gib(ask.request.disk_bytes)
        );
    }
    format!(
        "only {} of its disk is free, building needs {}",
        gib(ask.capacity.disk_free_bytes),
        gib(needed_now(ask))
    )
}
