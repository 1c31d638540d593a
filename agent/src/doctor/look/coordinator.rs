//! What the coordinator has of this host: asked as any caller asks, and only read.

use std::collections::BTreeMap;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{Generation, HostId, VmId};
use dewpoint_proto::status::from_status;
use dewpoint_proto::wire::fleet as wire;
use dewpoint_proto::wire::fleet::hosts_client::HostsClient;
use dewpoint_proto::wire::fleet::vms_client::VmsClient;
use tonic::transport::Channel;

use crate::doctor::world::{Coordinator, CoordinatorSeen, VmTold};
use crate::link::dial::Dial;

/// For all of it: whoever mends a host does not wait for a coordinator.
const PATIENCE: Duration = Duration::from_secs(5);
/// As many as one page may have.
const PAGE: u32 = 1000;

pub(super) async fn look(dial: &dyn Dial, host: HostId) -> Coordinator {
    match tokio::time::timeout(PATIENCE, ask(dial, host)).await {
        Ok(Ok(Some(seen))) => Coordinator::Seen(seen),
        Ok(Ok(None)) => Coordinator::Stranger,
        Ok(Err(cause)) => Coordinator::Unreachable(cause),
        Err(_) => Coordinator::Unreachable(
            Cause::new(
                Reason::Unreachable,
                format!("the coordinator did not answer within {} s", PATIENCE.as_secs()),
            )
            .advise("check that it runs, and the address in the agent's configuration"),
        ),
    }
}

/// None: it does not know the host.
async fn ask(dial: &dyn Dial, host: HostId) -> Result<Option<CoordinatorSeen>, Cause> {
    let channel = dial.dial().await?;
    let request = wire::GetHostRequest { host: host.to_string() };
    let told = match HostsClient::new(channel.clone()).get_host(request).await {
        Ok(told) => told.into_inner(),
        Err(status) => {
            let cause = from_status(&status);
            return if cause.reason == Reason::HostNotFound { Ok(None) } else { Err(cause) };
        }
    };
    let vms = vms(&channel, host).await?;
    Ok(Some(CoordinatorSeen { vms, diverged: told.diverged.map(Cause::from) }))
}

async fn vms(channel: &Channel, host: HostId) -> Result<BTreeMap<VmId, VmTold>, Cause> {
    let mut client = VmsClient::new(channel.clone());
    let mut vms = BTreeMap::new();
    let mut page_token = String::new();
    loop {
        let request = wire::ListVmsRequest {
            host_id: host.to_string(),
            page_size: PAGE,
            page_token,
            ..wire::ListVmsRequest::default()
        };
        let page = client.list_vms(request).await.map_err(|status| from_status(&status))?.into_inner();
        for vm in page.vms.into_iter().filter(|vm| !vm.gone) {
            let unfinished = Some(vm.unfinished_event_id).filter(|id| !id.is_empty());
            let told = VmTold { name: vm.name, generation: Generation(vm.generation), unfinished };
            vms.insert(vm.vm_id.parse()?, told);
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(vms);
        }
    }
}
