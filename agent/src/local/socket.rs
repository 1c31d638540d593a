//! The socket's file: bound once, mode 0660, and the client's way to it.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::wire::local::local_client::LocalClient;
use hyper_util::rt::TokioIo;
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::{Channel, Endpoint};

/// How long the daemon may take to take a connection.
const CONNECT: Duration = Duration::from_secs(3);

/// Binds the socket. The caller holds the data folder's lock, so a file that is there is a dead agent's.
///
/// # Errors
/// `STORAGE_ERROR`, naming the path.
pub fn bind(path: &Path) -> Result<UnixListener, Cause> {
    let wrong = |error: std::io::Error| {
        Cause::new(Reason::StorageError, format!("the socket {} cannot be made: {error}", path.display()))
            .advise("check `socket` in the configuration, and that its folder exists and can be written")
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(wrong)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(wrong(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(wrong)?;
    std::fs::set_permissions(path, Permissions::from_mode(0o660)).map_err(wrong)?;
    Ok(listener)
}

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
