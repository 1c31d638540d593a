//! A scripted agent: a journal in memory, and a link that does what the test says.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::{Body, Kind};
use dewpoint_proto::ids::{HostId, JournalId};
use dewpoint_proto::limits;
use dewpoint_proto::status::from_status;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::agent_link_client::AgentLinkClient;
use dewpoint_proto::wire::agent::{from_agent, to_agent};
use dewpoint_proto::wire::event;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::Channel;

use super::{BOUND, Coordinator};

/// What a host keeps over its sessions.
#[derive(Clone)]
pub(crate) struct Agent {
    pub(crate) host: HostId,
    pub(crate) journal: JournalId,
    pub(crate) start_count: u64,
    pub(crate) last_seq: u64,
    pub(crate) last_seq_event: String,
    pub(crate) last_report: u64,
    pub(crate) observe_only: bool,
    pub(crate) machine: String,
    pub(crate) doubt: Option<Cause>,
}

/// One live session.
pub(crate) struct Link {
    sender: mpsc::Sender<wire::FromAgent>,
    inbound: Streaming<wire::ToAgent>,
    answers_pings: bool,
}

impl Agent {
    pub(crate) fn new() -> Self {
        Self {
            host: HostId::fresh(),
            journal: JournalId::fresh(),
            start_count: 1,
            last_seq: 0,
            last_seq_event: String::new(),
            last_report: 0,
            observe_only: false,
            machine: String::new(),
            doubt: None,
        }
    }

    /// Opens a stream and says hello; what comes back is the link's first message.
    pub(crate) async fn dial(&self, coordinator: &Coordinator) -> Link {
        self.dial_over(coordinator.channel.clone()).await
    }

    pub(crate) async fn dial_over(&self, channel: Channel) -> Link {
        let mut link = Link::over(channel).await;
        link.send(from_agent::Message::Hello(self.hello())).await;
        link
    }

    /// What it says first.
    pub(crate) fn hello(&self) -> wire::Hello {
        wire::Hello {
            protocol: 2,
            host_id: self.host.to_string(),
            journal_id: self.journal.to_string(),
            start_count: self.start_count,
            last_seq: self.last_seq,
            last_seq_event_id: self.last_seq_event.clone(),
            last_report_seq: self.last_report,
            agent_version: "0.1.0".into(),
            hostname: format!("host-{}", &self.host.to_string()[24..]),
            observe_only: self.observe_only,
            product_uuid: self.machine.clone(),
            doubt: self.doubt.clone().map(Into::into),
        }
    }

    /// A session that was welcomed, on a host that has room.
    pub(crate) async fn connect(&self, coordinator: &Coordinator) -> (Link, wire::Welcome) {
        let mut link = self.dial(coordinator).await;
        let to_agent::Message::Welcome(welcome) = link.next().await else { panic!("no welcome") };
        link.heartbeat(limits::DELIVERY_WINDOW).await;
        let host = self.host.to_string();
        coordinator.wait_for_host(self, |h| h.host_id == host && h.cpus > 0 && h.liveness == "alive").await;
        (link, welcome)
    }

    /// Takes a delivery into the journal.
    pub(crate) fn journal(&mut self, deliver: &wire::Deliver) -> Body {
        let body = Body::decode(deliver.event.clone()).unwrap();
        if deliver.seq > self.last_seq {
            self.last_seq = deliver.seq;
            self.last_seq_event = body.event().id.to_string();
        }
        body
    }

    /// The next report: the event succeeded.
    pub(crate) fn succeeded(&mut self, deliver: &wire::Deliver) -> wire::Report {
        self.last_report += 1;
        let body = Body::decode(deliver.event.clone()).unwrap();
        let event = body.event();
        let gone = matches!(event.kind, Kind::Destroy(_));
        let image = match &event.kind {
            Kind::Snapshot(_) => Some(event::ImageRef {
                digest: hex::encode(Sha256::digest(snapshot_bytes())),
                size_bytes: 1 << 20,
                virtual_size_bytes: 1 << 20,
                ..Default::default()
            }),
            _ => None,
        };
        wire::Report {
            report_seq: self.last_report,
            event_id: event.id.to_string(),
            seq: deliver.seq,
            generation: deliver.generation,
            outcome: Some(event::Outcome {
                end: Some(event::outcome::End::Succeeded(event::Succeeded { image, note: String::new() })),
            }),
            vm: Some(event::VmState {
                vm_id: event.vm.to_string(),
                name: "vm".into(),
                generation: deliver.generation,
                power: if gone { event::Power::Absent } else { event::Power::Running }.into(),
                wanted_on: !gone,
                run: if gone { String::new() } else { event.id.to_string() },
                disk: event.id.to_string(),
                as_of_report_seq: self.last_report,
                gone,
                ..Default::default()
            }),
            event: bytes::Bytes::new(),
            begun_at_ms: 1,
            finished_at_ms: 2,
        }
    }

