//! A scripted coordinator in memory: the test says each thing that it says.

mod raw;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::limits;
use dewpoint_proto::vm_state::{Power, VmState};
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::{from_agent, to_agent};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::transport::{Channel, Endpoint, Server, Uri};
use tonic::{Status, Streaming};

use super::dial::Dial;
use super::{Link, LinkState, Parts, Timing, backoff};
use crate::config::Manner;
use crate::execute::keep::board::Board;
use crate::identity::Home;
use crate::journal::fixture::{Folder, body, id};
use crate::journal::{Journal, Journaled};
use crate::report::progress::ProgressBoard;
use crate::report::{Holding, Inventory};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for something, with a bound.
pub(super) async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("it did not come in time")
}

/// The coordinator's end.
pub(super) struct FakeCoordinator {
    sessions: mpsc::Receiver<FakeSession>,
}

/// One stream that the agent opened.
pub(super) struct FakeSession {
    from: Streaming<wire::FromAgent>,
    /// The bytes of each message.
    to: mpsc::Sender<Result<Vec<u8>, Status>>,
}

impl FakeCoordinator {
    pub(super) async fn session(&mut self) -> FakeSession {
        soon(self.sessions.recv()).await.unwrap()
    }

    /// The next session, welcomed under this term.
    pub(super) async fn welcomed(&mut self, term: u64, reports_acked: u64) -> (FakeSession, wire::Hello) {
        let mut session = self.session().await;
        let hello = session.hello().await;
        session.say(to_agent::Message::Welcome(welcome(term, reports_acked))).await;
        (session, hello)
    }
}

pub(super) fn welcome(term: u64, reports_acked: u64) -> wire::Welcome {
    wire::Welcome {
        term,
        reports_acked,
        now_ms: 1_800_000_000_000,
        heartbeat_seconds: 1,
        images_url: "http://127.0.0.1:9".into(),
        hold: false,
    }
}

/// A message as it is on the wire.
pub(super) fn bytes_of(message: to_agent::Message) -> Vec<u8> {
    wire::ToAgent { message: Some(message) }.encode_to_vec()
}

impl FakeSession {
    pub(super) async fn say(&self, message: to_agent::Message) {
        assert!(self.try_say(message).await, "the agent has gone");
    }

    pub(super) async fn deliver(&self, seq: u64, body: &dewpoint_proto::event::Body) {
        self.deliver_under(1, seq, body).await;
    }

    pub(super) async fn deliver_under(&self, term: u64, seq: u64, body: &dewpoint_proto::event::Body) {
        let event = body.bytes().clone();
        self.say(to_agent::Message::Deliver(wire::Deliver { seq, term, generation: seq, event })).await;
    }

    pub(super) async fn acknowledge(&self, report_seq: u64) {
        self.say(to_agent::Message::ReportAck(wire::ReportAck { report_seq })).await;
    }

    pub(super) async fn hello(&mut self) -> wire::Hello {
        self.until(|message| match message {
            from_agent::Message::Hello(hello) => Some(hello),
            other => panic!("Hello comes first, not {other:?}"),
        })
        .await
    }

    /// The first message that this takes; others are passed over.
    pub(super) async fn until<T>(&mut self, mut take: impl FnMut(from_agent::Message) -> Option<T>) -> T {
        let next = async {
            loop {
                let message = self.from.next().await.expect("the agent closed").expect("the stream broke");
                if let Some(found) = take(message.message.unwrap()) {
                    return found;
                }
            }
        };
        soon(next).await
    }

    /// Until the agent has acknowledged this delivery; it never acknowledges beyond it.
    pub(super) async fn accepted(&mut self, seq: u64) {
        self.until(|message| match message {
            from_agent::Message::Accepted(accepted) => {
                assert!(accepted.seq <= seq, "{} was acknowledged, {seq} was sent", accepted.seq);
                (accepted.seq == seq).then_some(())
            }
            _ => None,
        })
        .await;
    }

