//! The sessions with agents: one stream a host, over which work is pushed and everything that hosts tell comes back.
//!
//! Owns: the map from host to live session, and what is in flight on each. A session is a handshake (hello, claim of
//! the host's queue under a new term, welcome), then three loops side by side: `deliver` pushes the queue,
//! `receive` stores what the host tells and acknowledges it, `keepalive` pings. The first to end ends all. Every
//! write is under the session's term. Never: decides where an event stands (the store does), polls for work, or waits
//! for a peer without a bound.

mod confirm;
mod deliver;
#[cfg(test)]
mod hostile;
mod keepalive;
mod outbound;
mod receive;
mod session;
mod sessions;
mod window;

use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::limits;
use dewpoint_proto::status::to_status;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::agent_link_server::{AgentLink, AgentLinkServer};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use crate::events::Events;
use crate::images::Images;
use crate::metrics::RouterMetrics;
use outbound::Outbound;
use sessions::Sessions;

/// How sessions are kept.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Asked of agents.
    pub heartbeat: Duration,
    /// Between pings; a session that is silent for three of these is ended.
    pub ping: Duration,
    /// Hosts connected at once.
    pub sessions: u32,
    /// Hosts whose logs are matched at once; others wait in turn.
    pub handshakes: u16,
    /// Scheme, host and port.
    pub images_url: String,
    /// From the opened stream to the end of the handshake.
    pub handshake: Duration,
    /// What an older session is given to answer a ping when another claims its host.
    pub clash: Duration,
    /// What an agent is given to take one message, and to accept what it was delivered before it is delivered again.
    pub patience: Duration,
    /// Between looks for what a lost wake-up left.
    pub sweep: Duration,
}

impl Settings {
    /// The defaults.
    #[must_use]
    pub fn with_images_at(images_url: String) -> Self {
        Self {
            heartbeat: Duration::from_secs(3),
            ping: Duration::from_secs(10),
            sessions: 20_000,
            handshakes: 128,
            images_url,
            handshake: Duration::from_secs(10),
            clash: Duration::from_secs(5),
            patience: Duration::from_secs(30),
            sweep: Duration::from_secs(30),
        }
    }
}

/// The service that agents dial. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

/// What all sessions share.
struct Shared {
    events: Events,
    images: Arc<Images>,
    settings: Settings,
    sessions: Sessions,
    places: Arc<Semaphore>,
    /// First come, first served: a fleet that dials at once is matched in turn, and no agent is starved.
    admission: Semaphore,
    metrics: Arc<RouterMetrics>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Router {
    /// Sessions end with `stop`.
    #[must_use]
    pub fn new(
        events: Events,
        images: Arc<Images>,
        settings: Settings,
        metrics: Arc<RouterMetrics>,
        stop: CancellationToken,
    ) -> Self {
        let places = Arc::new(Semaphore::new(settings.sessions as usize));
        let tasks = TaskTracker::new();
        let sessions = Sessions::new(settings.clash);
        let admission = Semaphore::new(settings.handshakes.into());
        let shared = Shared { events, images, settings, sessions, places, admission, metrics, tasks, stop };
        Self { shared: Arc::new(shared) }
    }

    /// As a gRPC service, with its bounds.
    #[must_use]
    pub fn service(&self) -> AgentLinkServer<Self> {
        AgentLinkServer::new(self.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    /// How many hosts have a session.
    #[must_use]
    pub fn connected(&self) -> usize {
        self.shared.sessions.count()
    }

    /// Waits until every session has ended, which they do once stopped.
    pub async fn drained(&self) {
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

/// The largest message: a chunk of an inventory, with room for its frame.
const MESSAGE_BYTES: usize = 2 * limits::INVENTORY_CHUNK_BYTES;
/// Messages that wait for the connection: at most 2 MiB of events for an agent that does not read.
const OUTBOUND: usize = 8;

#[tonic::async_trait]
impl AgentLink for Router {
    type ConnectStream = BoxStream<'static, Result<wire::ToAgent, Status>>;

    /// Answers at once: both sides open their stream before they wait for the other.
    async fn connect(
        &self,
        request: Request<Streaming<wire::FromAgent>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        let place = Arc::clone(&self.shared.places).try_acquire_owned().map_err(|_| {
            to_status(
                Cause::new(Reason::TooBusy, "this coordinator has as many sessions as it takes")
                    .advise("raise router.sessions, or wait"),
            )
        })?;
        let (sender, receiver) = mpsc::channel(OUTBOUND);
        let shared = Arc::clone(&self.shared);
        let outbound = Outbound::new(sender, shared.settings.patience);
        self.shared.tasks.spawn(async move {
            session::run(&shared, request.into_inner(), outbound).await;
        });
        // A peer that does not read keeps its stream's queue beyond its session, so that is what has the place.
        let messages = ReceiverStream::new(receiver).map(move |message| {
            let _held_until_the_end = &place;
            message
        });
        Ok(Response::new(messages.boxed()))
    }
}

#[cfg(test)]
mod storm;
#[cfg(test)]
mod tests;
