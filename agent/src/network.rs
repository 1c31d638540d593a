//! Anti-spoofing: a guest sends with its own MAC and addresses, and with no others.
//!
//! One nftables table of the bridge family, with elements for each VM; set before the VM starts, cleared after it is
//! gone, and independent of the agent's life.

#[cfg(any(test, feature = "faults"))]
pub mod fake;

use std::collections::BTreeSet;

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::VmId;
use dewpoint_proto::names::InterfaceName;
use dewpoint_proto::spec::{Cidr, MacAddr, Nic, VmSpec};

pub use crate::hypervisor::Seen;

pub mod nft;

/// What one tap may send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The tap.
    pub tap: InterfaceName,
    /// The one source MAC.
    pub mac: MacAddr,
    /// The source addresses; link-local IPv6 made from the MAC is allowed beside them. None: it sends nothing at all.
    pub addresses: Vec<Cidr>,
}

/// Our table, looked at as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The rules that use the sets are all there, and none besides.
    pub rules: Rules,
    /// What is wholly in the sets, by tap.
    pub in_force: Vec<Allowed>,
    /// Every tap that has anything in the sets.
    pub taps: BTreeSet<String>,
}

/// Whether the rules that all VMs share are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rules {
    /// There is no table, or no rule in it.
    #[default]
    None,
    /// All, and none besides.
    Whole,
    /// Some are missing, or there are others: nobody is held back for sure.
    Broken,
}

/// The rules that a spec asks for, sorted by tap.
#[must_use]
pub fn rules_of(vm: VmId, spec: &VmSpec) -> Vec<Allowed> {
    let allowed = |(index, nic): (usize, &Nic)| Allowed {
        tap: tap_name(vm, index),
        mac: nic.mac,
        addresses: nic.addresses.clone(),
    };
    let mut rules: Vec<_> = spec.nics.iter().enumerate().map(allowed).collect();
    rules.sort_by(|a, b| a.tap.cmp(&b.tap));
    rules
}

/// The host's anti-spoofing rules.
#[async_trait]
pub trait Shield: Send + Sync + 'static {
    /// The rules of one VM; `There` carries those that are wholly in force, sorted by tap, with their addresses in the
    /// order in which they were set. `Absent`: nothing of this VM is left.
    async fn observe(&self, vm: VmId) -> Seen<Vec<Allowed>>;

    /// All that is in our table, for whoever mends the host.
    ///
    /// # Errors
    /// `NETWORK_ERROR`: nothing is known then, or the table is not ours.
    async fn survey(&self) -> Result<Survey, Cause>;

    /// Removes what our table has for these taps. Repeatable.
    ///
    /// # Errors
    /// `NETWORK_ERROR`.
    async fn clear_taps(&self, taps: &[InterfaceName]) -> Result<(), Cause>;

    /// Sets the rules of one VM, in one transaction, in place of any earlier ones. Repeatable.
    ///
    /// # Errors
    /// `NETWORK_ERROR`, with what nftables said.
    async fn set(&self, vm: VmId, rules: &[Allowed]) -> Result<(), Cause>;

    /// Removes the rules of one VM. Repeatable.
    ///
    /// # Errors
    /// `NETWORK_ERROR`.
    async fn clear(&self, vm: VmId) -> Result<(), Cause>;
}

/// The name of a VM's tap: `dp`, eleven hexadecimal digits of the VM id's random part, and the NIC's index.
#[must_use]
pub fn tap_name(vm: VmId, index: usize) -> InterfaceName {
    // 15 bytes is IFNAMSIZ's limit.
    let text = format!("{}{index:x}", tap_prefix(vm));
    #[expect(clippy::expect_used, reason = "eleven hexadecimal digits and an index below 16 always fit")]
    text.parse().expect("a tap name is always an interface name")
}

/// Whether an interface is named as our taps are.
#[must_use]
pub fn is_tap_name(name: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    name.len() == 14 && name.strip_prefix("dp").is_some_and(|rest| rest.bytes().all(digit))
}

/// What the names of a VM's taps begin with.
#[must_use]
pub fn tap_prefix(vm: VmId) -> String {
    let id = vm.0.simple().to_string();
    // The last digits of a v7 UUID are random, the first ones a clock.
    format!("dp{}", &id[id.len() - 11..])
}
