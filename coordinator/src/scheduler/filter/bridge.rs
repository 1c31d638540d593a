//! The bridges that the networks name are on the host.

use super::Filter;
use crate::scheduler::Ask;

pub(super) const FILTER: Filter = Filter { name: "bridge", fits, why };

fn fits(ask: &Ask<'_>) -> bool {
    ask.request.bridges.iter().all(|bridge| ask.capacity.bridges.contains(bridge))
}

fn why(ask: &Ask<'_>) -> String {
    let missing = ask.request.bridges.iter().find(|bridge| !ask.capacity.bridges.contains(bridge));
    missing.map_or_else(String::new, |bridge| format!("it has no bridge {bridge}"))
}
