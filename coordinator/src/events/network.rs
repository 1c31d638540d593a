//! Networks from the wire: checked once, so that every address given out later is one a guest can have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::limits;
use dewpoint_proto::spec::Cidr;
use dewpoint_proto::wire::fleet;

use super::request::{address, optional};
use crate::store::{NetworkSpec, Pool4, Pool6};

impl TryFrom<fleet::Network> for NetworkSpec {
    type Error = Cause;

    fn try_from(network: fleet::Network) -> Result<Self, Cause> {
        if network.nameservers.len() > limits::NAMESERVERS {
            return Err(wrong("nameservers", format!("give at most {}", limits::NAMESERVERS)));
        }
        let nameservers = network
            .nameservers
            .iter()
            .filter_map(|text| address::<IpAddr>("nameservers", text).transpose())
            .collect::<Result<_, _>>()?;
        Ok(Self {
            name: network.name.parse()?,
            bridge: optional(&network.bridge)?,
            ipv4: pool4(&network)?,
            ipv6: pool6(&network)?,
            nameservers,
        })
    }
}

fn pool4(network: &fleet::Network) -> Result<Option<Pool4>, Cause> {
    let Some(subnet) = optional::<Cidr>(&network.subnet4)? else {
        let others = [&network.gateway4, &network.pool4_first, &network.pool4_last];
        if others.iter().any(|text| !text.is_empty()) {
            return Err(wrong("subnet4", "give the subnet with its gateway and pool"));
        }
        return Ok(None);
    };
    let IpAddr::V4(base) = subnet.address else {
        return Err(wrong("subnet4", "give an IPv4 subnet such as 192.0.2.0/24"));
    };
    let mask = u32::MAX.checked_shl(32 - u32::from(subnet.prefix)).unwrap_or(0);
    let (low, high) = (base.to_bits() & mask, base.to_bits() | !mask);
    if low != base.to_bits() || !(8..=30).contains(&subnet.prefix) {
        return Err(wrong("subnet4", "give the subnet's own address, with a prefix length of 8 to 30"));
    }
    let inside = |field: &str, text: &str| -> Result<Option<Ipv4Addr>, Cause> {
        let given: Option<Ipv4Addr> = address(field, text)?;
        if given.is_some_and(|given| !(low + 1..high).contains(&given.to_bits())) {
            return Err(wrong(field, format!("give an address inside {subnet}")));
        }
        Ok(given)
    };
    let pool = Pool4 {
        subnet,
        gateway: inside("gateway4", &network.gateway4)?,
        first: inside("pool4_first", &network.pool4_first)?.unwrap_or(Ipv4Addr::from_bits(low + 1)),
        last: inside("pool4_last", &network.pool4_last)?.unwrap_or(Ipv4Addr::from_bits(high - 1)),
    };
    if pool.first > pool.last {
        return Err(wrong("pool4_last", "give a last address that is not below the first"));
    }
    Ok(Some(pool))
}

fn pool6(network: &fleet::Network) -> Result<Option<Pool6>, Cause> {
    let Some(subnet) = optional::<Cidr>(&network.subnet6)? else {
        if !network.gateway6.is_empty() {
            return Err(wrong("subnet6", "give the subnet with its gateway"));
        }
        return Ok(None);
    };
    let IpAddr::V6(base) = subnet.address else {
        return Err(wrong("subnet6", "give an IPv6 subnet such as 2001:db8::/64"));
    };
    let mask = u128::MAX.checked_shl(128 - u32::from(subnet.prefix)).unwrap_or(0);
    if base.to_bits() & !mask != 0 || !(16..=120).contains(&subnet.prefix) {
        return Err(wrong("subnet6", "give the subnet's own address, with a prefix length of 16 to 120"));
    }
    let gateway: Option<Ipv6Addr> = address("gateway6", &network.gateway6)?;
    // A link-local gateway (fe80::1) is outside the subnet, and usual.
    let fits = |gateway: Ipv6Addr| {
        gateway.is_unicast_link_local() || gateway.to_bits() & mask == base.to_bits() && gateway != base
    };
    if gateway.is_some_and(|gateway| !fits(gateway)) {
        return Err(wrong("gateway6", format!("give an address inside {subnet}, or a link-local one")));
    }
    Ok(Some(Pool6 { subnet, gateway }))
}

fn wrong(field: &str, advice: impl Into<String>) -> Cause {
    Cause::new(Reason::Invalid, format!("the network's {field} does not fit"))
        .advise(advice)
        .with("field", field)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network() -> fleet::Network {
        fleet::Network { name: "lan".into(), subnet4: "192.0.2.0/24".into(), ..Default::default() }
    }

    #[test]
    fn the_pool_is_all_but_network_and_broadcast() {
        let pool = NetworkSpec::try_from(network()).unwrap().ipv4.unwrap();
        assert_eq!(
            (pool.first.to_string(), pool.last.to_string()),
            ("192.0.2.1".into(), "192.0.2.254".into())
        );
    }

    #[test]
    fn what_cannot_be_given_out_is_refused() {
        for (field, text) in [
            ("subnet4", "192.0.2.1/24"),
            ("subnet4", "192.0.2.0/31"),
            ("subnet4", "2001:db8::/64"),
            ("gateway4", "198.51.100.1"),
            ("gateway4", "192.0.2.255"),
            ("pool4_first", "192.0.2.0"),
        ] {
            let mut wire = network();
            match field {
                "subnet4" => wire.subnet4 = text.into(),
                "gateway4" => wire.gateway4 = text.into(),
                _ => wire.pool4_first = text.into(),
            }
            let cause = NetworkSpec::try_from(wire).unwrap_err();
            assert_eq!(cause.reason, Reason::Invalid, "{field} {text}");
        }
    }
}