    /// Carries out what is delivered until the link ends: everything succeeds.
    pub(crate) async fn obey(mut self, mut link: Link) {
        loop {
            match link.take().await {
                Ok(to_agent::Message::Deliver(deliver)) => {
                    self.journal(&deliver);
                    link.accept(deliver.seq).await;
                    let report = self.succeeded(&deliver);
                    link.report(report).await;
                }
                Ok(_) => {}
                Err(_) => return,
            }
        }
    }
}

impl Link {
    /// A stream without a hello.
    pub(crate) async fn open(coordinator: &Coordinator) -> Self {
        Self::over(coordinator.channel.clone()).await
    }

    async fn over(channel: Channel) -> Self {
        let (sender, receiver) = mpsc::channel(256);
        let mut client = AgentLinkClient::new(channel);
        let opened = timeout(BOUND, client.connect(ReceiverStream::new(receiver))).await.unwrap();
        Self { sender, inbound: opened.unwrap().into_inner(), answers_pings: true }
    }

    /// From here on, like an agent behind a cut wire.
    pub(crate) fn goes_silent(&mut self) {
        self.answers_pings = false;
    }

    pub(crate) async fn send(&mut self, message: from_agent::Message) {
        // A session that has ended takes nothing; the test sees that when it reads.
        let _ = self.sender.send(wire::FromAgent { message: Some(message) }).await;
    }

    pub(crate) async fn accept(&mut self, seq: u64) {
        self.send(from_agent::Message::Accepted(wire::Accepted { seq })).await;
    }

    pub(crate) async fn report(&mut self, report: wire::Report) {
        self.send(from_agent::Message::Report(report)).await;
    }

    pub(crate) async fn heartbeat(&mut self, window: u32) {
        self.send(from_agent::Message::Heartbeat(heartbeat(window))).await;
    }

    /// A heartbeat of a host that only observes.
    pub(crate) async fn observes(&mut self, window: u32) {
        let told = wire::Heartbeat { observe_only: true, ..heartbeat(window) };
        self.send(from_agent::Message::Heartbeat(told)).await;
    }

    /// The next message that is no ping; pings are answered.
    pub(crate) async fn take(&mut self) -> Result<to_agent::Message, Cause> {
        loop {
            let next = self.inbound.message().await.map_err(|status| from_status(&status))?;
            let Some(message) = next.and_then(|m| m.message) else {
                return Err(Cause::new(dewpoint_proto::cause::Reason::Unreachable, "the stream ended"));
            };
            match message {
                to_agent::Message::Ping(ping) if self.answers_pings => {
                    self.send(from_agent::Message::Pong(wire::Pong { nonce: ping.nonce })).await;
                }
                to_agent::Message::Ping(_) => {}
                other => return Ok(other),
            }
        }
    }

    /// The next message that is no ping, in time.
    pub(crate) async fn next(&mut self) -> to_agent::Message {
        timeout(BOUND, self.take()).await.expect("nothing came").unwrap()
    }

    pub(crate) async fn deliver(&mut self) -> wire::Deliver {
        match self.next().await {
            to_agent::Message::Deliver(deliver) => deliver,
            other => panic!("{other:?} instead of a delivery"),
        }
    }

    pub(crate) async fn ack(&mut self) -> u64 {
        match self.next().await {
            to_agent::Message::ReportAck(ack) => ack.report_seq,
            other => panic!("{other:?} instead of an acknowledgement"),
        }
    }

    /// Why the session ended.
    pub(crate) async fn ended(&mut self) -> Cause {
        timeout(BOUND, async {
            loop {
                if let Err(cause) = self.take().await {
                    return cause;
                }
            }
        })
        .await
        .expect("the session did not end")
    }

    /// Says no more, and reads on until the coordinator has taken all of it and ends the session.
    pub(crate) async fn hang_up(self) {
        let Self { sender, mut inbound, .. } = self;
        drop(sender);
        let read = async { while let Ok(Some(_)) = inbound.message().await {} };
        timeout(BOUND, read).await.expect("the session did not end");
    }

    /// Nothing but pings comes for a while: a delivery on loopback would be here in a millisecond.
    pub(crate) async fn is_quiet(&mut self) {
        let quiet = timeout(std::time::Duration::from_millis(200), self.take()).await;
        assert!(quiet.is_err(), "{quiet:?} came");
    }
}

/// Of a host with room.
pub(crate) fn heartbeat(window: u32) -> wire::Heartbeat {
    wire::Heartbeat {
        count: 1,
        window,
        capacity: Some(wire::Capacity {
            cpus: 16,
            memory_bytes: 64 << 30,
            memory_available_bytes: 60 << 30,
            disk_bytes: 1 << 40,
            disk_free_bytes: 1 << 40,
            cpu_arch: "x86_64".into(),
            bridges: vec!["br0".into(), "a name that no event can give".into()],
        }),
        ..Default::default()
    }
}

/// What every snapshot comes to: a raw disk. A test uploads it, as a host would.
pub(crate) fn snapshot_bytes() -> Vec<u8> {
    vec![0xee; 1 << 20]
}

/// Which seq a message delivers.
pub(crate) fn deliver_seq(message: &to_agent::Message) -> Option<u64> {
    match message {
        to_agent::Message::Deliver(deliver) => Some(deliver.seq),
        _ => None,
    }
}
