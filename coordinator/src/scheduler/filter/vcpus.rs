//! Declared vCPUs under the overcommit ratio. A VM with more vCPUs than the host has threads would only wait for itself.

use super::Filter;
use crate::scheduler::Ask;

pub(super) const FILTER: Filter = Filter { name: "vcpus", fits, why };

fn fits(ask: &Ask<'_>) -> bool {
    ask.request.vcpus <= ask.capacity.cpus
        && ask.host.claims.vcpus + u64::from(ask.request.vcpus) <= ask.most.vcpus
}

fn why(ask: &Ask<'_>) -> String {
    if ask.request.vcpus > ask.capacity.cpus {
        return format!("it has {} threads, {} vCPUs were asked for", ask.capacity.cpus, ask.request.vcpus);
    }
    format!(
        "{} of {} vCPUs are claimed, {} more do not fit",
        ask.host.claims.vcpus, ask.most.vcpus, ask.request.vcpus
    )
}
