//! A bound on VMs, however small they are.

use super::Filter;
use crate::scheduler::Ask;

pub(super) const FILTER: Filter = Filter { name: "count", fits, why };

fn fits(ask: &Ask<'_>) -> bool {
    ask.host.claims.vms < ask.most.vms
}

fn why(ask: &Ask<'_>) -> String {
    format!("it has {} VMs of at most {}", ask.host.claims.vms, ask.most.vms)
}
