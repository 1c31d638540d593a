//! A host that only reports, for the first days beside VMs of its own: its agent refuses every event.

use super::Filter;
use crate::scheduler::Ask;

pub(super) const FILTER: Filter = Filter { name: "observe_only", fits, why };

fn fits(ask: &Ask<'_>) -> bool {
    !ask.host.observe_only
}

fn why(_: &Ask<'_>) -> String {
    "it only observes: observe_only is set in its agent's configuration".to_owned()
}
