//! What the host has: its VMs as the journal and libvirt have them, its capacity, what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{Generation, ReportSeq, VmId};
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::vm_state::{Power, VmState};
use dewpoint_proto::wire::agent as wire;
use sysinfo::{MemoryRefreshKind, RefreshKind, System};
use tokio::sync::watch;

use crate::execute::apply::Effects;
use crate::execute::keep::board::Board;
use crate::hypervisor::{Domain, Domains, Hypervisor, Mark, Seen, Wanted};
use crate::journal::admission::Presence;
use crate::journal::{Journal, VmRow};
use crate::report::{Holding, Inventory};
use crate::storage::{Storage, VmFiles};

/// The host, as it is told to the coordinator.
pub(super) struct Host {
    journal: Journal,
    hypervisor: Arc<dyn Hypervisor>,
    storage: Arc<dyn Storage>,
    /// Files that are elsewhere.
    elsewhere: watch::Receiver<Vec<Cause>>,
    keeping: Board,
}

impl Host {
    pub(super) fn new(
        journal: Journal,
        effects: &Effects,
        elsewhere: watch::Receiver<Vec<Cause>>,
        keeping: Board,
    ) -> Self {
        let (hypervisor, storage) = (Arc::clone(&effects.hypervisor), Arc::clone(&effects.storage));
        Self { journal, hypervisor, storage, elsewhere, keeping }
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
            .map(|row| VmState { life: Box::new(self.keeping.life(row)), ..state(row, &domains, as_of) })
            .collect())
    }

    async fn holdings(&self) -> Result<Vec<Holding>, Cause> {
        let as_of = self.journal.tail().await.map_err(Cause::from)?.last_report;
        let rows = self.journal.vms().await.map_err(Cause::from)?;
        let domains = self.hypervisor.list().await;
        let folders = self.storage.list().await;
        let mut all: BTreeMap<VmId, Holding> =
            rows.iter().map(|row| (row.vm, journaled(row, &domains, as_of))).collect();
        for (vm, domain) in domains.iter().flatten() {
            let Some(mark) = domain.mark.there() else { continue };
            let holding = all.entry(*vm).or_insert_with(|| marked(domain, mark, as_of));
            holding.mark = Some(mark.clone());
            holding.state.generation = holding.state.generation.max(mark.generation);
        }
        let known: BTreeSet<VmId> = all.keys().chain(folders.iter().flatten()).copied().collect();
        for vm in known {
            match self.storage.observe(vm).await {
                Seen::There(files) if !files.disks.is_empty() => {
                    let holding = all.entry(vm).or_insert_with(|| on_disk_alone(vm, as_of));
                    holding.on_disk = true;
                    holding.image = image_of(holding, &files);
                }
                // A folder that is not ours, or cannot be read, is told of the VMs that are known otherwise.
                Seen::Unknown(why) => {
                    if let Some(holding) = all.get_mut(&vm) {
                        holding.unseen = why;
                    }
                }
                Seen::There(_) | Seen::Absent => {}
            }
        }
        for cause in domains.err().into_iter().chain(folders.err()) {
            all.values_mut().for_each(|holding| holding.unseen.clone_from(&cause.text));
        }
        Ok(all.into_values().collect())
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
        causes.extend(self.journal.doubt());
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
        life: Box::default(),
    };
    match domains {
        Err(cause) => VmState { power_detail: cause.text.clone(), ..told },
        Ok(domains) => match domains.get(&row.vm) {
            None => VmState { power: Power::Absent, ..told },
            Some(domain) => seen(told, domain),
        },
    }
}

fn journaled(row: &VmRow, domains: &Result<Domains, Cause>, as_of: ReportSeq) -> Holding {
    let state = state(row, domains, as_of);
    Holding { spec: row.spec.clone(), in_journal: true, ..nothing_of(state) }
}

/// A domain with our mark that the journal does not know.
fn marked(domain: &Domain, mark: &Mark, as_of: ReportSeq) -> Holding {
    let told = VmState {
        vm: domain.vm,
        name: domain.name.clone(),
        generation: mark.generation,
        wanted_on: mark.wanted == Wanted::On,
        disk: Some(mark.disk),
        ..unseen_state(domain.vm, as_of)
    };
    nothing_of(seen(told, domain))
}

/// A folder with our mark, and nothing else.
fn on_disk_alone(vm: VmId, as_of: ReportSeq) -> Holding {
    nothing_of(VmState { power: Power::Absent, ..unseen_state(vm, as_of) })
}

fn unseen_state(vm: VmId, as_of: ReportSeq) -> VmState {
    VmState {
        vm,
        name: String::new(),
        generation: Generation(0),
        power: Power::Unknown,
        power_detail: String::new(),
        wanted_on: false,
        run: None,
        disk: None,
        as_of,
        gone: false,
        life: Box::default(),
    }
}

fn nothing_of(state: VmState) -> Holding {
    Holding {
        state,
        spec: None,
        in_journal: false,
        mark: None,
        on_disk: false,
        unseen: String::new(),
        image: None,
    }
}

/// Of the disk in use, else of the only one.
fn image_of(holding: &Holding, files: &VmFiles) -> Option<ImageDigest> {
    match holding.state.disk.and_then(|disk| files.disks.get(&disk)) {
        Some(image) => *image,
        None => files.disks.values().next().copied().flatten(),
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
