//! `dewpoint network`: pools of static addresses on bridges.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::Subcommand;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::limits;
use dewpoint_proto::names::{InterfaceName, NetworkName};
use dewpoint_proto::spec::Cidr;
use dewpoint_proto::wire::fleet::{
    CreateNetworkRequest, DeleteNetworkRequest, GetNetworkRequest, ListNetworksRequest, Network,
};
use serde_json::json;

use super::show_list;
use crate::args::values::Pool4;
use crate::args::{Global, Limit};
use crate::failure::{Failure, invalid};
use crate::fleet::paging::{PAGE, Page, collect};
use crate::fleet::{Fleet, request};
use crate::output::Output;
use crate::view::network::{NetworkView, show, table};

#[derive(Debug, Subcommand)]
pub(crate) enum NetworkCommand {
    /// Make a network
    Create(Box<Create>),
    /// List the networks
    #[command(visible_alias = "list")]
    Ls {
        #[command(flatten)]
        limit: Limit,
    },
    /// Show all of one network
    Show {
        /// The network
        name: NetworkName,
    },
    /// Remove a network that no VM uses
    #[command(visible_alias = "remove")]
    Rm {
        /// The network
        name: NetworkName,
    },
}

/// A network to be made.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// 1 to 63 lower-case letters, digits and `-`
    name: NetworkName,
    /// Its IPv4 addresses, such as 192.0.2.0/24
    #[arg(long, value_name = "CIDR", required_unless_present = "subnet6")]
    subnet4: Option<Cidr>,
    /// The guests' IPv4 router
    #[arg(long, value_name = "ADDRESS", requires = "subnet4")]
    gateway4: Option<Ipv4Addr>,
    /// The IPv4 addresses given out [default: all but network, gateway and broadcast]
    #[arg(long, value_name = "FIRST-LAST", requires = "subnet4")]
    pool4: Option<Pool4>,
    /// Its IPv6 addresses, such as 2001:db8::/64
    #[arg(long, value_name = "CIDR")]
    subnet6: Option<Cidr>,
    /// The guests' IPv6 router
    #[arg(long, value_name = "ADDRESS", requires = "subnet6")]
    gateway6: Option<Ipv6Addr>,
    /// A DNS server for the guests; repeat for more
    #[arg(long = "nameserver", value_name = "ADDRESS")]
    nameservers: Vec<IpAddr>,
    /// Linux bridge on every host [default: the host's]
    #[arg(long, value_name = "BRIDGE")]
    bridge: Option<InterfaceName>,
}

impl Create {
    fn checked(self) -> Result<Network, Cause> {
        if self.nameservers.len() > limits::NAMESERVERS {
            return Err(invalid(format!("{} nameservers are given", self.nameservers.len()))
                .advise(format!("give at most {}", limits::NAMESERVERS)));
        }
        of_family("--subnet4", self.subnet4, IpAddr::is_ipv4)?;
        of_family("--subnet6", self.subnet6, IpAddr::is_ipv6)?;
        let within4 = |what, address: Option<Ipv4Addr>| within(what, self.subnet4, address.map(IpAddr::V4));
        within4("--gateway4", self.gateway4)?;
        within4("--pool4", self.pool4.map(|pool| pool.first))?;
        within4("--pool4", self.pool4.map(|pool| pool.last))?;
        // A link-local router is as usual in IPv6 as one of the subnet.
        let routed6 = self.gateway6.filter(|address| !address.is_unicast_link_local());
        within("--gateway6", self.subnet6, routed6.map(IpAddr::V6))?;
        Ok(Network {
            name: self.name.into(),
            bridge: text(self.bridge.map(String::from)),
            subnet4: text(self.subnet4),
            gateway4: text(self.gateway4),
            pool4_first: text(self.pool4.map(|pool| pool.first)),
            pool4_last: text(self.pool4.map(|pool| pool.last)),
            subnet6: text(self.subnet6),
            gateway6: text(self.gateway6),
            nameservers: self.nameservers.iter().map(IpAddr::to_string).collect(),
            addresses_used: 0,
            addresses_free: 0,
        })
    }
}

fn text(value: Option<impl ToString>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

fn of_family(what: &str, cidr: Option<Cidr>, is: impl Fn(&IpAddr) -> bool) -> Result<(), Cause> {
    match cidr {
        Some(cidr) if !is(&cidr.address) => Err(invalid(format!("{what} is {cidr}, of the other family"))
            .advise("give IPv4 with --subnet4 and IPv6 with --subnet6")),
        _ => Ok(()),
    }
}

fn within(what: &str, subnet: Option<Cidr>, address: Option<IpAddr>) -> Result<(), Cause> {
    let (Some(subnet), Some(address)) = (subnet, address) else { return Ok(()) };
    let inside = match (subnet.address, address) {
        (IpAddr::V4(net), IpAddr::V4(address)) => {
            same_bits(u128::from(net.to_bits()), u128::from(address.to_bits()), 32, subnet.prefix)
        }
        (IpAddr::V6(net), IpAddr::V6(address)) => {
            same_bits(net.to_bits(), address.to_bits(), 128, subnet.prefix)
        }
        _ => false,
    };
    if inside {
        return Ok(());
    }
    Err(invalid(format!("{what} {address} is not in {subnet}")).advise("give an address of the subnet"))
}

fn same_bits(a: u128, b: u128, width: u8, prefix: u8) -> bool {
    let host_bits = u32::from(width - prefix);
    (a ^ b).checked_shr(host_bits).unwrap_or(0) == 0
}

/// Carries out one command on networks.
pub(crate) async fn carry_out(
    command: NetworkCommand,
    global: &Global,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    match command {
        NetworkCommand::Create(create) => {
            let network = Some(create.checked()?);
            let fleet = Fleet::connect(global).await?;
            let asked = request(CreateNetworkRequest { network });
            show_one(&fleet.ask(fleet.networks().create_network(asked)).await?, output)
        }
        NetworkCommand::Ls { limit } => list(&Fleet::connect(global).await?, limit.get(), output).await,
        NetworkCommand::Show { name } => {
            let fleet = Fleet::connect(global).await?;
            let asked = request(GetNetworkRequest { name: name.into() });
            show_one(&fleet.ask(fleet.networks().get_network(asked)).await?, output)
        }
        NetworkCommand::Rm { name } => {
            let fleet = Fleet::connect(global).await?;
            let asked = request(DeleteNetworkRequest { name: name.as_str().to_owned() });
            fleet.ask(fleet.networks().delete_network(asked)).await?;
            output.show(&json!({ "removed": name.as_str() }), |_| format!("{name}: removed\n"))
        }
    }
}

async fn list(fleet: &Fleet, limit: usize, output: &mut Output<'_>) -> Result<(), Failure> {
    let networks = collect(limit, async |page_token| {
        let asked = request(ListNetworksRequest { page_size: PAGE, page_token });
        let page = fleet.ask(fleet.networks().list_networks(asked)).await?;
        Ok(Page { entries: page.networks, next: page.next_page_token })
    })
    .await?;
    show_list::<_, NetworkView>(output, "networks", &networks, table)
}

fn show_one(network: &Network, output: &mut Output<'_>) -> Result<(), Failure> {
    output.show(&NetworkView::from(network), |_| show(network))
}
