//! What is there when all has come to rest, as plain values: so that the checks are pure, and can be tested.

use std::collections::BTreeMap;

use dewpoint_proto::spec::Restart;

use super::history::Line;

/// Everything that the checks look at.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// What was done and seen.
    pub history: Vec<Line>,
    /// The coordinator's side.
    pub fleet: Fleet,
    /// The agent's side.
    pub journal: Journal,
    /// The host itself.
    pub host: Host,
}

/// The coordinator's side.
#[derive(Clone, Debug, Default)]
pub struct Fleet {
    /// All events, as its API tells.
    pub events: Vec<FleetEvent>,
    /// Its VMs, gone ones as well.
    pub vms: Vec<FleetVm>,
    /// What it counts as claimed on the host: vCPUs, memory, disk, VMs.
    pub claimed: [i64; 4],
    /// MACs, with their VMs.
    pub macs: Vec<(String, String)>,
    /// Addresses, with their VMs.
    pub addresses: Vec<(String, String)>,
    /// Why the host is diverged, or the coordinator recovering.
    pub trouble: Option<String>,
}

/// An event as the coordinator has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns' words")]
pub struct FleetEvent {
    pub id: String,
    pub vm: String,
    pub kind: String,
    pub stage: String,
    pub ended: bool,
    pub seq: u64,
    pub generation: u64,
    /// The cause's reason; empty: none.
    pub reason: String,
    /// The image that it names: of a create or restore.
    pub image: String,
    /// The image that a snapshot made.
    pub made: String,
    pub left_off: bool,
    pub contradicted: bool,
    pub accepted_ms: i64,
    pub finished_ms: i64,
}

/// A VM as the coordinator has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns' words")]
pub struct FleetVm {
    pub id: String,
    pub gone: bool,
    pub on_host: bool,
    pub generation: u64,
    pub wanted_on: bool,
    pub vcpus: i64,
    pub memory: i64,
    pub disk: i64,
    /// Its restart policy.
    pub restart: Restart,
    /// As its host says: how often it was started again by it.
    pub restarts: u32,
    /// What its host does about its being off.
    pub keeping: String,
    /// The reason of what somebody changed behind the agent's back; empty: nothing.
    pub attention: String,
}

/// The agent's side.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// Its events.
    pub events: Vec<JournalEvent>,
    /// What stands at each position.
    pub queue: Vec<(u64, String)>,
    /// Reports: event, how it ended, whether it was acknowledged.
    pub reports: Vec<(String, String, bool)>,
    /// Its VMs.
    pub vms: Vec<JournalVm>,
}

/// An event as the agent has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns' words")]
pub struct JournalEvent {
    pub id: String,
    pub vm: String,
    pub kind: String,
    pub delivered: bool,
    pub seq: u64,
    pub generation: u64,
    pub stage: String,
    /// How it ended; empty: it has not.
    pub outcome: String,
    /// The cause's reason; empty: none.
    pub reason: String,
}

/// A VM as the agent has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns' words")]
pub struct JournalVm {
    pub id: String,
    pub presence: String,
    pub wanted: String,
    pub generation: u64,
    pub disk: String,
    pub seed: String,
}

/// The host itself.
#[derive(Clone, Debug, Default)]
pub struct Host {
    /// libvirt's domains with files in the lab.
    pub domains: Vec<Domain>,
    /// VMs' folders: VM id, and the files in it.
    pub folders: BTreeMap<String, Vec<String>>,
    /// Links on the bridge.
    pub taps: Vec<String>,
    /// Taps that rules are for.
    pub shielded: Vec<String>,
    /// What guests told that answered; why the others did not.
    pub guests: BTreeMap<String, Result<Guest, String>>,
}

/// A domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the mark's words")]
pub struct Domain {
    pub vm: String,
    pub active: bool,
    /// It has a configuration to start from: it was not undefined.
    pub persistent: bool,
    pub title: String,
    pub paused: bool,
    pub generation: u64,
    pub event: String,
    pub wanted: String,
    pub disk: String,
    pub seed: String,
    /// Of the live mark; empty: off.
    pub live_run: String,
    /// See above.
    pub live_disk: String,
    pub taps: Vec<String>,
    pub macs: Vec<String>,
    /// Its state and the reason of it, by libvirt.
    pub why: String,
    /// The job that is at work on it, or why that cannot be told; empty: none.
    pub job: String,
}

/// What a guest told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the guest's words")]
pub struct Guest {
    pub instance_id: String,
    pub user_data_sha256: String,
    pub marker: Option<String>,
}

impl World {
    /// Which VMs the agent has, by id.
    #[must_use]
    pub fn there(&self) -> BTreeMap<&str, &JournalVm> {
        let there = self.journal.vms.iter().filter(|vm| vm.presence == "there");
        there.map(|vm| (vm.id.as_str(), vm)).collect()
    }

    /// A VM's events that succeeded, in the order of their generations.
    pub fn succeeded<'a>(&'a self, vm: &'a str) -> impl Iterator<Item = &'a FleetEvent> {
        let mut events: Vec<_> =
            self.fleet.events.iter().filter(|event| event.vm == vm && event.stage == "succeeded").collect();
        events.sort_by_key(|event| (event.generation, event.seq));
        events.into_iter()
    }

    /// The coordinator's row of a VM.
    #[must_use]
    pub fn vm(&self, id: &str) -> Option<&FleetVm> {
        self.fleet.vms.iter().find(|vm| vm.id == id)
    }

    /// A coordinator's event.
    #[must_use]
    pub fn event(&self, id: &str) -> Option<&FleetEvent> {
        self.fleet.events.iter().find(|event| event.id == id)
    }
}
