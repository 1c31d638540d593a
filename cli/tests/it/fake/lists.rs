use dewpoint_proto::cause::Reason;
use dewpoint_proto::wire::fleet::fleet_server::Fleet;
use dewpoint_proto::wire::fleet::hosts_server::Hosts;
use dewpoint_proto::wire::fleet::images_server::Images;
use dewpoint_proto::wire::fleet::networks_server::Networks;
use dewpoint_proto::wire::fleet::{
    AddImageRequest, CordonHostRequest, CreateNetworkRequest, DeleteNetworkRequest, DeleteNetworkResponse,
    EndRecoveryRequest, EndRecoveryResponse, FleetRecord, GetFleetRequest, GetHostRequest, GetImageRequest,
    GetImageServerRequest, GetImageServerResponse, GetNetworkRequest, Host, Image, ListActsRequest,
    ListActsResponse, ListHostsRequest, ListHostsResponse, ListImagesRequest, ListImagesResponse,
    ListNetworksRequest, ListNetworksResponse, Network, PlanReconcileRequest, ReconcileHostRequest,
    ReconcilePlan, RemoveImageRequest, RemoveImageResponse, ReplaceHostRequest, ReplaceHostResponse,
    RetireHostRequest, RetireHostResponse, SetDestroyLimitRequest, SetHoldRequest, SetHoldResponse,
    UncordonHostRequest,
};
use tonic::{Request, Response, Status};

use super::Service;
use super::refusal;

type Answered<T> = Result<Response<T>, Status>;

impl Service {
    fn host(&self, wanted: &str) -> Answered<Host> {
        let is = |host: &&Host| host.hostname == wanted || host.host_id == wanted;
        let found = self.0.with(|script| script.hosts.iter().find(is).cloned());
        found
            .map(Response::new)
            .ok_or_else(|| refusal(Reason::HostNotFound, "no host is called that", "see `dewpoint host ls`"))
    }
}

#[tonic::async_trait]
impl Hosts for Service {
    async fn list_hosts(&self, _: Request<ListHostsRequest>) -> Answered<ListHostsResponse> {
        let hosts = self.0.with(|script| script.hosts.clone());
        Ok(Response::new(ListHostsResponse { hosts, next_page_token: String::new() }))
    }

    async fn get_host(&self, request: Request<GetHostRequest>) -> Answered<Host> {
        self.host(&request.into_inner().host)
    }

    async fn cordon_host(&self, request: Request<CordonHostRequest>) -> Answered<Host> {
        let request = request.into_inner();
        let host = self.host(&request.host)?.into_inner();
        Ok(Response::new(Host { cordoned: true, cordon_reason: request.reason, ..host }))
    }

    async fn uncordon_host(&self, request: Request<UncordonHostRequest>) -> Answered<Host> {
        self.host(&request.into_inner().host)
    }

    async fn set_hold(&self, request: Request<SetHoldRequest>) -> Answered<SetHoldResponse> {
        let request = request.into_inner();
        self.0.note("set_hold", &format!("[{}] {} {}", request.host, request.hold, request.reason));
        Ok(Response::new(SetHoldResponse { hosts: 1 }))
    }

    async fn end_recovery(&self, request: Request<EndRecoveryRequest>) -> Answered<EndRecoveryResponse> {
        self.0.note("end_recovery", &request.into_inner().reason);
        let first =
            |script: &mut super::Script| script.hosts.iter_mut().find_map(|host| host.recovering.take());
        Ok(Response::new(EndRecoveryResponse { ended: self.0.with(first) }))
    }

    async fn plan_reconcile(&self, request: Request<PlanReconcileRequest>) -> Answered<ReconcilePlan> {
        self.host(&request.into_inner().host)?;
        Ok(Response::new(self.0.with(|script| script.plan.clone())))
    }

    async fn reconcile_host(&self, request: Request<ReconcileHostRequest>) -> Answered<ReconcilePlan> {
        let request = request.into_inner();
        self.0.note("reconcile_host", &format!("{} {}", request.digest, request.reason));
        let plan = self.0.with(|script| script.plan.clone());
        if plan.digest != request.digest {
            return Err(refusal(Reason::PlanChanged, "what was shown is not what there is", "look again"));
        }
        Ok(Response::new(plan))
    }

