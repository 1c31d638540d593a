//! What the host has: its VMs as the journal and libvirt have them, its capacity, what is wrong with it.

use std::sync::Arc;

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::ReportSeq;
use dewpoint_proto::vm_state::{Power, VmState};
use dewpoint_proto::wire::agent as wire;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};
use tokio::sync::watch;

use crate::execute::apply::Effects;
use crate::hypervisor::{Domain, Domains, Hypervisor, Seen, Wanted};
use crate::journal::admission::Presence;
use crate::journal::{Journal, VmRow};
use crate::report::Inventory;
use crate::storage::Storage;

/// The host, as it is told to the coordinator.
pub(super) struct Host {
    journal: Journal,
    hypervisor: Arc<dyn Hypervisor>,
    storage: Arc<dyn Storage>,
    /// Files that are elsewhere.
    elsewhere: watch::Receiver<Vec<Cause>>,
}

impl Host {
    pub(super) fn new(journal: Journal, effects: &Effects, elsewhere: watch::Receiver<Vec<Cause>>) -> Self {
        let (hypervisor, storage) = (Arc::clone(&effects.hypervisor), Arc::clone(&effects.storage));
        Self { journal, hypervisor, storage, elsewhere }
    }
}

#[async_trait]
impl Inventory for Host {
    async fn vms(&self) -> Result<Vec<VmState>, Cause> {
        // Read before looking, so that a state is never said to be newer than it is.
        let as_of = self.journal.tail().await.map_err(Cause::from)?.last_report;
        let rows = self.journal.vms().await.map_err(Cause::from)?;
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let domains = self.hypervisor.list().await;
        Ok(rows
            .iter()
            .filter(|row| row.presence == Presence::There)
            .map(|row| state(row, &domains, as_of))
            .collect())
    }

    async fn capacity(&self) -> wire::Capacity {
        let space = self.storage.space().await.ok();
        let memory = RefreshKind::nothing().with_memory(MemoryRefreshKind::nothing().with_ram());
        let system = System::new_with_specifics(memory).ok();
        let cpus = std::thread::available_parallelism()
            .map_or(0, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX));
        wire::Capacity {
            cpus,
            memory_bytes: system.as_ref().map_or(0, System::total_memory),
            memory_available_bytes: system.as_ref().map_or(0, System::available_memory),
            disk_bytes: space.map_or(0, |space| space.total),
            disk_free_bytes: space.map_or(0, |space| space.free),
            cpu_arch: std::env::consts::ARCH.to_owned(),
            bridges: bridges(),
        }
    }

    async fn degraded(&self) -> Vec<Cause> {
        let mut causes = self.hypervisor.degraded();
        causes.extend(self.storage.degraded().await);
        causes.extend(self.elsewhere.borrow().iter().cloned());
        causes.extend(self.journal.withheld().borrow().clone());
        causes
    }
}

fn state(row: &VmRow, domains: &Result<Domains, Cause>, as_of: ReportSeq) -> VmState {
    let told = VmState {
        vm: row.vm,
        name: row.name.as_ref().map(|name| name.as_str().to_owned()).unwrap_or_default(),
        generation: row.generation,
        power: Power::Unknown,
        power_detail: String::new(),
        wanted_on: row.wanted == Wanted::On,
        run: None,
        disk: row.disk,
        as_of,
        gone: false,
    };
    match domains {
        Err(cause) => VmState { power_detail: cause.text.clone(), ..told },
        Ok(domains) => match domains.get(&row.vm) {
            None => VmState { power: Power::Absent, ..told },
            Some(domain) => seen(told, domain),
        },
    }
}

fn seen(told: VmState, domain: &Domain) -> VmState {
    // A domain of this UUID that is not ours says nothing of our VM.
    match &domain.mark {
        Seen::There(_) => {}
        Seen::Absent => {
            return VmState { power_detail: "a domain with its UUID bears no mark of ours".into(), ..told };
        }
        Seen::Unknown(why) => return VmState { power_detail: why.clone(), ..told },
    }
    let run = domain.live.there().and_then(|mark| mark.run);
    VmState { power: domain.power, power_detail: domain.detail.clone(), run, ..told }
}

/// Linux bridges by the kernel's own mark of them.
fn bridges() -> Vec<String> {
    let Ok(interfaces) = std::fs::read_dir("/sys/class/net") else { return Vec::new() };
    let mut names: Vec<String> = interfaces
        .flatten()
        .filter(|interface| interface.path().join("bridge").is_dir())
        .filter_map(|interface| interface.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}
