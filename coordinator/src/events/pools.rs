//! Chooses MAC addresses and addresses for NICs. What is chosen is a proposal: the store takes it, or says that it is
//! taken, and another is chosen.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::names::NetworkName;
use dewpoint_proto::spec::{Cidr, MacAddr, Nic};
use uuid::Uuid;

use super::request::NicRequest;
use crate::store::{Lease, NetworkSpec, Pool4, Pool6};

/// Tries for a free IPv6 address in a subnet too large to search.
const GUESSES: usize = 64;

/// Addresses that are given out or being given out, of the networks that were asked for since the start.
#[derive(Default)]
pub(super) struct Pools {
    networks: HashMap<NetworkName, Pool>,
}

#[derive(Default)]
struct Pool {
    used: HashSet<IpAddr>,
    /// Where the next search begins: an address that was just freed is not given out again at once.
    next4: u32,
}

impl Pools {
    pub(super) fn knows(&self, network: &NetworkName) -> bool {
        self.networks.contains_key(network)
    }

    /// Takes what the store has given out, when nobody did so meanwhile.
    pub(super) fn load(&mut self, network: NetworkName, used: Vec<IpAddr>) {
        self.networks.entry(network).or_insert_with(|| Pool { used: used.into_iter().collect(), next4: 0 });
    }

    pub(super) fn forget(&mut self, network: &NetworkName) {
        self.networks.remove(network);
    }

    /// Chooses a NIC in a network, and holds its addresses until they are given back.
    ///
    /// # Errors
    /// `NO_ADDRESS`, or `INVALID` when the wanted one is not of the network.
    pub(super) fn choose(&mut self, spec: &NetworkSpec, wanted: &NicRequest) -> Result<Nic, Cause> {
        let pool = self.networks.entry(spec.name.clone()).or_default();
        let mut addresses: Vec<Cidr> = Vec::with_capacity(2);
        let chosen = pool.choose4(spec, wanted.address4).and_then(|four| {
            addresses.extend(four);
            pool.choose6(spec, wanted.address6)
        });
        match chosen {
            Ok(six) => addresses.extend(six),
            Err(cause) => {
                addresses.iter().for_each(|cidr| {
                    pool.used.remove(&cidr.address);
                });
                return Err(cause);
            }
        }
        Ok(Nic {
            mac: random_mac(),
            network: Some(spec.name.clone()),
            bridge: spec.bridge.clone(),
            addresses,
            gateway4: spec.ipv4.and_then(|pool| pool.gateway),
            gateway6: spec.ipv6.and_then(|pool| pool.gateway),
            nameservers: spec.nameservers.clone(),
        })
    }

    /// Gives back what was chosen and not admitted, or what a VM that is gone had.
    pub(super) fn release<'a>(&mut self, freed: impl IntoIterator<Item = (&'a NetworkName, IpAddr)>) {
        for (network, address) in freed {
            if let Some(pool) = self.networks.get_mut(network) {
                pool.used.remove(&address);
            }
        }
    }

    /// The store has given these out, to whomever.
    pub(super) fn mark(&mut self, lease: &Lease) {
        if let Some(pool) = self.networks.get_mut(&lease.network) {
            pool.used.extend(lease.addresses.iter().copied());
        }
    }
}

impl Pool {
    fn choose4(&mut self, spec: &NetworkSpec, wanted: Option<Ipv4Addr>) -> Result<Option<Cidr>, Cause> {
        let Some(pool) = spec.ipv4 else {
            return wanted.map_or(Ok(None), |wanted| Err(not_of(spec, IpAddr::V4(wanted))));
        };
        let address = match wanted {
            Some(wanted) if !in_subnet4(&pool, wanted) => return Err(not_of(spec, IpAddr::V4(wanted))),
            Some(wanted) => wanted,
            None => self.free4(&pool).ok_or_else(|| full(spec))?,
        };
        self.take(spec, IpAddr::V4(address), pool.subnet.prefix)
    }