    async fn retire_host(&self, request: Request<RetireHostRequest>) -> Answered<RetireHostResponse> {
        let request = request.into_inner();
        let host = self.host(&request.host)?.into_inner();
        if !request.disks_gone {
            return Err(refusal(Reason::HostInUse, "host hv1 has 1 VMs", "say so: --disks-gone"));
        }
        let (vm_ids, unknown_event_ids) = (vec!["vm-1".to_owned()], Vec::new());
        Ok(Response::new(RetireHostResponse { host: Some(host), vm_ids, unknown_event_ids }))
    }

    async fn replace_host(&self, request: Request<ReplaceHostRequest>) -> Answered<ReplaceHostResponse> {
        let host = self.host(&request.into_inner().new_host)?.into_inner();
        Ok(Response::new(ReplaceHostResponse { host: Some(host) }))
    }
}

#[tonic::async_trait]
impl Fleet for Service {
    async fn get_fleet(&self, _: Request<GetFleetRequest>) -> Answered<FleetRecord> {
        Ok(Response::new(self.0.with(|script| script.fleet.clone())))
    }

    async fn set_destroy_limit(&self, request: Request<SetDestroyLimitRequest>) -> Answered<FleetRecord> {
        let asked = request.into_inner();
        self.0
            .note("set_destroy_limit", &format!("{} {} {}", asked.limit, asked.as_configured, asked.reason));
        let record = FleetRecord {
            destroy_limit: asked.limit,
            destroy_limit_set: !asked.as_configured,
            ..Default::default()
        };
        Ok(Response::new(record))
    }

    async fn list_acts(&self, request: Request<ListActsRequest>) -> Answered<ListActsResponse> {
        let who =
            request.metadata().get("dewpoint-who").map(|who| who.to_str().unwrap_or_default().to_owned());
        let asked = request.into_inner();
        let who = if who.is_some_and(|who| who.contains('@')) { "by name" } else { "nameless" };
        self.0.note("list_acts", &format!("[{}] [{}] {who}", asked.host_id, asked.event_id));
        let acts = self.0.with(|script| script.acts.clone());
        Ok(Response::new(ListActsResponse { acts, next_page_token: String::new() }))
    }
}

#[tonic::async_trait]
impl Images for Service {
    async fn get_image_server(&self, _: Request<GetImageServerRequest>) -> Answered<GetImageServerResponse> {
        Ok(Response::new(GetImageServerResponse { url: self.0.with(|script| script.image_server.clone()) }))
    }

    async fn add_image(&self, request: Request<AddImageRequest>) -> Answered<Image> {
        let request = request.into_inner();
        self.0.note("add_image", &format!("{} {}", request.name, request.digest));
        Ok(Response::new(Image { digest: request.digest, names: vec![request.name], ..Image::default() }))
    }

    async fn get_image(&self, _: Request<GetImageRequest>) -> Answered<Image> {
        Err(refusal(Reason::ImageNotFound, "no image is called that", "see `dewpoint image ls`"))
    }

    async fn list_images(&self, _: Request<ListImagesRequest>) -> Answered<ListImagesResponse> {
        let images = self.0.with(|script| script.images.clone());
        Ok(Response::new(ListImagesResponse { images, next_page_token: String::new() }))
    }

    async fn remove_image(&self, request: Request<RemoveImageRequest>) -> Answered<RemoveImageResponse> {
        self.0.note("remove_image", &request.into_inner().image);
        Ok(Response::new(RemoveImageResponse { bytes_removed: true }))
    }
}

#[tonic::async_trait]
impl Networks for Service {
    async fn create_network(&self, request: Request<CreateNetworkRequest>) -> Answered<Network> {
        let network = request.into_inner().network.unwrap_or_default();
        self.0.with(|script| script.networks.push(network.clone()));
        Ok(Response::new(network))
    }

    async fn get_network(&self, _: Request<GetNetworkRequest>) -> Answered<Network> {
        Err(refusal(Reason::NetworkNotFound, "no network is called that", "see `dewpoint network ls`"))
    }

    async fn list_networks(&self, _: Request<ListNetworksRequest>) -> Answered<ListNetworksResponse> {
        let networks = self.0.with(|script| script.networks.clone());
        Ok(Response::new(ListNetworksResponse { networks, next_page_token: String::new() }))
    }

    async fn delete_network(&self, _: Request<DeleteNetworkRequest>) -> Answered<DeleteNetworkResponse> {
        Err(refusal(Reason::NetworkInUse, "2 VMs have addresses of the network", "destroy them first"))
    }
}
