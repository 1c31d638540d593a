//! From the notes' rows to what happened.

use super::{Item, Noted, What};
use crate::notes::{CallRow, StateRow};

pub(super) fn of(noted: Noted) -> impl Iterator<Item = Item> {
    let Noted { calls, states, starts } = noted;
    let starts = starts
        .into_iter()
        .map(|start| Item { at_ms: start.at, what: What::AgentStarted { version: start.version } });
    starts.chain(calls.into_iter().map(call)).chain(states.into_iter().map(state))
}

fn call(row: CallRow) -> Item {
    let CallRow { of_vm, call, at, times, took, end, .. } = row;
    let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    Item { at_ms: at, what: What::Call { call, of_all: !of_vm, times, took_us, end } }
}

fn state(row: StateRow) -> Item {
    match row {
        StateRow::Seen { at, was, now, detail, run } => {
            Item { at_ms: at, what: What::State { was, now, detail, run } }
        }
        StateRow::Told { at, words } => Item { at_ms: at, what: What::Told { words } },
    }
}
