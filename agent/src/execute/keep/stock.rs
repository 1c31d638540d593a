//! Taking stock of all VMs, at the start, when something was heard, and now and then; each VM that is not as wanted then
//! gets a look in its lane. Nothing is judged before the first complete list.

use std::sync::Arc;

use dewpoint_proto::vm_state::Power;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep_until};

use super::attention;
use super::configs::Configs;
use crate::execute::executor::{Shared, next_event};
use crate::hypervisor::{Domain, DomainEvent, Domains, Wanted};
use crate::journal::admission::Presence;
use crate::journal::{JournalError, VmRow};

/// Takes stock until the agent drains.
pub(in crate::execute) async fn run(shared: Arc<Shared>) {
    let mut events = Some(shared.parts.effects.hypervisor.events());
    let mut words = shared.parts.keeping.words();
    let mut hold = shared.parts.hold.clone();
    let mut configs = Configs::default();
    let bounds = shared.parts.settings.keep.clone();
    let mut due = Instant::now();
    loop {
        tokio::select! {
            () = shared.stop.cancelled() => return,
            heard = next_event(&mut events) => match heard {
                Ok(DomainEvent::Changed(vm, word)) => {
                    configs.heard(vm, &word);
                    due = due.min(Instant::now() + bounds.settle);
                }
                Ok(DomainEvent::Resync) | Err(RecvError::Lagged(_)) => {
                    configs.all_may_be_edited();
                    due = Instant::now();
                }
                Err(RecvError::Closed) => events = None,
            },
            Ok(()) = words.changed() => shared.parts.keeping.spoken_of().into_iter().for_each(|vm| shared.look_at(vm)),
            Ok(()) = hold.changed() => due = Instant::now(),
            () = sleep_until(due) => {
                let taken = take(&shared, &mut configs).await;
                due = Instant::now() + if taken.is_some() { bounds.stock } else { shared.parts.settings.sweep };
            }
        }
    }
}

/// One look at all. None: libvirt or the journal does not answer, and nothing is concluded.
async fn take(shared: &Arc<Shared>, configs: &mut Configs) -> Option<()> {
    let before = rows(shared).await?;
    let domains = match shared.parts.effects.hypervisor.list().await {
        Ok(domains) => domains,
        Err(cause) => {
            tracing::debug!(reason = %cause.reason, "no stock is taken: {cause}");
            return None;
        }
    };
    // What changed while libvirt was asked is looked at the next time.
    let mut rows = rows(shared).await?;
    let known = rows.iter().map(|row| row.vm).collect();
    rows.retain(|row| before.iter().any(|old| old == row));
    shared.parts.keeping.attend(attention::all(&rows, &domains));
    shared.stock_taken(known);
    // A look that had to wait, for a domain that was busy for a moment, is taken again though all seems well.
    let waits = |row: &VmRow| shared.parts.keeping.says_of(row.vm);
    for row in rows.iter().filter(|row| is_worth_a_look(row, &domains) || waits(row)) {
        shared.look_at(row.vm);
    }
    configs.look(shared, &rows, &domains).await;
    Some(())
}

async fn rows(shared: &Shared) -> Option<Vec<VmRow>> {
    match shared.parts.journal.vms().await {
        Ok(rows) => Some(rows),
        Err(JournalError::Closed) => None,
        Err(error) => {
            tracing::warn!(%error, "no stock is taken");
            None
        }
    }
}

/// All but those that are as wanted, and of which nothing is noted.
fn is_worth_a_look(row: &VmRow, domains: &Domains) -> bool {
    if row.presence != Presence::There || row.unfinished {
        return false;
    }
    let power = domains.get(&row.vm).map(|domain: &Domain| domain.power);
    let as_wanted = match row.wanted {
        Wanted::On => power == Some(Power::Running),
        Wanted::Off => power == Some(Power::Off),
    };
    !as_wanted || row.kept.noted.is_some() || row.kept.starting
}
