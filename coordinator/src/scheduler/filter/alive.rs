//! A host that is late, or lost, or has not told what it has, gets nothing new.

use super::Filter;
use crate::events::liveness::Liveness;
use crate::scheduler::Ask;

pub(super) const FILTER: Filter = Filter { name: "alive", fits, why };

fn liveness(ask: &Ask<'_>) -> Liveness {
    Liveness::of(ask.host.last_heartbeat, ask.now, ask.rules.liveness)
}

fn fits(ask: &Ask<'_>) -> bool {
    ask.host.capacity.is_some() && liveness(ask) == Liveness::Alive
}

fn why(ask: &Ask<'_>) -> String {
    match (liveness(ask), ask.host.last_heartbeat) {
        (Liveness::Alive, _) => "it has not told its capacity yet".to_owned(),
        (liveness, Some(last)) => format!("it is {liveness}: silent for {} s", ask.now.since(last).as_secs()),
        (_, None) => "it was never heard".to_owned(),
    }
}
