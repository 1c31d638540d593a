//! The client's way to the daemon's socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::wire::local::local_client::LocalClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

/// How long the daemon may take to take a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// Connects with the daemon.
///
/// # Errors
/// `UNREACHABLE` when it is down.
pub async fn connect(path: &Path) -> Result<LocalClient<Channel>, Cause> {
    let to: PathBuf = path.to_owned();
    let dial = tower::service_fn(move |_: tonic::transport::Uri| {
        let to = to.clone();
        async move { UnixStream::connect(to).await.map(TokioIo::new) }
    });
    // The URI names nothing: the connector ignores it.
    let channel =
        Endpoint::from_static("http://local").connect_timeout(CONNECT).connect_with_connector(dial).await;
    channel.map(LocalClient::new).map_err(|_| {
        Cause::new(Reason::Unreachable, format!("no agent answers at {}", path.display()))
            .advise("start it with `systemctl start dewpoint-agent`, or `dewpoint-agent run`")
    })
}
