//! `Hosts`: how they are, and the switches that people turn.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::HostId;
use dewpoint_proto::wire::fleet::{self, hosts_server::Hosts};
use tonic::{Request, Response, Status};

use super::fleet::Caller;
use super::{Api, millis};
use crate::events::request::HostSelector;
use crate::events::{HostStatus, Plan, PlannedEvent, PlannedVm};
use crate::store::{Disks, FleetRecord, HoldScope, Page, Switch, Word};

#[tonic::async_trait]
impl Hosts for Api {
    async fn list_hosts(
        &self,
        request: Request<fleet::ListHostsRequest>,
    ) -> Result<Response<fleet::ListHostsResponse>, Status> {
        self.answer("ListHosts", async {
            let request = request.into_inner();
            let hosts = self.events.hosts(Page::parse(request.page_size, &request.page_token)?).await?;
            let of_all = self.events.fleet().await?;
            Ok(fleet::ListHostsResponse {
                hosts: hosts.items.into_iter().map(|host| self.host_to_wire(host, &of_all)).collect(),
                next_page_token: hosts.next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn get_host(
        &self,
        request: Request<fleet::GetHostRequest>,
    ) -> Result<Response<fleet::Host>, Status> {
        self.answer("GetHost", async {
            let host: HostSelector = request.into_inner().host.parse()?;
            let host = self.events.host(host).await?;
            Ok(self.host_to_wire(host, &self.events.fleet().await?))
        })
        .await
    }

    async fn cordon_host(
        &self,
        request: Request<fleet::CordonHostRequest>,
    ) -> Result<Response<fleet::Host>, Status> {
        let caller = Caller::of(&request);
        let fleet::CordonHostRequest { host, reason } = request.into_inner();
        self.answer("CordonHost", async { self.cordon(&host, Switch::On, caller.word(reason)?).await }).await
    }

    async fn uncordon_host(
        &self,
        request: Request<fleet::UncordonHostRequest>,
    ) -> Result<Response<fleet::Host>, Status> {
        let caller = Caller::of(&request);
        let fleet::UncordonHostRequest { host, reason } = request.into_inner();
        self.answer("UncordonHost", async { self.cordon(&host, Switch::Off, caller.word(reason)?).await })
            .await
    }

    async fn set_hold(
        &self,
        request: Request<fleet::SetHoldRequest>,
    ) -> Result<Response<fleet::SetHoldResponse>, Status> {
        self.answer("SetHold", async {
            let caller = Caller::of(&request);
            let request = request.into_inner();
            let scope = self.host_id(&request.host).await?.map_or(HoldScope::Fleet, HoldScope::Host);
            let hold = if request.hold { Switch::On } else { Switch::Off };
            let hosts = self.events.hold(scope, hold, caller.word(request.reason)?).await?;
            Ok(fleet::SetHoldResponse { hosts })
        })
        .await
    }

    async fn end_recovery(
        &self,
        request: Request<fleet::EndRecoveryRequest>,
    ) -> Result<Response<fleet::EndRecoveryResponse>, Status> {
        self.answer("EndRecovery", async {
            let word = Caller::of(&request).word_with_reason(request.into_inner().reason)?;
            let ended = self.events.end_recovery(word).await?;
            Ok(fleet::EndRecoveryResponse { ended: ended.map(Into::into) })
        })
        .await
    }

    async fn plan_reconcile(
        &self,
        request: Request<fleet::PlanReconcileRequest>,
    ) -> Result<Response<fleet::ReconcilePlan>, Status> {
        self.answer("PlanReconcile", async {
            Ok(plan_to_wire(self.events.plan_reconcile(request.into_inner().host.parse()?).await?))
        })
        .await
    }

    async fn reconcile_host(
        &self,
        request: Request<fleet::ReconcileHostRequest>,
    ) -> Result<Response<fleet::ReconcilePlan>, Status> {
        self.answer("ReconcileHost", async {
            let caller = Caller::of(&request);
            let request = request.into_inner();
            let word = caller.word_with_reason(request.reason)?;
            let plan = self.events.reconcile(request.host.parse()?, &request.digest, word).await?;
            Ok(plan_to_wire(plan))
        })
        .await
    }

    async fn retire_host(
        &self,
        request: Request<fleet::RetireHostRequest>,
    ) -> Result<Response<fleet::RetireHostResponse>, Status> {
        self.answer("RetireHost", async {
            let caller = Caller::of(&request);
            let request = request.into_inner();
            let word = caller.word_with_reason(request.reason)?;
            let disks = if request.disks_gone { Disks::Gone } else { Disks::NotSaid };
            let retired = self.events.retire(request.host.parse()?, disks, word).await?;
            Ok(fleet::RetireHostResponse {
                host: Some(self.host_to_wire(retired.host, &self.events.fleet().await?)),
                vm_ids: retired.vms.iter().map(ToString::to_string).collect(),
                unknown_event_ids: retired.unknown.iter().map(ToString::to_string).collect(),
            })
        })
        .await
    }

    async fn replace_host(
        &self,
        request: Request<fleet::ReplaceHostRequest>,
    ) -> Result<Response<fleet::ReplaceHostResponse>, Status> {
        self.answer("ReplaceHost", async {
            let caller = Caller::of(&request);
            let request = request.into_inner();
            let word = caller.word_with_reason(request.reason)?;
            let (old, new) = (request.old_host.parse()?, request.new_host.parse()?);
            let host = self.events.replace(old, new, word).await?;
            Ok(fleet::ReplaceHostResponse {
                host: Some(self.host_to_wire(host, &self.events.fleet().await?)),
            })
        })
        .await
    }
}

impl Api {
    /// The host of that id or name; none for empty text.
    pub(super) async fn host_id(&self, text: &str) -> Result<Option<HostId>, Cause> {
        if text.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.events.host(text.parse()?).await?.record.id))
    }

    async fn cordon(&self, host: &str, cordon: Switch, word: Word) -> Result<fleet::Host, Cause> {
        let host = self.events.cordon(host.parse()?, cordon, word).await?;
        Ok(self.host_to_wire(host, &self.events.fleet().await?))
    }

    fn host_to_wire(&self, host: HostStatus, of_all: &FleetRecord) -> fleet::Host {
        let HostStatus { record, liveness, observe_only } = host;
        // The fleet's hold holds this host as well.
        let held = self.events.held(record.id);
        let capacity = record.capacity.unwrap_or_default();
        fleet::Host {
            host_id: record.id.to_string(),
            hostname: record.hostname,
            liveness: liveness.to_string(),
            cordoned: record.cordoned.is_some(),
            held: held.is_some(),
            cpus: capacity.cpus,
            memory_bytes: capacity.memory_bytes,
            disk_bytes: capacity.disk_bytes,
            disk_free_bytes: capacity.disk_free_bytes,
            claimed_vcpus: u32::try_from(record.claims.vcpus).unwrap_or(u32::MAX),
            claimed_memory_bytes: record.claims.memory_bytes,
            claimed_disk_bytes: record.claims.disk_bytes,
            vms: record.claims.vms,
            agent_version: record.agent_version,
            last_heartbeat_ms: millis(record.last_heartbeat),
            term: record.term.0,
            last_seq: record.last_seq.0,
            degraded: record.degraded.into_iter().map(Into::into).collect(),
            diverged: record.diverged.map(Into::into),
            cordon_reason: record.cordoned.unwrap_or_default(),
            hold_reason: held.unwrap_or_default(),
            memory_available_bytes: capacity.memory_available_bytes,
            recovering: of_all.recovering.clone().map(Into::into),
            observe_only,
        }
    }
}

fn plan_to_wire(plan: Plan) -> fleet::ReconcilePlan {
    let digest = plan.digest();
    let (old_machine, new_machine) = plan.machine.unwrap_or_default();
    fleet::ReconcilePlan {
        host_id: plan.host.to_string(),
        hostname: plan.hostname,
        diverged: Some(plan.diverged.into()),
        digest,
        unknown: plan.unknown.into_iter().map(event_to_wire).collect(),
        reports: plan.continued.into_iter().map(event_to_wire).collect(),
        vms: plan.vms.into_iter().map(vm_to_wire).collect(),
        base_seq: plan.base.0,
        old_journal_id: plan.journal.to_string(),
        old_machine,
        new_machine,
    }
}

fn event_to_wire(event: PlannedEvent) -> fleet::PlannedEvent {
    fleet::PlannedEvent {
        event_id: event.event.to_string(),
        kind: event.kind.as_str().to_owned(),
        vm_id: event.vm.to_string(),
        vm_name: event.vm_name.to_string(),
        stage: event.stage.as_str().to_owned(),
        host_stage: event.host_stage.unwrap_or_default(),
    }
}

fn vm_to_wire(vm: PlannedVm) -> fleet::PlannedVm {
    fleet::PlannedVm {
        vm_id: vm.vm.to_string(),
        name: vm.name,
        standing: vm.standing.as_str().to_owned(),
        generation: vm.generation.0,
        host_generation: vm.host_generation.0,
        text: vm.text,
    }
}
