//! `Vms`: what is asked of VMs, and how they are.

use dewpoint_proto::cause::{Cause, Reason, shortened};
use dewpoint_proto::names::VmName;
use dewpoint_proto::spec::Placement;
use dewpoint_proto::wire::event;
use dewpoint_proto::wire::fleet::{self, vms_server::Vms};
use tonic::{Request, Response, Status};

use super::events::full;
use super::{Answers, Api, millis, text};
use crate::events::Watched;
use crate::events::request::{ChangeVm, CreateVm, VmSelector};
use crate::store::{Page, VmFilter, VmRecord};
use dewpoint_proto::status::to_status;

#[tonic::async_trait]
impl Vms for Api {
    type WatchVmsStream = Answers<fleet::WatchVmsResponse>;

    async fn create_vm(
        &self,
        request: Request<fleet::CreateVmRequest>,
    ) -> Result<Response<fleet::EventRecord>, Status> {
        self.answer("CreateVm", async {
            let create = CreateVm::try_from(request.into_inner())?;
            self.events.create(create).await.map(full)
        })
        .await
    }

    async fn get_vm(&self, request: Request<fleet::GetVmRequest>) -> Result<Response<fleet::Vm>, Status> {
        self.answer("GetVm", async {
            let vm: VmSelector = request.into_inner().vm.parse()?;
            self.events.vm(vm).await.map(to_wire)
        })
        .await
    }

    async fn list_vms(
        &self,
        request: Request<fleet::ListVmsRequest>,
    ) -> Result<Response<fleet::ListVmsResponse>, Status> {
        self.answer("ListVms", async {
            let request = request.into_inner();
            let page = Page::parse(request.page_size, &request.page_token)?;
            let filter = VmFilter {
                host: self.host_id(&request.host_id).await?,
                labels: labels(&request.label_selector)?,
                include_gone: request.include_gone,
                ..VmFilter::default()
            };
            let vms = self.events.vms(filter, page).await?;
            Ok(fleet::ListVmsResponse {
                vms: vms.items.into_iter().map(to_wire).collect(),
                next_page_token: vms.next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn watch_vms(
        &self,
        request: Request<fleet::WatchVmsRequest>,
    ) -> Result<Response<Self::WatchVmsStream>, Status> {
        let request = request.into_inner();
        let filter = self.watched_vms(&request).await.map_err(to_status)?;
        self.stream(self.events.watch_vms(filter), |item| match item {
            Watched::Item(vm) => fleet::WatchVmsResponse { vm: Some(to_wire(vm)), snapshot_complete: false },
            Watched::SnapshotComplete => fleet::WatchVmsResponse { vm: None, snapshot_complete: true },
        })
    }

    async fn start_vm(
        &self,
        request: Request<fleet::VmRequest>,
    ) -> Result<Response<fleet::EventRecord>, Status> {
        self.change("StartVm", ChangeVm::start(request.into_inner())).await
    }

    async fn stop_vm(
        &self,
        request: Request<fleet::StopVmRequest>,
    ) -> Result<Response<fleet::EventRecord>, Status> {
        self.change("StopVm", request.into_inner().try_into()).await
    }

    async fn reboot_vm(
        &self,
        request: Request<fleet::RebootVmRequest>,
    ) -> Result<Response<fleet::EventRecord>, Status> {
        self.change("RebootVm", request.into_inner().try_into()).await
    }

    async fn snapshot_vm(
        &self,
        request: Request<fleet::SnapshotVmRequest>,
    ) -> Result<Response<fleet::EventRecord>, Status> {
        self.change("SnapshotVm", request.into_inner().try_into()).await
    }

    async fn restore_vm(
        &self,
        request: Request<fleet::RestoreVmRequest>,
    ) -> Result<Response<fleet::EventRecord>, Status> {
        self.change("RestoreVm", request.into_inner().try_into()).await
    }

    async fn destroy_vm(
        &self,
        request: Request<fleet::DestroyVmRequest>,
    ) -> Result<Response<fleet::EventRecord>, Status> {
        self.change("DestroyVm", request.into_inner().try_into()).await
    }
}

impl Api {
    async fn change(
        &self,
        method: &'static str,
        parsed: Result<ChangeVm, Cause>,
    ) -> Result<Response<fleet::EventRecord>, Status> {
        self.answer(method, async { self.events.change(parsed?).await.map(full) }).await
    }

    /// A watch of one VM goes on when it is gone; one of many shows those that are there.
    async fn watched_vms(&self, request: &fleet::WatchVmsRequest) -> Result<VmFilter, Cause> {
        let mut filter = VmFilter { host: self.host_id(&request.host_id).await?, ..VmFilter::default() };
        if !request.vm.is_empty() {
            filter.vm = Some(self.events.vm(request.vm.parse()?).await?.id);
            filter.include_gone = true;
        }
        Ok(filter)
    }
}

/// `key`, `key=value`, joined by commas.
fn labels(selector: &str) -> Result<Vec<(String, Option<String>)>, Cause> {
    let terms = selector.split(',').map(str::trim).filter(|term| !term.is_empty());
    terms
        .map(|term| {
            let (key, value) = match term.split_once('=') {
                Some((key, value)) => (key.trim(), Some(value.trim())),
                None => (term, None),
            };
            dewpoint_proto::names::check_label(key, value.unwrap_or_default()).map_err(|_| {
                Cause::new(Reason::Invalid, format!("`{}` is not a label selector", shortened(term)))
                    .advise("write it as `key` or `key=value`, joined by commas")
                    .with("field", "label_selector")
            })?;
            Ok((key.to_owned(), value.map(str::to_owned)))
        })
        .collect()
}

fn to_wire(vm: VmRecord) -> fleet::Vm {
    let placement = match vm.shape.placement {
        Placement::Bound => event::Placement::Bound,
        Placement::Movable => event::Placement::Movable,
    };
    let mut nics: Vec<event::Nic> = vm.shape.nics.into_iter().map(Into::into).collect();
    if vm.gone {
        // They may be another VM's by now. What it had stands in its events.
        nics.iter_mut().for_each(|nic| nic.addresses.clear());
    }
    fleet::Vm {
        vm_id: vm.id.to_string(),
        name: VmName::into(vm.name),
        host_id: text(vm.host.or(vm.last_host)),
        generation: vm.generation.0,
        vcpus: vm.shape.vcpus,
        memory_bytes: vm.shape.memory_bytes,
        disk_bytes: vm.shape.disk_bytes,
        nics,
        labels: vm.shape.labels.into_iter().collect(),
        placement: placement.into(),
        wanted_on: vm.wanted_on,
        observed: vm.observed.map(Into::into),
        observed_at_ms: millis(vm.observed_at),
        unfinished_event_id: text(vm.unfinished),
        image_digest: vm.image.to_string(),
        created_at_ms: vm.created_at.0,
        gone: vm.gone,
        hostname: vm.hostname.unwrap_or_default(),
        restart: event::Restart::from(vm.shape.restart).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_name_keys_and_values() {
        let found = labels("tier=web, ready").unwrap();
        assert_eq!(found, [("tier".into(), Some("web".into())), ("ready".into(), None)]);
        assert_eq!(labels("").unwrap(), []);
        assert_eq!(labels("a b=c").unwrap_err().reason, Reason::Invalid);
        assert_eq!(labels("=c").unwrap_err().reason, Reason::Invalid);
    }
}
