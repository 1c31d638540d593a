//! How the coordinator is reached: where, and whether plaintext is allowed there.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use dewpoint_proto::cause::{Cause, Reason, shortened};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

/// Opens a connection.
#[async_trait]
pub trait Dial: Send + Sync + 'static {
    /// One connection, within the link's deadline.
    ///
    /// # Errors
    /// `UNREACHABLE`, with what the system said.
    async fn dial(&self) -> Result<Channel, Cause>;
}

/// Whether plaintext may leave this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// On loopback and Unix sockets alone.
    Local,
    /// Anywhere: `--insecure`.
    Anywhere,
}

/// A coordinator's address: `http://HOST:PORT` or `unix:/PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinator(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp(Uri),
    Unix(PathBuf),
}

impl Coordinator {
    /// Parses an address.
    ///
    /// # Errors
    /// `INVALID`; `PLAINTEXT_REFUSED` beyond loopback without `--insecure`.
    pub fn parse(text: &str, plaintext: Plaintext) -> Result<Self, Cause> {
        let invalid = || {
            Cause::new(Reason::Invalid, format!("`{}` is not a coordinator's address", shortened(text)))
                .advise("write it as http://HOST:PORT or unix:/PATH")
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path);
            return if path.is_absolute() { Ok(Self(Place::Unix(path))) } else { Err(invalid()) };
        }
        let uri: Uri = text.parse().map_err(|_| invalid())?;
        let host = uri.host().ok_or_else(invalid)?;
        let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
        if uri.scheme_str() != Some("http") || uri.port_u16().is_none() || !bare {
            return Err(invalid());
        }
        if plaintext == Plaintext::Local && !is_loopback(host) {
            return Err(Cause::new(
                Reason::PlaintextRefused,
                format!("{} is not on this host, and the connection would not be encrypted", shortened(host)),
            )
            .advise("give --insecure only on a network that you trust wholly"));
        }
        Ok(Self(Place::Tcp(uri)))
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[async_trait]
impl Dial for Coordinator {
    async fn dial(&self) -> Result<Channel, Cause> {
        match &self.0 {
            Place::Tcp(uri) => kept_alive(Endpoint::from(uri.clone())).connect().await,
            Place::Unix(path) => {
                let path = path.clone();
                // The URI only fills the request's authority.
                kept_alive(Endpoint::from_static("http://localhost"))
                    .connect_with_connector(tower::service_fn(move |_: Uri| {
                        let path = path.clone();
                        async move { UnixStream::connect(path).await.map(TokioIo::new) }
                    }))
                    .await
            }
        }
        .map_err(|error| unreachable(&error))
    }
}

/// A connection that says by itself when the other side is gone.
pub(super) fn kept_alive(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(Duration::from_secs(5))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .keep_alive_while_idle(true)
}

fn unreachable(error: &tonic::transport::Error) -> Cause {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    Cause::new(Reason::Unreachable, format!("the coordinator cannot be reached: {text}")).advise(
        "check that it runs, and the address in the agent's configuration; the agent tries again by itself",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plaintext_stays_on_this_host_unless_told_otherwise() {
        for local in
            ["http://127.0.0.1:7710", "http://[::1]:7710", "http://localhost:7710/", "unix:/run/x.sock"]
        {
            Coordinator::parse(local, Plaintext::Local).unwrap();
        }
        for far in ["http://192.0.2.7:7710", "http://coordinator:7710", "http://localhost.evil.example:1"] {
            let refused = Coordinator::parse(far, Plaintext::Local).unwrap_err();
            assert_eq!(refused.reason, Reason::PlaintextRefused, "{far}");
            Coordinator::parse(far, Plaintext::Anywhere).unwrap();
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for wrong in
            ["", "127.0.0.1:1", "https://127.0.0.1:1", "http://127.0.0.1", "http://127.0.0.1:1/x", "unix:x"]
        {
            let refused = Coordinator::parse(wrong, Plaintext::Anywhere).unwrap_err();
            assert_eq!(refused.reason, Reason::Invalid, "{wrong}");
        }
    }
}
