//! A hypervisor and a network on which nothing happens: domains as they were put there, and no rule.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use dewpoint_agent::hypervisor::{
    BackupJob, Call, CallKind, Consistency, Control, Details, Domain, DomainEvent, DomainSpec, Domains,
    Hypervisor, Inspected, Seen, domain_name,
};
use dewpoint_agent::network::{Allowed, Shield, Survey};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;
use dewpoint_proto::names::InterfaceName;
use dewpoint_proto::vm_state::Power;
use tokio::sync::broadcast;

/// Domains that are off.
pub(super) struct Still {
    domains: BTreeMap<VmId, Inspected>,
    events: broadcast::Sender<DomainEvent>,
}

impl Still {
    pub(super) fn new(specs: Vec<DomainSpec>) -> Self {
        let domains = specs.into_iter().map(|spec| (spec.mark.vm, off(&spec))).collect();
        Self { domains, events: broadcast::Sender::new(1) }
    }
}

fn off(spec: &DomainSpec) -> Inspected {
    let vm = spec.mark.vm;
    let domain = Domain {
        vm,
        name: domain_name(&spec.name, vm),
        power: Power::Off,
        detail: "shutoff/shutdown".to_owned(),
        mark: Seen::There(spec.mark.clone()),
        live: Seen::Absent,
        backup: BackupJob::None,
        control: Control::Idle,
        claims: None,
    };
    let details = Details {
        persistent: true,
        disk: Some(spec.disk.clone()),
        seed: Some(spec.seed.clone()),
        vcpus: spec.vcpus,
        memory_bytes: spec.memory_bytes,
        ..Details::default()
    };
    Inspected { domain, details: Seen::There(details) }
}

fn never<T>() -> Result<T, Cause> {
    Err(Cause::new(Reason::Internal, "nothing is changed here"))
}

#[async_trait]
impl Hypervisor for Still {
    async fn observe(&self, vm: VmId) -> Seen<Domain> {
        self.domains.get(&vm).map_or(Seen::Absent, |seen| Seen::There(seen.domain.clone()))
    }

    async fn list(&self) -> Result<Domains, Cause> {
        Ok(self.domains.iter().map(|(vm, seen)| (*vm, seen.domain.clone())).collect())
    }

    async fn disk_files(&self) -> Result<BTreeMap<VmId, Vec<PathBuf>>, Cause> {
        never()
    }

    async fn inspect(&self, which: Option<VmId>) -> Result<BTreeMap<VmId, Inspected>, Cause> {
        let mut domains = self.domains.clone();
        domains.retain(|vm, _| which.is_none_or(|which| which == *vm));
        Ok(domains)
    }

    async fn apply(&self, _: Call) -> Result<Option<Consistency>, Cause> {
        never()
    }

    fn deadline(&self, _: CallKind) -> Duration {
        Duration::ZERO
    }

    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.events.subscribe()
    }

    fn degraded(&self) -> Vec<Cause> {
        Vec::new()
    }
}

#[async_trait]
impl Shield for Still {
    async fn observe(&self, _: VmId) -> Seen<Vec<Allowed>> {
        Seen::Absent
    }

    async fn survey(&self) -> Result<Survey, Cause> {
        Ok(Survey::default())
    }

    async fn clear_taps(&self, _: &[InterfaceName]) -> Result<(), Cause> {
        never()
    }

    async fn set(&self, _: VmId, _: &[Allowed]) -> Result<(), Cause> {
        never()
    }

    async fn clear(&self, _: VmId) -> Result<(), Cause> {
        never()
    }
}
