//! What reconciling a host comes to: pure, so that what was shown and what is done are the same.
//!
//! Events that the host's journal has are ended by it; those that it does not have become `unknown`. VMs that both have
//! go on with the higher generation; one that only the coordinator has keeps its claim and its address until a destroy
//! has proven that it is gone; one that only the host has is taken into the rows when it is known what it was built as,
//! and else left alone.

use std::collections::BTreeMap;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::KindName;
use dewpoint_proto::ids::{EventId, Generation, HostId, JournalId, Seq, VmId};
use dewpoint_proto::names::VmName;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::events::stage::Stage;
use crate::store::{Account, EventRecord, Hello, Holding, HostRecord, JournalEntry, VmRecord};

/// What each side has, and what comes of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which host.
    pub host: HostId,
    /// For people.
    pub hostname: String,
    /// Why the two logs do not match.
    pub diverged: Cause,
    /// The host's journal.
    pub journal: JournalId,
    /// The queue goes on after it.
    pub base: Seq,
    /// The logs match, and only the machine is another: the old one and the new one.
    pub machine: Option<(String, String)>,
    /// Unfinished here: they become `unknown`.
    pub unknown: Vec<PlannedEvent>,
    /// Unfinished here, and in the host's journal: its reports end them.
    pub continued: Vec<PlannedEvent>,
    /// Every VM that either side has.
    pub vms: Vec<PlannedVm>,
}

/// An event that is unfinished here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedEvent {
    /// Which event.
    pub event: EventId,
    /// What it asks for.
    pub kind: KindName,
    /// Of which VM.
    pub vm: VmId,
    /// That VM's name.
    pub vm_name: VmName,
    /// Where it stands here.
    pub stage: Stage,
    /// Where it stands in the host's journal; none: it is not there.
    pub host_stage: Option<String>,
}

/// A VM that either side has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedVm {
    /// Which VM.
    pub vm: VmId,
    /// Its name.
    pub name: String,
    /// Who has it.
    pub standing: Standing,
    /// Of the coordinator; 0: it does not know the VM.
    pub generation: Generation,
    /// Of the host; 0: it does not have the VM.
    pub host_generation: Generation,
    /// What becomes of it.
    pub text: String,
}

/// Who has a VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Both.
    Both,
    /// The coordinator alone: claim and address stay.
    CoordinatorOnly,
    /// The host alone: it gets its row here.
    Adopted,
    /// The host alone, and it is not taken up.
    LeftAlone,
}

impl Standing {
    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::CoordinatorOnly => "coordinator_only",
            Self::Adopted => "adopted",
            Self::LeftAlone => "left_alone",
        }
    }
}

/// What is compared.
pub(super) struct Sides<'a> {
    pub(super) host: &'a HostRecord,
    pub(super) diverged: &'a Cause,
    pub(super) told: &'a Hello,
    /// Whether the logs match, machine and doubt aside.
    pub(super) logs_match: bool,
    pub(super) unfinished: &'a [EventRecord],
    /// VMs whose claim is on the host.
    pub(super) ours: &'a [VmRecord],
    /// Rows of the VMs that the host told of, wherever they are.
    pub(super) known: &'a BTreeMap<VmId, VmRecord>,
    pub(super) account: &'a Account,
}

/// The one plan for what there is.
pub(super) fn make(sides: &Sides<'_>) -> Plan {
    let Sides { host, told, .. } = sides;
    let base = host.last_seq.max(told.last_seq);
    let plan = Plan {
        host: host.id,
        hostname: host.hostname.clone(),
        diverged: sides.diverged.clone(),
        journal: told.journal,
        base,
        machine: None,
        unknown: Vec::new(),
        continued: Vec::new(),
        vms: Vec::new(),
    };
    let machine = host.product_uuid.clone().zip(told.product_uuid.clone()).filter(|(ours, now)| ours != now);
    if sides.logs_match && told.doubt.is_none() && machine.is_some() {
        return Plan { machine, base: host.last_seq, ..plan };
    }
    let (continued, unknown) = events(sides);
    Plan { unknown, continued, vms: vms(sides), ..plan }
}

/// Those that the host ends, and those that nobody can.
fn events(sides: &Sides<'_>) -> (Vec<PlannedEvent>, Vec<PlannedEvent>) {
    let journal: BTreeMap<EventId, &JournalEntry> =
        sides.account.entries.iter().map(|entry| (entry.event, entry)).collect();
    let believed = sides.told.doubt.is_none();
    let mut planned: Vec<_> = sides
        .unfinished
        .iter()
        .map(|event| {
            let entry = journal.get(&event.id);
            let ends = entry.is_some_and(|entry| believed || entry.outcome.is_some());
            let planned = PlannedEvent {
                event: event.id,
                kind: event.kind,
                vm: event.vm,
                vm_name: event.vm_name.clone(),
                stage: event.stage,
                host_stage: entry.map(|entry| entry.stage.clone()),
            };
            (ends, planned)
        })
        .collect();
    planned.sort_by_key(|(_, event)| event.event);
    let (continued, unknown): (Vec<_>, Vec<_>) = planned.into_iter().partition(|(ends, _)| *ends);
    let plain = |events: Vec<(bool, PlannedEvent)>| events.into_iter().map(|(_, event)| event).collect();
    (plain(continued), plain(unknown))
}

