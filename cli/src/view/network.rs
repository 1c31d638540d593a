//! Networks.

use dewpoint_proto::wire::fleet::Network;
use serde::Serialize;

use super::filled;
use crate::table::{Fit, Side, Table, fields};
use crate::text::{Paint, or_dash};

/// A network, as JSON.
#[derive(Serialize)]
pub(crate) struct NetworkView {
    name: String,
    bridge: Option<String>,
    subnet4: Option<String>,
    gateway4: Option<String>,
    pool4_first: Option<String>,
    pool4_last: Option<String>,
    subnet6: Option<String>,
    gateway6: Option<String>,
    nameservers: Vec<String>,
    addresses_used: u32,
    addresses_free: u64,
}

impl From<&Network> for NetworkView {
    fn from(network: &Network) -> Self {
        Self {
            name: network.name.clone(),
            bridge: filled(&network.bridge),
            subnet4: filled(&network.subnet4),
            gateway4: filled(&network.gateway4),
            pool4_first: filled(&network.pool4_first),
            pool4_last: filled(&network.pool4_last),
            subnet6: filled(&network.subnet6),
            gateway6: filled(&network.gateway6),
            nameservers: network.nameservers.clone(),
            addresses_used: network.addresses_used,
            addresses_free: network.addresses_free,
        }
    }
}

/// The networks and how full they are.
pub(crate) fn table(networks: &[Network], paint: Paint) -> String {
    let mut table = Table::keyed("NAME")
        .column("SUBNET4", Side::Left, Fit::Whole)
        .column("SUBNET6", Side::Left, Fit::Shrink(8))
        .column("BRIDGE", Side::Left, Fit::Shrink(8))
        .column("USED", Side::Right, Fit::Whole)
        .column("FREE", Side::Right, Fit::Shrink(6));
    for network in networks {
        table.row([
            network.name.clone(),
            or_dash(&network.subnet4).into_owned(),
            or_dash(&network.subnet6).into_owned(),
            or_dash(&network.bridge).into_owned(),
            network.addresses_used.to_string(),
            network.addresses_free.to_string(),
        ]);
    }
    table.render(paint)
}

/// All of one network.
pub(crate) fn show(network: &Network) -> String {
    let pool = match (network.pool4_first.as_str(), network.pool4_last.as_str()) {
        ("", "") => String::new(),
        (first, last) => format!("{first} to {last}"),
    };
    fields([
        ("name", network.name.clone()),
        ("bridge", if network.bridge.is_empty() { "the host's".to_owned() } else { network.bridge.clone() }),
        ("subnet4", network.subnet4.clone()),
        ("gateway4", network.gateway4.clone()),
        ("pool4", pool),
        ("subnet6", network.subnet6.clone()),
        ("gateway6", network.gateway6.clone()),
        ("nameservers", network.nameservers.join(", ")),
        ("addresses", format!("{} used, {} free", network.addresses_used, network.addresses_free)),
    ])
}