    fn free4(&mut self, pool: &Pool4) -> Option<Ipv4Addr> {
        let (first, last) = (pool.first.to_bits(), pool.last.to_bits());
        let from = self.next4.clamp(first, last);
        let free = |bits: &u32| {
            let address = Ipv4Addr::from_bits(*bits);
            Some(address) != pool.gateway && !self.used.contains(&IpAddr::V4(address))
        };
        let found = (from..=last).chain(first..from).find(free)?;
        self.next4 = if found >= last { first } else { found + 1 };
        Some(Ipv4Addr::from_bits(found))
    }

    fn choose6(&mut self, spec: &NetworkSpec, wanted: Option<Ipv6Addr>) -> Result<Option<Cidr>, Cause> {
        let Some(pool) = spec.ipv6 else {
            return wanted.map_or(Ok(None), |wanted| Err(not_of(spec, IpAddr::V6(wanted))));
        };
        let address = match wanted {
            Some(wanted) if !in_subnet6(&pool, wanted) => return Err(not_of(spec, IpAddr::V6(wanted))),
            Some(wanted) => wanted,
            None => self.free6(&pool).ok_or_else(|| full(spec))?,
        };
        self.take(spec, IpAddr::V6(address), pool.subnet.prefix)
    }

    /// Random in a large subnet; in a small one each is looked at, from a random one on.
    fn free6(&self, pool: &Pool6) -> Option<Ipv6Addr> {
        let IpAddr::V6(base) = pool.subnet.address else { return None };
        let hosts = u128::MAX.checked_shr(u32::from(pool.subnet.prefix)).unwrap_or(0);
        let free = |address: &Ipv6Addr| {
            Some(*address) != pool.gateway && *address != base && !self.used.contains(&IpAddr::V6(*address))
        };
        let at = |offset: u128| Ipv6Addr::from_bits(base.to_bits() | offset & hosts);
        let from = Uuid::new_v4().as_u128();
        if hosts > u128::from(u16::MAX) {
            return (0..GUESSES).map(|_| at(Uuid::new_v4().as_u128())).find(free);
        }
        (0..=hosts).map(|step| at(from.wrapping_add(step))).find(free)
    }

    fn take(&mut self, spec: &NetworkSpec, address: IpAddr, prefix: u8) -> Result<Option<Cidr>, Cause> {
        if self.used.insert(address) {
            return Ok(Some(Cidr { address, prefix }));
        }
        Err(Cause::new(Reason::NoAddress, format!("{address} of network {} is given out", spec.name))
            .advise("ask for another one, or for any")
            .with("network", &spec.name)
            .with("address", address))
    }
}

/// Any address of the subnet that a guest can have; the pool bounds only what is chosen for callers.
fn in_subnet4(pool: &Pool4, address: Ipv4Addr) -> bool {
    let IpAddr::V4(base) = pool.subnet.address else { return false };
    let mask = u32::MAX.checked_shl(32 - u32::from(pool.subnet.prefix)).unwrap_or(0);
    let bits = address.to_bits();
    bits & mask == base.to_bits()
        && bits & !mask != 0
        && bits | mask != u32::MAX
        && Some(address) != pool.gateway
}

fn in_subnet6(pool: &Pool6, address: Ipv6Addr) -> bool {
    let IpAddr::V6(base) = pool.subnet.address else { return false };
    let mask = u128::MAX.checked_shl(128 - u32::from(pool.subnet.prefix)).unwrap_or(0);
    address.to_bits() & mask == base.to_bits() && address != base && Some(address) != pool.gateway
}

fn not_of(spec: &NetworkSpec, address: IpAddr) -> Cause {
    Cause::new(Reason::Invalid, format!("{address} is not for a VM of network {}", spec.name))
        .advise("give an address of its subnet, neither its gateway nor its broadcast, or ask for any")
        .with("network", &spec.name)
        .with("address", address)
}

fn full(spec: &NetworkSpec) -> Cause {
    Cause::new(Reason::NoAddress, format!("network {} has no free address", spec.name))
        .advise("destroy VMs that are not needed, or use another network")
        .with("network", &spec.name)
}

/// QEMU's prefix, and 24 random bits.
fn random_mac() -> MacAddr {
    let random = Uuid::new_v4();
    let [a, b, c, ..] = *random.as_bytes();
    MacAddr([0x52, 0x54, 0x00, a, b, c])
}

#[cfg(test)]
mod tests;
