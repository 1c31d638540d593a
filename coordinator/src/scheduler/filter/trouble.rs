//! A host whose log does not match, that is held, or that says itself that it is degraded.

use super::Filter;
use crate::scheduler::Ask;

pub(super) const FILTER: Filter = Filter { name: "trouble", fits, why };

fn fits(ask: &Ask<'_>) -> bool {
    !ask.host.diverged && !ask.host.held && ask.host.degraded.is_none()
}

fn why(ask: &Ask<'_>) -> String {
    match (&ask.host.degraded, ask.host.diverged) {
        (_, true) => "its log does not match the coordinator's".to_owned(),
        (Some(reason), _) => format!("it is degraded: {reason}"),
        (None, false) => "it, or the fleet, is held".to_owned(),
    }
}
