//! What the host tells the coordinator: reports from the journal's outbox, the inventory, progress.
//!
//! Owns nothing; turns rows and observations into messages. Never: decides how an event ended.

pub mod progress;

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::vm_state::VmState;
use dewpoint_proto::wire::agent as wire;

/// What the link tells of the host beyond its events. Each call has a deadline of the link's; when it passes, the
/// heartbeat goes without it and says so.
#[async_trait]
pub trait Inventory: Send + Sync + 'static {
    /// Every VM that the host knows, each as of the newest report whose event it already shows.
    ///
    /// # Errors
    /// When nothing can be said at all; a VM that could not be observed is told as `Unknown` instead.
    async fn vms(&self) -> Result<Vec<VmState>, Cause>;

    /// What the host has.
    async fn capacity(&self) -> wire::Capacity;

    /// Why the host takes nothing or little; empty: all is well.
    async fn degraded(&self) -> Vec<Cause>;
}
