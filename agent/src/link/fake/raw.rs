//! The coordinator's service, with the bytes of each message in the test's hand: they need not be a message.

use std::convert::Infallible;
use std::task::{Context, Poll};

use dewpoint_proto::hostile::Raw;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::agent_link_server::SERVICE_NAME;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::body::Body;
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::{Request, Response, Status, Streaming};

use super::FakeSession;

/// Hands each stream that an agent opens to the test.
#[derive(Clone)]
pub(super) struct RawLink(pub(super) mpsc::Sender<FakeSession>);

impl NamedService for RawLink {
    const NAME: &'static str = SERVICE_NAME;
}

impl tower::Service<http::Request<Body>> for RawLink {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let link = self.clone();
        Box::pin(async move { Ok(Grpc::new(Raw::default()).streaming(link, request).await) })
    }
}

impl StreamingService<wire::FromAgent> for RawLink {
    type Response = Vec<u8>;
    type ResponseStream = BoxStream<'static, Result<Vec<u8>, Status>>;
    type Future = BoxFuture<'static, Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<wire::FromAgent>>) -> Self::Future {
        let opened = self.0.clone();
        Box::pin(async move {
            let (to, messages) = mpsc::channel(64);
            let session = FakeSession { from: request.into_inner(), to };
            opened.send(session).await.map_err(|_| Status::unavailable("the test is over"))?;
            Ok(Response::new(Box::pin(ReceiverStream::new(messages)) as Self::ResponseStream))
        })
    }
}
