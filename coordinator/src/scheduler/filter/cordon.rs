//! A person wants nothing new on it.

use super::Filter;
use crate::scheduler::Ask;

pub(super) const FILTER: Filter = Filter { name: "cordon", fits, why };

fn fits(ask: &Ask<'_>) -> bool {
    !ask.host.cordoned
}

fn why(_: &Ask<'_>) -> String {
    "it is cordoned".to_owned()
}
