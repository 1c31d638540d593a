//! The agent's Unix socket: events submitted on the spot, and every change of a stage as it is journaled.

use std::time::Duration;

use dewpoint_proto::event::{Body, Event};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::wire::local::local_client::LocalClient;
use dewpoint_proto::wire::local::{SubmitRequest, WatchRequest, WatchResponse};
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::agent::Agent;
use crate::wait::EVENT;

/// A client of one agent that watches everything.
#[derive(Debug)]
pub struct Local {
    client: LocalClient<Channel>,
    changes: Streaming<WatchResponse>,
}

impl Local {
    /// Connects, and watches from now on.
    ///
    /// # Panics
    /// When the agent does not answer.
    pub async fn of(agent: &Agent) -> Self {
        let url = format!("unix://{}", agent.socket().display());
        let endpoint =
            Endpoint::from_shared(url).unwrap_or_else(|error| panic!("the agent's socket: {error}"));
        let channel = endpoint.connect_timeout(Duration::from_secs(5)).connect().await;
        let mut client =
            LocalClient::new(channel.unwrap_or_else(|error| panic!("the agent's socket: {error:?}")));
        let changes = client.watch(WatchRequest::default()).await;
        let changes = changes.unwrap_or_else(|status| panic!("the agent's watch: {status}")).into_inner();
        Self { client, changes }
    }

    /// Submits an event; it is journaled on return.
    ///
    /// # Panics
    /// When it is refused.
    pub async fn submit(&mut self, event: Event) {
        let body = Body::encode(event).unwrap_or_else(|cause| panic!("{cause:?}"));
        let request = SubmitRequest { event: body.bytes().clone() };
        let answer = self.client.submit(request).await.unwrap_or_else(|status| panic!("submit: {status}"));
        let refused = answer.into_inner().refused;
        assert!(refused.is_none(), "refused: {refused:?}");
    }

    /// Waits until an event is in one of these stages, however it came there.
    ///
    /// # Panics
    /// When it does not come there, or did not succeed.
    pub async fn until(&mut self, event: &str, stages: &[&str]) {
        loop {
            let change = timeout(EVENT, self.changes.message()).await;
            let change =
                change.unwrap_or_else(|_| panic!("event {event} is not {stages:?} within {EVENT:?}"));
            let change = change.unwrap_or_else(|status| panic!("the agent's watch: {status}"));
            let change = change.unwrap_or_else(|| panic!("the agent's watch ended"));
            if change.progress.as_ref().is_none_or(|progress| progress.event_id != event) {
                continue;
            }
            if let Some(Ok(outcome)) = change.outcome.map(Outcome::try_from) {
                assert!(outcome.cause().is_none(), "event {event}: {outcome:?}");
            }
            if stages.contains(&change.stage.as_str()) {
                return;
            }
        }
    }
}