    pub(super) async fn report(&mut self) -> wire::Report {
        self.until(|message| match message {
            from_agent::Message::Report(report) => Some(report),
            _ => None,
        })
        .await
    }

    pub(super) async fn heartbeat(&mut self, fits: impl Fn(&wire::Heartbeat) -> bool) -> wire::Heartbeat {
        self.until(|message| match message {
            from_agent::Message::Heartbeat(heartbeat) if fits(&heartbeat) => Some(heartbeat),
            _ => None,
        })
        .await
    }

    /// Says something to an agent that may have gone; whether it was there.
    pub(super) async fn try_say(&self, message: to_agent::Message) -> bool {
        self.try_say_bytes(bytes_of(message)).await
    }

    /// As [`FakeSession::try_say`], with bytes that may be no message.
    pub(super) async fn try_say_bytes(&self, bytes: Vec<u8>) -> bool {
        soon(self.to.send(Ok(bytes))).await.is_ok()
    }

    /// Hello, or none: the agent has gone before.
    pub(super) async fn maybe_hello(&mut self) -> Option<wire::Hello> {
        match soon(self.from.next()).await {
            Some(Ok(wire::FromAgent { message: Some(from_agent::Message::Hello(hello)) })) => Some(hello),
            _ => None,
        }
    }

    /// Hangs up, and reads on until the agent has gone: the highest seq that it acknowledged.
    pub(super) async fn last_word(self) -> u64 {
        let Self { mut from, to } = self;
        drop(to);
        let mut highest = 0;
        let read = async {
            while let Some(Ok(message)) = from.next().await {
                if let Some(from_agent::Message::Accepted(accepted)) = message.message {
                    highest = highest.max(accepted.seq);
                }
            }
        };
        soon(read).await;
        highest
    }

    /// Until the agent has gone, without having acknowledged anything.
    pub(super) async fn closed_without_accepting(mut self) {
        let end = async {
            while let Some(Ok(message)) = self.from.next().await {
                let accepted = matches!(message.message, Some(from_agent::Message::Accepted(_)));
                assert!(!accepted, "it was acknowledged");
            }
        };
        soon(end).await;
    }
}

/// Dials by handing the other end of a pipe to the server.
struct FakeDial(mpsc::Sender<std::io::Result<DuplexStream>>);

#[async_trait]
impl Dial for FakeDial {
    async fn dial(&self) -> Result<Channel, Cause> {
        let incoming = self.0.clone();
        Endpoint::from_static("http://fake")
            .connect_with_connector(tower::service_fn(move |_: Uri| {
                let incoming = incoming.clone();
                async move {
                    let (ours, theirs) = tokio::io::duplex(64 * 1024);
                    incoming.send(Ok(theirs)).await.map_err(std::io::Error::other)?;
                    Ok::<_, std::io::Error>(TokioIo::new(ours))
                }
            }))
            .await
            .map_err(|error| Cause::new(Reason::Unreachable, error.to_string()))
    }
}

/// VMs as the test sets them.
#[derive(Default)]
pub(super) struct FakeInventory {
    pub(super) vms: Mutex<Vec<VmState>>,
    pub(super) degraded: Mutex<Vec<Cause>>,
    pub(super) holdings: Mutex<Vec<Holding>>,
}

#[async_trait]
impl Inventory for FakeInventory {
    async fn vms(&self) -> Result<Vec<VmState>, Cause> {
        Ok(self.vms.lock().unwrap().clone())
    }

    async fn holdings(&self) -> Result<Vec<Holding>, Cause> {
        Ok(self.holdings.lock().unwrap().clone())
    }

    async fn capacity(&self) -> wire::Capacity {
        wire::Capacity { cpus: 2, ..wire::Capacity::default() }
    }

    async fn degraded(&self) -> Vec<Cause> {
        self.degraded.lock().unwrap().clone()
    }
}

