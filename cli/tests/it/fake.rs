//! A scripted fleet: answers what it was told to answer, and remembers what it was asked.

mod events;
mod lists;
mod vms;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::status::to_status;
use dewpoint_proto::wire::event::{self as event, Outcome, Succeeded, outcome::End};
use dewpoint_proto::wire::fleet::events_server::EventsServer;
use dewpoint_proto::wire::fleet::fleet_server::FleetServer;
use dewpoint_proto::wire::fleet::hosts_server::HostsServer;
use dewpoint_proto::wire::fleet::images_server::ImagesServer;
use dewpoint_proto::wire::fleet::networks_server::NetworksServer;
use dewpoint_proto::wire::fleet::vms_server::VmsServer;
use dewpoint_proto::wire::fleet::{
    Act, CreateVmRequest, EventRecord, FleetRecord, Host, Image, Network, ReconcilePlan, Vm, WatchVmsResponse,
};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::Status;
use tonic::transport::server::Connected;

pub(crate) const EVENT: &str = "018f3c5e-7c1a-7d3e-9a5b-2f6d8c4b1a90";

/// What one watch says, in order.
pub(crate) enum Told {
    Event(EventRecord),
    SnapshotComplete,
    Break,
    Fail(Status),
    /// Nothing more, and no end.
    Silence,
}

/// How one event-making request is answered.
pub(crate) enum Answer {
    /// With the record, under the id that was sent.
    With(EventRecord),
    Refuse(Status),
    /// Taken, and never answered.
    Never,
}

/// What the fleet answers with, and what it was asked.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) answers: VecDeque<Answer>,
    pub(crate) watches: VecDeque<Vec<Told>>,
    pub(crate) vm_watches: VecDeque<Vec<WatchVmsResponse>>,
    pub(crate) hosts: Vec<Host>,
    pub(crate) vms: Vec<Vm>,
    pub(crate) images: Vec<Image>,
    pub(crate) networks: Vec<Network>,
    pub(crate) events: Vec<EventRecord>,
    /// What reconciling any host comes to.
    pub(crate) plan: ReconcilePlan,
    pub(crate) acts: Vec<Act>,
    pub(crate) fleet: FleetRecord,
    pub(crate) image_server: String,
    pub(crate) created: Vec<CreateVmRequest>,
    /// `METHOD WHAT`, in order.
    pub(crate) asked: Vec<String>,
}

#[derive(Default)]
pub(crate) struct State {
    script: Mutex<Script>,
    changed: Condvar,
}

impl State {
    pub(crate) fn with<T>(&self, on: impl FnOnce(&mut Script) -> T) -> T {
        let done = on(&mut self.script.lock().unwrap());
        self.changed.notify_all();
        done
    }

    fn note(&self, method: &str, what: &str) {
        self.with(|script| script.asked.push(format!("{method} {what}")));
    }

    /// Returns once something was asked that begins so.
    #[track_caller]
    pub(crate) fn wait_until_asked(&self, what: &str) {
        let guard = self.script.lock().unwrap();
        let missing = |script: &mut Script| !script.asked.iter().any(|asked| asked.starts_with(what));
        let (script, late) =
            self.changed.wait_timeout_while(guard, Duration::from_secs(20), missing).unwrap();
        assert!(!late.timed_out(), "never asked for {what}, only for {:?}", script.asked);
    }

    pub(crate) fn asked(&self, method: &str) -> Vec<String> {
        let of = |script: &mut Script| {
            script.asked.iter().filter(|asked| asked.starts_with(method)).cloned().collect()
        };
        self.with(of)
    }
}

#[derive(Clone)]
struct Service(Arc<State>);

/// A fleet that listens.
pub(crate) struct Fake {
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    runtime: Option<Runtime>,
}

impl Fake {
    pub(crate) fn start() -> Self {
        Self::at("127.0.0.1:0".parse().unwrap())
    }

    /// At the address that another one had.
    pub(crate) fn at(address: SocketAddr) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind(address)).unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let accepted = futures::stream::unfold(listener, |listener| async {
            Some((listener.accept().await.map(|(stream, _)| stream), listener))
        });
        runtime.spawn(serve(Service(Arc::clone(&state)), accepted));
        Self { url: format!("http://{address}"), address, state, runtime: Some(runtime) }
    }

    /// The same fleet at a Unix socket as well.
    pub(crate) fn also_at(&self, socket: &std::path::Path) -> String {
        let runtime = self.runtime.as_ref().unwrap();
        let _inside = runtime.enter();
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        let accepted = futures::stream::unfold(listener, |listener| async {
            Some((listener.accept().await.map(|(stream, _)| stream), listener))
        });
        runtime.spawn(serve(Service(Arc::clone(&self.state)), accepted));
        format!("unix://{}", socket.display())
    }

    pub(crate) fn with<T>(&self, on: impl FnOnce(&mut Script) -> T) -> T {
        self.state.with(on)
    }
}

async fn serve<S>(service: Service, accepted: impl futures::Stream<Item = std::io::Result<S>>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Connected + Unpin + Send + 'static,
{
    tonic::transport::Server::builder()
        .add_service(VmsServer::new(service.clone()))
        .add_service(EventsServer::new(service.clone()))
        .add_service(HostsServer::new(service.clone()))
        .add_service(FleetServer::new(service.clone()))
        .add_service(ImagesServer::new(service.clone()))
        .add_service(NetworksServer::new(service))
        .serve_with_incoming(accepted)
        .await
        .unwrap();
}

impl Drop for Fake {
    /// Every connection breaks, as when the process is killed.
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// An event of `web` at that stage; its id is set by who answers with it.
pub(crate) fn record(kind: &str, stage: &str) -> EventRecord {
    EventRecord {
        event_id: EVENT.to_owned(),
        vm_id: "018f3c5e-0000-7000-8000-000000000001".to_owned(),
        vm_name: "web".to_owned(),
        kind: kind.to_owned(),
        stage: stage.to_owned(),
        hostname: "hv1".to_owned(),
        host_id: "018f3c5e-0000-7000-8000-00000000000a".to_owned(),
        seq: 7,
        generation: 3,
        accepted_at_ms: 1_700_000_000_000,
        ..EventRecord::default()
    }
}

pub(crate) fn running(step: &str, done_bytes: u64, total_bytes: u64) -> EventRecord {
    let progress = event::Progress { step: step.to_owned(), done_bytes, total_bytes, ..Default::default() };
    EventRecord { progress: Some(progress), ..record("create", "running") }
}

pub(crate) fn succeeded() -> EventRecord {
    let outcome = Outcome { end: Some(End::Succeeded(Succeeded::default())) };
    EventRecord { outcome: Some(outcome), finished_at_ms: 1_700_000_012_000, ..record("create", "succeeded") }
}

pub(crate) fn failed() -> EventRecord {
    let cause = Cause::new(Reason::ImageUnavailable, "the image could not be fetched")
        .advise("check the image server");
    let outcome = Outcome { end: Some(End::Failed(cause.into())) };
    EventRecord { outcome: Some(outcome), ..record("create", "failed") }
}

pub(crate) fn refusal(reason: Reason, text: &str, advice: &str) -> Status {
    to_status(Cause::new(reason, text).advise(advice))
}
