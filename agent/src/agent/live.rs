//! What only the running daemon knows, for the local socket.

use std::sync::Arc;

use async_trait::async_trait;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::local::StatusResponse;
use tokio::sync::watch;

use crate::link::{LinkState, Phase};
use crate::local::service::Live;
use crate::report::Inventory;

/// The daemon, as `status` shows it.
pub(super) struct Daemon {
    /// As configured; none: the host works alone.
    pub(super) coordinator: Option<String>,
    pub(super) started: Millis,
    /// None: there is no link.
    pub(super) link: Option<watch::Receiver<LinkState>>,
    pub(super) hold: watch::Receiver<bool>,
    pub(super) inventory: Arc<dyn Inventory>,
    /// What the slow sweep found.
    pub(super) swept: watch::Receiver<Option<Cause>>,
}

#[async_trait]
impl Live for Daemon {
    async fn status(&self) -> StatusResponse {
        let degraded = self.inventory.degraded().await;
        let libvirt_down = degraded.iter().any(|cause| cause.reason == Reason::HypervisorDown);
        let (connected, term, session_detail) = self.session();
        StatusResponse {
            connected,
            coordinator: self.coordinator.clone().unwrap_or_default(),
            term,
            degraded: degraded.into_iter().map(Into::into).collect(),
            libvirt_connected: !libvirt_down,
            hold: *self.hold.borrow(),
            started_at_ms: self.started.0,
            session_detail,
            notes: self.swept.borrow().iter().cloned().map(Into::into).collect(),
        }
    }
}

impl Daemon {
    fn session(&self) -> (bool, u64, String) {
        let Some(link) = &self.link else { return (false, 0, String::new()) };
        let state = link.borrow();
        let (connected, detail) = match &state.phase {
            Phase::Connected => (true, String::new()),
            Phase::Apart(None) => (false, "not yet".to_owned()),
            Phase::Apart(Some(cause)) => (false, cause.text.clone()),
            Phase::Diverged(cause) => (false, format!("the two logs do not match: {}", cause.text)),
        };
        (connected, state.term.0, detail)
    }
}
