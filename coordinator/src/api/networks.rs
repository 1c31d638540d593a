//! `Networks`: where VMs get their addresses from.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::names::NetworkName;
use dewpoint_proto::wire::fleet::{self, networks_server::Networks};
use tonic::{Request, Response, Status};

use super::{Api, text};
use crate::store::{NetworkRecord, NetworkSpec, Page};

#[tonic::async_trait]
impl Networks for Api {
    async fn create_network(
        &self,
        request: Request<fleet::CreateNetworkRequest>,
    ) -> Result<Response<fleet::Network>, Status> {
        self.answer("CreateNetwork", async {
            let network = request.into_inner().network.ok_or_else(|| {
                Cause::new(Reason::Invalid, "network is missing").advise("give it").with("field", "network")
            })?;
            self.events.add_network(NetworkSpec::try_from(network)?).await.map(to_wire)
        })
        .await
    }

    async fn get_network(
        &self,
        request: Request<fleet::GetNetworkRequest>,
    ) -> Result<Response<fleet::Network>, Status> {
        self.answer("GetNetwork", async {
            let name: NetworkName = request.into_inner().name.parse()?;
            self.events.network(&name).await.map(to_wire)
        })
        .await
    }

    async fn list_networks(
        &self,
        request: Request<fleet::ListNetworksRequest>,
    ) -> Result<Response<fleet::ListNetworksResponse>, Status> {
        self.answer("ListNetworks", async {
            let request = request.into_inner();
            let networks = self.events.networks(Page::parse(request.page_size, &request.page_token)?).await?;
            Ok(fleet::ListNetworksResponse {
                networks: networks.items.into_iter().map(to_wire).collect(),
                next_page_token: networks.next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn delete_network(
        &self,
        request: Request<fleet::DeleteNetworkRequest>,
    ) -> Result<Response<fleet::DeleteNetworkResponse>, Status> {
        self.answer("DeleteNetwork", async {
            self.events.remove_network(request.into_inner().name.parse()?).await?;
            Ok(fleet::DeleteNetworkResponse {})
        })
        .await
    }
}

fn to_wire(NetworkRecord { spec, addresses_used }: NetworkRecord) -> fleet::Network {
    let free = free(&spec, addresses_used);
    let (ipv4, ipv6) = (spec.ipv4, spec.ipv6);
    fleet::Network {
        name: spec.name.into(),
        bridge: text(spec.bridge),
        subnet4: text(ipv4.map(|pool| pool.subnet)),
        gateway4: text(ipv4.and_then(|pool| pool.gateway)),
        pool4_first: text(ipv4.map(|pool| pool.first)),
        pool4_last: text(ipv4.map(|pool| pool.last)),
        subnet6: text(ipv6.map(|pool| pool.subnet)),
        gateway6: text(ipv6.and_then(|pool| pool.gateway)),
        nameservers: spec.nameservers.iter().map(ToString::to_string).collect(),
        addresses_used,
        addresses_free: free,
    }
}

/// Of IPv4 where there is any, since that runs out first; a NIC in a network of both has one of each.
fn free(spec: &NetworkSpec, used: u32) -> u64 {
    let used = u64::from(if spec.ipv4.is_some() && spec.ipv6.is_some() { used.div_ceil(2) } else { used });
    let total = match (&spec.ipv4, &spec.ipv6) {
        (Some(pool), _) => {
            let (first, last) = (u32::from(pool.first), u32::from(pool.last));
            let gateway = pool.gateway.is_some_and(|at| (first..=last).contains(&u32::from(at)));
            u64::from(last - first) + 1 - u64::from(gateway)
        }
        (None, Some(pool)) => 1u64.checked_shl(128 - u32::from(pool.subnet.prefix)).unwrap_or(u64::MAX),
        (None, None) => 0,
    };
    total.saturating_sub(used)
}
