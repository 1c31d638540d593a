//! What callers see: `dewpoint.fleet.v1`, in thin handlers.
//!
//! A handler parses, asks [`Events`], and puts the answer into wire form. Refusals travel as `google.rpc.Status` with
//! our cause. Owns: the bounds on requests at a time. Never: decides anything about an event.

mod events;
mod fleet;
mod hosts;
mod images;
mod networks;
mod vms;

use std::future::Future;
use std::sync::Arc;

use dewpoint_common::message;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::status::to_status;
use dewpoint_proto::wire::fleet as wire;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::service::RoutesBuilder;
use tonic::{Response, Status};

use crate::events::{Events, Watched};
use crate::images::Images;

/// Unary requests at a time; more are refused, not queued.
const REQUESTS: usize = 512;
/// Watches at a time.
const WATCHES: usize = 1024;
/// The largest request: an event with room for its envelope.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// The services of callers. Cheap to clone.
#[derive(Clone)]
pub struct Api {
    events: Events,
    images: Arc<Images>,
    images_url: String,
    requests: Arc<Semaphore>,
    watches: Arc<Semaphore>,
    stop: CancellationToken,
}

impl Api {
    /// Watches end with `stop`.
    #[must_use]
    pub fn new(events: Events, images: Arc<Images>, images_url: String, stop: CancellationToken) -> Self {
        Self {
            events,
            images,
            images_url,
            requests: Arc::new(Semaphore::new(REQUESTS)),
            watches: Arc::new(Semaphore::new(WATCHES)),
            stop,
        }
    }

    /// Adds every service, with its bounds.
    pub fn add_to(&self, routes: &mut RoutesBuilder) {
        use wire::events_server::EventsServer;
        use wire::fleet_server::FleetServer;
        use wire::hosts_server::HostsServer;
        use wire::images_server::ImagesServer;
        use wire::networks_server::NetworksServer;
        use wire::vms_server::VmsServer;
        routes
            .add_service(VmsServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES))
            .add_service(EventsServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES))
            .add_service(HostsServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES))
            .add_service(FleetServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES))
            .add_service(ImagesServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES))
            .add_service(NetworksServer::new(self.clone()).max_decoding_message_size(MESSAGE_BYTES));
    }

    /// Runs one unary request within the bound.
    async fn answer<T>(
        &self,
        method: &'static str,
        work: impl Future<Output = Result<T, Cause>> + Send,
    ) -> Result<Response<T>, Status> {
        let _permit = self.requests.try_acquire().map_err(|_| to_status(too_busy("requests", REQUESTS)))?;
        work.await.map(Response::new).map_err(|cause| {
            tracing::info!(message_id = message::EVENT_REFUSED, method, reason = %cause.reason, "refused: {}", cause.text);
            to_status(cause)
        })
    }

    /// Turns a watch into a stream of responses that ends when the coordinator stops.
    fn stream<T, R>(
        &self,
        watch: impl Stream<Item = Result<Watched<T>, Cause>> + Send + 'static,
        to_wire: impl Fn(Watched<T>) -> R + Send + 'static,
    ) -> Result<Response<Answers<R>>, Status>
    where
        T: 'static,
        R: Send + 'static,
    {
        let permit = Arc::clone(&self.watches)
            .try_acquire_owned()
            .map_err(|_| to_status(too_busy("watches", WATCHES)))?;
        let stopped = self.stop.clone().cancelled_owned().map(|()| Err(to_status(stops())));
        let items = watch.map(move |item| {
            let _held_until_the_end = &permit;
            item.map(&to_wire).map_err(to_status)
        });
        let items = items.take_until(self.stop.clone().cancelled_owned()).chain(stopped.into_stream());
        Ok(Response::new(items.boxed()))
    }
}

/// A stream of responses.
type Answers<R> = BoxStream<'static, Result<R, Status>>;

fn too_busy(what: &str, most: usize) -> Cause {
    Cause::new(Reason::TooBusy, format!("{most} {what} are under way already"))
        .advise("try again in a second")
}

fn stops() -> Cause {
    Cause::new(Reason::Unreachable, "the coordinator stops").advise("connect again when it is back")
}

/// Milliseconds as on the wire, where 0 stands for none.
fn millis(at: Option<dewpoint_proto::time::Millis>) -> i64 {
    at.map_or(0, |at| at.0)
}

/// Text as on the wire, where empty stands for none.
fn text(value: Option<impl ToString>) -> String {
    value.map_or_else(String::new, |value| value.to_string())
}

#[cfg(test)]
mod tests;
