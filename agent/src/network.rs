//! Anti-spoofing: a guest sends with its own MAC and addresses, and with no others.
//!
//! One nftables table of the bridge family, with elements for each VM; set before the VM starts, cleared after it is
//! gone, and independent of the agent's life.

#[cfg(any(test, feature = "faults"))]
pub mod fake;

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::VmId;
use dewpoint_proto::names::InterfaceName;
use dewpoint_proto::spec::{Cidr, MacAddr};

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

/// The host's anti-spoofing rules.
#[async_trait]
pub trait Shield: Send + Sync + 'static {
    /// The rules of one VM; `There` carries those that are wholly in force, sorted by tap, with their addresses in the
    /// order in which they were set. `Absent`: nothing of this VM is left.
    async fn observe(&self, vm: VmId) -> Seen<Vec<Allowed>>;

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

/// What the names of a VM's taps begin with.
fn tap_prefix(vm: VmId) -> String {
    let id = vm.0.simple().to_string();
    // The last digits of a v7 UUID are random, the first ones a clock.
    format!("dp{}", &id[id.len() - 11..])
}
