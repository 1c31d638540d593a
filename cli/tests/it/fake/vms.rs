use dewpoint_proto::cause::Reason;
use dewpoint_proto::wire::fleet::vms_server::Vms;
use dewpoint_proto::wire::fleet::{
    CreateVmRequest, DestroyVmRequest, EventOptions, EventRecord, GetVmRequest, ListVmsRequest,
    ListVmsResponse, RebootVmRequest, RestoreVmRequest, SnapshotVmRequest, StopVmRequest, Vm, VmRequest,
    WatchVmsRequest, WatchVmsResponse,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status};

use super::{Answer, Service, record, refusal};

type Recorded = Result<Response<EventRecord>, Status>;

impl Service {
    pub(super) async fn make(&self, kind: &str, options: Option<EventOptions>, what: &str) -> Recorded {
        let id = options.unwrap_or_default().event_id;
        self.0.note(kind, &format!("{id} {what}"));
        match self.0.with(|script| script.answers.pop_front()) {
            Some(Answer::With(answer)) => Ok(Response::new(EventRecord { event_id: id, ..answer })),
            Some(Answer::Refuse(status)) => Err(status),
            Some(Answer::Never) => std::future::pending().await,
            None => Ok(Response::new(EventRecord { event_id: id, ..record(kind, "assigned") })),
        }
    }
}

#[tonic::async_trait]
impl Vms for Service {
    async fn create_vm(&self, request: Request<CreateVmRequest>) -> Recorded {
        let request = request.into_inner();
        self.0.with(|script| script.created.push(request.clone()));
        self.make("create", request.options, &request.name).await
    }

    async fn get_vm(&self, request: Request<GetVmRequest>) -> Result<Response<Vm>, Status> {
        let wanted = request.into_inner().vm;
        let found = self
            .0
            .with(|script| script.vms.iter().find(|vm| vm.name == wanted || vm.vm_id == wanted).cloned());
        found
            .map(Response::new)
            .ok_or_else(|| refusal(Reason::VmNotFound, "no VM is called that", "see `dewpoint vm ls`"))
    }

    async fn list_vms(&self, request: Request<ListVmsRequest>) -> Result<Response<ListVmsResponse>, Status> {
        let request = request.into_inner();
        self.0.note(
            "list_vms",
            &format!("{} {} {}", request.host_id, request.label_selector, request.page_token),
        );
        // Two a page, so that paging is always used.
        let from: usize = request.page_token.parse().unwrap_or(0);
        let all = self.0.with(|script| script.vms.clone());
        let next = if from + 2 < all.len() { (from + 2).to_string() } else { String::new() };
        let vms = all.into_iter().skip(from).take(2).collect();
        Ok(Response::new(ListVmsResponse { vms, next_page_token: next }))
    }

    type WatchVmsStream = BoxStream<'static, Result<WatchVmsResponse, Status>>;

    async fn watch_vms(
        &self,
        request: Request<WatchVmsRequest>,
    ) -> Result<Response<Self::WatchVmsStream>, Status> {
        self.0.note("watch_vms", &request.into_inner().vm);
        let told = self.0.with(|script| script.vm_watches.pop_front()).unwrap_or_default();
        Ok(Response::new(stream::iter(told.into_iter().map(Ok)).chain(stream::pending()).boxed()))
    }

    async fn start_vm(&self, request: Request<VmRequest>) -> Recorded {
        let request = request.into_inner();
        self.make("start", request.options, &request.vm).await
    }

    async fn stop_vm(&self, request: Request<StopVmRequest>) -> Recorded {
        let request = request.into_inner();
        let what = format!("{} force={} timeout={}", request.vm, request.force, request.timeout_seconds);
        self.make("stop", request.options, &what).await
    }

    async fn reboot_vm(&self, request: Request<RebootVmRequest>) -> Recorded {
        let request = request.into_inner();
        self.make("reboot", request.options, &format!("{} hard={}", request.vm, request.hard)).await
    }

    async fn snapshot_vm(&self, request: Request<SnapshotVmRequest>) -> Recorded {
        let request = request.into_inner();
        self.make("snapshot", request.options, &format!("{} {}", request.vm, request.image_name)).await
    }

    async fn restore_vm(&self, request: Request<RestoreVmRequest>) -> Recorded {
        let request = request.into_inner();
        self.make("restore", request.options, &format!("{} {}", request.vm, request.image)).await
    }

    async fn destroy_vm(&self, request: Request<DestroyVmRequest>) -> Recorded {
        let request = request.into_inner();
        self.make("destroy", request.options, &format!("{} now={}", request.vm, request.now)).await
    }
}
