//! The caller wants one host and no other.

use super::Filter;
use crate::scheduler::Ask;

pub(super) const FILTER: Filter = Filter { name: "only_host", fits, why };

fn fits(ask: &Ask<'_>) -> bool {
    ask.request.only_host.is_none_or(|only| only == ask.host.id)
}

fn why(_: &Ask<'_>) -> String {
    "another host was asked for".to_owned()
}
