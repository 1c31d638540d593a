//! What goes to one agent: a short queue, and a bound on how long the agent may leave it full.

use std::time::Duration;

use dewpoint_proto::wire::agent::{ToAgent, to_agent::Message};
use tokio::sync::mpsc;
use tonic::Status;

use super::session::End;

/// The sending side of a session. Cheap to clone.
#[derive(Clone)]
pub(super) struct Outbound {
    sender: mpsc::Sender<Result<ToAgent, Status>>,
    patience: Duration,
}

impl Outbound {
    pub(super) fn new(sender: mpsc::Sender<Result<ToAgent, Status>>, patience: Duration) -> Self {
        Self { sender, patience }
    }

    /// Queues a message.
    ///
    /// # Errors
    /// When the peer is gone, or took nothing for too long.
    pub(super) async fn send(&self, message: Message) -> Result<(), End> {
        self.sender.send_timeout(Ok(ToAgent { message: Some(message) }), self.patience).await.map_err(
            |error| match error {
                mpsc::error::SendTimeoutError::Timeout(_) => End::Stuck,
                mpsc::error::SendTimeoutError::Closed(_) => End::Closed,
            },
        )
    }

    /// The last word; lost when the agent does not read.
    pub(super) fn finish(&self, status: Status) {
        let _ = self.sender.try_send(Err(status));
    }

    /// Returns when the peer is gone.
    pub(super) async fn closed(&self) {
        self.sender.closed().await;
    }
}
