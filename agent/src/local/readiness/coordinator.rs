//! The coordinator, by a connection that says nothing: that a way to it is open. The agent itself listens on no port.

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{Judged, good, note};
use crate::config::Config;

const DEADLINE: Duration = Duration::from_secs(5);

pub(super) async fn check(config: &Config) -> Judged {
    let Some(url) = config.coordinator.as_deref() else {
        return good("none configured: the host works alone; no port is listened on");
    };
    let Some(address) = address(url) else {
        return note(format!("{url} names no host and port"), "set `coordinator` to http://HOST:PORT");
    };
    let remedy = "is it up (`systemctl status dewpoint-coordinator` there), does it listen beyond loopback, is the port open?";
    match timeout(DEADLINE, TcpStream::connect(address)).await {
        Ok(Ok(_)) => good(format!("{address} takes connections; no port is listened on here")),
        Ok(Err(error)) => note(format!("{address} is not reached ({error}); the agent tries on"), remedy),
        Err(_) => note(
            format!("{address} did not answer within {} s; the agent tries on", DEADLINE.as_secs()),
            remedy,
        ),
    }
}

fn address(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("http://")?;
    let address = rest.split('/').next()?;
    address.contains(':').then_some(address)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[tokio::test]
    async fn the_way_is_tried() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = format!("http://{}", listener.local_addr().unwrap());
        let verdict = |url: &str| {
            let config = Config { coordinator: Some(url.to_owned()), ..Config::default() };
            async move { check(&config).await.0 }
        };
        assert_eq!(verdict(&there).await, Verdict::Good);
        drop(listener);
        assert_eq!(verdict(&there).await, Verdict::Note);
        assert_eq!(check(&Config::default()).await.0, Verdict::Good);
    }
}