fn vms(sides: &Sides<'_>) -> Vec<PlannedVm> {
    let holdings: BTreeMap<VmId, &Holding> = sides
        .account
        .vms
        .iter()
        .filter(|holding| !holding.state.gone)
        .map(|holding| (holding.state.vm, holding))
        .collect();
    let here = sides.ours.iter().map(|vm| match holdings.get(&vm.id) {
        Some(holding) => both(vm, holding),
        None => coordinator_only(vm),
    });
    let there = holdings
        .values()
        .filter(|holding| !sides.ours.iter().any(|vm| vm.id == holding.state.vm))
        .map(|holding| host_only(sides, holding));
    let mut all: Vec<_> = here.chain(there).collect();
    all.sort_by(|a, b| (a.standing, &a.name, a.vm).cmp(&(b.standing, &b.name, b.vm)));
    all
}

fn both(vm: &VmRecord, holding: &Holding) -> PlannedVm {
    let found = holding.found;
    let text = match (&holding.unseen, found.libvirt, found.disk) {
        (unseen, ..) if !unseen.is_empty() => format!("goes on; not all could be looked at: {unseen}"),
        (_, true, true) => "goes on".to_owned(),
        (_, false, true) => "goes on; it has disks and no domain: look at it".to_owned(),
        (_, true, false) => "goes on; it has a domain and no disks: look at it".to_owned(),
        (_, false, false) => {
            "goes on; neither domain nor disks were found: destroy it to release its claim".to_owned()
        }
    };
    PlannedVm {
        vm: vm.id,
        name: vm.name.to_string(),
        standing: Standing::Both,
        generation: vm.generation,
        host_generation: holding.state.generation,
        text,
    }
}

fn coordinator_only(vm: &VmRecord) -> PlannedVm {
    PlannedVm {
        vm: vm.id,
        name: vm.name.to_string(),
        standing: Standing::CoordinatorOnly,
        generation: vm.generation,
        host_generation: Generation(0),
        text: "not found on the host: claim and addresses stay until it is destroyed".to_owned(),
    }
}

fn host_only(sides: &Sides<'_>, holding: &Holding) -> PlannedVm {
    let state = &holding.state;
    let row = sides.known.get(&state.vm);
    let (standing, text) = match row {
        None if holding.spec.is_some() => {
            (Standing::Adopted, "not known here: it gets its row, claim and addresses".to_owned())
        }
        None => (
            Standing::LeftAlone,
            "not known here, nor by the journal what it is: look on the host".to_owned(),
        ),
        Some(row) if row.gone => {
            (Standing::LeftAlone, "it was destroyed, and is there again: look on the host".to_owned())
        }
        Some(row) => {
            let other = row.hostname.clone().unwrap_or_else(|| "no host".to_owned());
            (Standing::LeftAlone, format!("it is a VM of {other}: look on both hosts"))
        }
    };
    PlannedVm {
        vm: state.vm,
        name: row.map_or_else(|| state.name.clone(), |row| row.name.to_string()),
        standing,
        generation: row.map_or(Generation(0), |row| row.generation),
        host_generation: state.generation,
        text,
    }
}

impl Plan {
    /// Of what it decides; that a VM was powered off meanwhile, or an event went on, makes no other plan.
    #[must_use]
    pub fn digest(&self) -> String {
        let ids = |events: &[PlannedEvent]| events.iter().map(|event| event.event).collect::<Vec<_>>();
        let vms: Vec<_> =
            self.vms.iter().map(|vm| (vm.vm, vm.standing, vm.generation, vm.host_generation)).collect();
        let decided = (
            (self.host, self.journal, self.base, &self.machine),
            (ids(&self.unknown), ids(&self.continued), vms),
        );
        let text = serde_json::to_vec(&decided).unwrap_or_default();
        hex::encode(Sha256::digest(&text))
    }

    /// Why an event becomes unknown.
    #[must_use]
    pub fn lost(&self, reason: &str) -> Cause {
        Cause::new(
            Reason::JournalLost,
            format!(
                "the journal of host {} does not have it, and a person reconciled the host: {reason}",
                self.hostname
            ),
        )
        .advise("look at the VM, then send the event again as a new one")
        .with("host_id", self.host)
        .with("journal_id", self.journal.0)
    }
}

#[cfg(test)]
mod tests;
