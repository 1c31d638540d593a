//! What the host tells the coordinator: reports from the journal's outbox, the inventory, progress.
//!
//! Owns nothing; turns rows and observations into messages. Never: decides how an event ended.

pub mod account;
pub mod progress;

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::limits;
use dewpoint_proto::spec::{ImageDigest, VmSpec};
use dewpoint_proto::vm_state::VmState;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::event;
use prost::Message;

use crate::hypervisor::Mark;
use crate::journal::ReportRow;

/// What the link tells of the host beyond its events. Each call has a deadline of the link's; when it passes, the
/// heartbeat goes without it and says so.
#[async_trait]
pub trait Inventory: Send + Sync + 'static {
    /// Every VM that the host knows, each as of the newest report whose event it already shows.
    ///
    /// # Errors
    /// When nothing can be said at all; a VM that could not be observed is told as `Unknown` instead.
    async fn vms(&self) -> Result<Vec<VmState>, Cause>;

    /// Every VM of ours on this host, by journal, libvirt and disk: for whoever compares.
    ///
    /// # Errors
    /// When nothing can be said at all.
    async fn holdings(&self) -> Result<Vec<Holding>, Cause>;

    /// What the host has.
    async fn capacity(&self) -> wire::Capacity;

    /// Why the host takes nothing or little; empty: all is well.
    async fn degraded(&self) -> Vec<Cause>;
}

/// A VM of ours, wherever it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// As observed.
    pub state: VmState,
    /// As journaled.
    pub spec: Option<VmSpec>,
    /// The journal has it.
    pub in_journal: bool,
    /// On its domain; none: it has none, or that bears no mark.
    pub mark: Option<Mark>,
    /// It has a folder with our mark, and something in it.
    pub on_disk: bool,
    /// What could not be looked at; empty: all was.
    pub unseen: String,
    /// That its disk rests on.
    pub image: Option<ImageDigest>,
}

/// A report as it travels.
#[must_use]
pub fn to_wire(report: ReportRow) -> wire::Report {
    wire::Report {
        report_seq: report.n.0,
        event_id: report.event.to_string(),
        seq: report.seq.map_or(0, |seq| seq.0),
        generation: report.generation.0,
        outcome: Some(report.outcome.into()),
        vm: report.vm.map(Into::into),
        event: report.body.unwrap_or_default(),
        begun_at_ms: report.begun_at.map_or(0, |at| at.0),
        finished_at_ms: report.finished_at.0,
    }
}

/// An inventory as it travels: chunks under [`limits::INVENTORY_CHUNK_BYTES`], the last of which says complete.
/// Always at least one.
#[must_use]
pub fn chunks(vms: Vec<VmState>, start_count: u64, inventory: u64) -> Vec<wire::InventoryChunk> {
    let empty = || wire::InventoryChunk { start_count, inventory, complete: false, vms: Vec::new() };
    let mut all = Vec::new();
    let (mut chunk, mut bytes) = (empty(), 0);
    for vm in vms {
        let vm = state_to_wire(vm);
        // Its own length, its tag and its length's length.
        let more = vm.encoded_len() + 8;
        if bytes + more > CHUNK_BYTES {
            all.push(std::mem::replace(&mut chunk, empty()));
            bytes = 0;
        }
        bytes += more;
        chunk.vms.push(vm);
    }
    chunk.complete = true;
    all.push(chunk);
    all
}

/// With room for the chunk's other fields.
const CHUNK_BYTES: usize = limits::INVENTORY_CHUNK_BYTES - 64;

/// What libvirt gives as a reason is text from outside.
const DETAIL_CHARS: usize = 512;

/// A VM's state as it travels, its detail cut to a bound.
#[must_use]
pub fn state_to_wire(mut vm: VmState) -> event::VmState {
    if let Some((end, _)) = vm.power_detail.char_indices().nth(DETAIL_CHARS) {
        vm.power_detail.truncate(end);
    }
    vm.into()
}

#[cfg(test)]
mod tests {
    use dewpoint_proto::ids::{Generation, ReportSeq, VmId};
    use dewpoint_proto::vm_state::Power;

    use super::*;

    fn state(n: u128, detail: &str) -> VmState {
        VmState {
            vm: VmId(uuid::Uuid::from_u128(n)),
            name: "web".into(),
            generation: Generation(1),
            power: Power::Running,
            power_detail: detail.into(),
            wanted_on: true,
            run: None,
            disk: None,
            as_of: ReportSeq(0),
            gone: false,
            life: Box::default(),
        }
    }

    #[test]
    fn an_empty_inventory_is_one_complete_chunk() {
        let [chunk] = chunks(Vec::new(), 3, 1).try_into().unwrap();
        assert!(chunk.complete && chunk.vms.is_empty() && chunk.start_count == 3);
    }

    #[test]
    fn every_chunk_stays_below_the_limit_and_only_the_last_is_complete() {
        let detail = "ä".repeat(100_000);
        let states: Vec<_> = (1..=3000).map(|n| state(n, &detail)).collect();
        let all = chunks(states, 1, 1);
        assert!(all.len() > 1);
        assert!(all.iter().all(|chunk| chunk.encoded_len() < limits::INVENTORY_CHUNK_BYTES));
        assert_eq!(all.iter().map(|chunk| chunk.vms.len()).sum::<usize>(), 3000);
        let complete: Vec<_> = all.iter().map(|chunk| chunk.complete).collect();
        assert_eq!(complete.iter().filter(|complete| **complete).count(), 1);
        assert_eq!(complete.last(), Some(&true));
    }
}
