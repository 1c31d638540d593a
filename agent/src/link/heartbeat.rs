//! The heartbeat: proof that the main loop and the journal's thread are alive, and how the host is.

use std::collections::{BTreeMap, BTreeSet};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, Generation, VmId};
use dewpoint_proto::limits;
use dewpoint_proto::vm_state::VmState;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::from_agent;
use tokio::time::timeout;

use super::Parts;
use super::session::{End, Session, Standing};
use super::tell::ToldProgress;
use crate::config::Manner;
use crate::journal::{EventFilter, JournalError, Page};
use crate::report;

/// More changed VMs than this go as an inventory.
const CHANGED_MOST: usize = 128;
/// The most running events that one heartbeat names.
const RUNNING_MOST: u32 = 512;

/// How the host is, gathered beside the session's loop.
#[derive(Debug)]
pub(super) struct Facts {
    vms: Result<Vec<VmState>, Cause>,
    capacity: Option<wire::Capacity>,
    degraded: Vec<Cause>,
    running: Vec<EventId>,
    /// Why the journal takes no new events.
    pub(super) withheld: Option<Cause>,
}

/// What the coordinator was told in this session.
#[derive(Debug, Default)]
pub(super) struct Told {
    count: u64,
    inventories: u64,
    window: Option<u32>,
    degraded: Vec<Cause>,
    /// None: no inventory yet.
    vms: Option<BTreeMap<VmId, VmState>>,
    running: BTreeSet<EventId>,
    pub(super) progress: ToldProgress,
}

/// Asks all who know. A part that does not answer in time is told as degraded; the journal that does not is an error.
pub(super) async fn gather(parts: Parts) -> Result<Box<Facts>, JournalError> {
    let patience = parts.timing.inventory;
    let (journal, vms, capacity, degraded) = futures::join!(
        timeout(parts.timing.journal, journal_facts(&parts)),
        timeout(patience, parts.inventory.vms()),
        timeout(patience, parts.inventory.capacity()),
        timeout(patience, parts.inventory.degraded()),
    );
    let (withheld, running) =
        journal.map_err(|_| JournalError::Disk("the journal does not answer".into()))??;
    let late = |what: &str| {
        Cause::new(Reason::CallOverran, format!("{what} could not be gathered in time"))
            .advise("see the agent's status on the host")
    };
    let mut all = Vec::new();
    all.extend(withheld.clone());
    let vms = vms.unwrap_or_else(|_| Err(late("the state of the VMs")));
    all.extend(vms.as_ref().err().cloned());
    match degraded {
        // The inventory tells of the journal as well, as it is shown on the spot: once is enough.
        Ok(mut degraded) => {
            degraded.retain(|cause| withheld.as_ref().is_none_or(|told| told.reason != cause.reason));
            all.append(&mut degraded);
        }
        Err(_) => all.push(late("what is wrong with the host")),
    }
    Ok(Box::new(Facts { vms, capacity: capacity.ok(), degraded: all, running, withheld }))
}

async fn journal_facts(parts: &Parts) -> Result<(Option<Cause>, Vec<EventId>), JournalError> {
    let mut withheld = match parts.journal.ping().await {
        Ok(()) => None,
        Err(JournalError::Closed) => return Err(JournalError::Closed),
        Err(error) => Some(Cause::from(error)),
    };
    let filter = EventFilter { unfinished: true, ..EventFilter::default() };
    let unfinished = match parts.journal.events(filter, Page { before: None, limit: RUNNING_MOST }).await {
        Ok(unfinished) => unfinished,
        Err(JournalError::Closed) => return Err(JournalError::Closed),
        // The thread answers: what it cannot read is told, rather than falling silent.
        Err(error) => {
            withheld.get_or_insert(Cause::from(error));
            Vec::new()
        }
    };
    let running = unfinished.iter().filter(|event| event.begun_at.is_some()).map(|event| event.id).collect();
    Ok((withheld, running))
}

impl Session<'_> {
    /// How many more the host takes: none while withholding, held or diverged, else what the executor has room for.
    fn window(&self) -> u32 {
        let held = self.link.state.borrow().hold;
        if self.withheld || held || self.standing == Standing::Diverged {
            return 0;
        }
        let room = u32::try_from(self.link.parts.admitted.capacity()).unwrap_or(u32::MAX);
        room.min(limits::DELIVERY_WINDOW)
    }

    pub(super) async fn send_heartbeat(&mut self, facts: Facts) -> Result<(), End> {
        let changed = match facts.vms {
            Ok(vms) => self.changed_or_inventory(vms).await?,
            Err(_) => Vec::new(),
        };
        let running: BTreeSet<_> = facts.running.into_iter().collect();
        let begun = running.difference(&self.told.running).map(EventId::to_string).collect();
        self.told.running = running;
        self.told.degraded = facts.degraded;
        self.send_beat(facts.capacity, changed, begun).await
    }

    /// A window that opens or closes is told at once, without asking anyone else.
    pub(super) async fn send_window(&mut self) -> Result<(), End> {
        match self.told.window {
            Some(told) if (told == 0) != (self.window() == 0) => {
                self.send_beat(None, Vec::new(), Vec::new()).await
            }
            _ => Ok(()),
        }
    }

    async fn send_beat(
        &mut self,
        capacity: Option<wire::Capacity>,
        changed: Vec<VmState>,
        running_event_ids: Vec<String>,
    ) -> Result<(), End> {
        self.told.count += 1;
        let window = self.window();
        self.told.window = Some(window);
        let heartbeat = wire::Heartbeat {
            count: self.told.count,
            window,
            capacity,
            degraded: self.told.degraded.iter().cloned().map(Into::into).collect(),
            changed: changed.into_iter().map(report::state_to_wire).collect(),
            running_event_ids,
            observe_only: self.link.parts.manner == Manner::Observes,
            held: self.asks_for(),
        };
        self.say(from_agent::Message::Heartbeat(heartbeat)).await
    }

    /// Movable VMs that wait for the coordinator's word: asked for with every heartbeat until it is given.
    fn asks_for(&self) -> Vec<wire::Held> {
        let asking = self.link.parts.keeping.asking().into_iter();
        asking.map(|(vm, Generation(generation))| wire::Held { vm_id: vm.to_string(), generation }).collect()
    }

    /// What changed since it was told; the first time, and when that is much, everything as an inventory instead.
    async fn changed_or_inventory(&mut self, vms: Vec<VmState>) -> Result<Vec<VmState>, End> {
        let now: BTreeMap<_, _> = vms.into_iter().map(|vm| (vm.vm, vm)).collect();
        let changed: Vec<_> = match &self.told.vms {
            Some(told) => now
                .values()
                .filter(|vm| !told.get(&vm.vm).is_some_and(|old| same(old, vm)))
                .cloned()
                .collect(),
            None => Vec::new(),
        };
        let whole = self.told.vms.is_none() || changed.len() > CHANGED_MOST;
        if whole {
            self.told.inventories += 1;
            let start_count = self.link.parts.journal.epoch().start_count;
            let states = now.values().cloned().collect();
            for chunk in report::chunks(states, start_count, self.told.inventories) {
                self.say(from_agent::Message::Inventory(chunk)).await?;
            }
        }
        self.told.vms = Some(now);
        Ok(if whole { Vec::new() } else { changed })
    }
}

/// Apart from which reports it shows: that moves with every event of the host.
fn same(old: &VmState, new: &VmState) -> bool {
    VmState { as_of: old.as_of, ..new.clone() } == *old
}
