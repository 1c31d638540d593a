//! A host whose messages are bytes in the test's hand: they need not be messages.

use dewpoint_proto::hostile::Raw;
use dewpoint_proto::wire::agent as wire;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Request, Streaming};

use crate::testing::{BOUND, Coordinator};

/// One stream of such a host.
pub(super) struct RawLink {
    sender: mpsc::Sender<Vec<u8>>,
    inbound: Streaming<wire::ToAgent>,
}

impl RawLink {
    pub(super) async fn open(coordinator: &Coordinator) -> Self {
        let (sender, receiver) = mpsc::channel(64);
        let mut client = Grpc::new(coordinator.channel.clone());
        client.ready().await.unwrap();
        let path = PathAndQuery::from_static("/dewpoint.agent.v1.AgentLink/Connect");
        let opening = client.streaming(Request::new(ReceiverStream::new(receiver)), path, Raw::default());
        let inbound = timeout(BOUND, opening).await.unwrap().unwrap().into_inner();
        Self { sender, inbound }
    }

    /// A session that has ended takes nothing.
    pub(super) async fn send(&self, bytes: Vec<u8>) {
        drop(self.sender.send(bytes).await);
    }

    /// The next message that is no ping; none: the session has ended.
    pub(super) async fn next(&mut self) -> Option<wire::to_agent::Message> {
        loop {
            let next = timeout(BOUND, self.inbound.message()).await.expect("nothing came");
            match next.ok()??.message? {
                wire::to_agent::Message::Ping(_) => {}
                message => return Some(message),
            }
        }
    }

    /// Says no more, and reads on until the session ends.
    pub(super) async fn hang_up(self) {
        let Self { sender, mut inbound } = self;
        drop(sender);
        let read = async { while let Ok(Some(_)) = inbound.message().await {} };
        timeout(BOUND, read).await.expect("the session did not end");
    }
}