pub(super) fn state(vm: VmId, power: Power) -> VmState {
    VmState {
        vm,
        name: "web".into(),
        generation: dewpoint_proto::ids::Generation(1),
        power,
        power_detail: String::new(),
        wanted_on: true,
        run: None,
        disk: None,
        as_of: dewpoint_proto::ids::ReportSeq(0),
        gone: false,
        life: Box::default(),
    }
}

/// An agent's link with a journal of its own, and the executor's end of the channel.
pub(super) struct Host {
    pub(super) folder: Folder,
    pub(super) journal: Journal,
    pub(super) executor: mpsc::Receiver<Journaled>,
    pub(super) inventory: Arc<FakeInventory>,
    pub(super) board: ProgressBoard,
    pub(super) state: tokio::sync::watch::Receiver<LinkState>,
    link: tokio::task::JoinHandle<Result<(), Cause>>,
    _stop: DropGuard,
}

impl Host {
    /// With room for so many events at the executor.
    pub(super) fn with_room(room: usize) -> (Self, FakeCoordinator) {
        let folder = Folder::new();
        let journal = folder.open();
        Self::on(folder, journal, room)
    }

    /// On a journal that is there already; the folder is kept as long as the host.
    pub(super) fn on(folder: Folder, journal: Journal, room: usize) -> (Self, FakeCoordinator) {
        Self::made(folder, journal, room, Manner::Acts)
    }

    /// Whose agent only observes.
    pub(super) fn observing(folder: Folder, journal: Journal) -> (Self, FakeCoordinator) {
        Self::made(folder, journal, 8, Manner::Observes)
    }

    fn made(folder: Folder, journal: Journal, room: usize, manner: Manner) -> (Self, FakeCoordinator) {
        let (dialled, incoming) = mpsc::channel(1);
        let (opened, sessions) = mpsc::channel(1);
        tokio::spawn(
            Server::builder()
                .add_service(raw::RawLink(opened))
                .serve_with_incoming(ReceiverStream::new(incoming)),
        );
        let (admitted, executor) = mpsc::channel(room);
        let (inventory, board) = (Arc::new(FakeInventory::default()), ProgressBoard::default());
        let parts = Parts {
            host: dewpoint_proto::ids::HostId::fresh(),
            hostname: "test".into(),
            dial: Arc::new(FakeDial(dialled)),
            journal: journal.clone(),
            admitted,
            manner,
            inventory: inventory.clone(),
            board: board.clone(),
            keeping: Board::default(),
            timing: quick(),
            home: Home { data_dir: folder.path().to_owned(), product_uuid: Some("this-machine".into()) },
        };
        let link = Link::new(parts, false);
        let (state, stop) = (link.state(), CancellationToken::new());
        let running = tokio::spawn(link.run(stop.clone()));
        let host = Self {
            folder,
            journal,
            executor,
            inventory,
            board,
            state,
            link: running,
            _stop: stop.drop_guard(),
        };
        (host, FakeCoordinator { sessions })
    }

    /// How the link ended by itself.
    pub(super) async fn ended(&mut self) -> Result<(), Cause> {
        (&mut self.link).await.unwrap()
    }

    /// What the executor got, in order.
    pub(super) async fn executed(&mut self) -> EventId {
        soon(self.executor.recv()).await.unwrap().id()
    }
}

/// Reports are sent again soon, and the backoff is short; all else may take long on a busy machine.
fn quick() -> Timing {
    let backoff = backoff::Bounds { first: Duration::from_millis(20), most: Duration::from_millis(100) };
    Timing {
        reports: Duration::from_millis(300),
        progress: Duration::from_millis(10),
        diverged: Duration::from_millis(500),
        backoff,
        ..Timing::default()
    }
}

/// Creates of as many VMs, by seq.
pub(super) fn creates(most: u64) -> Vec<dewpoint_proto::event::Body> {
    assert!(most <= u64::from(limits::DELIVERY_WINDOW));
    (1..=most)
        .map(|seq| {
            body(id(seq.into()), crate::journal::fixture::vm(seq.into()), crate::journal::fixture::create())
        })
        .collect()
}
