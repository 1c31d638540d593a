//! `reconnect_storm_1000`: a coordinator with 1,000 hosts is killed and started again: until all are back, against the
//! first one back.
//!
//! The hosts are light: sessions in this process, each with a connection of its own, that speak the real protocol over
//! loopback and back off as the agent does. They know no events, so each hello matches.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dewpoint_agent::link::backoff::{Bounds, full_jitter};
use dewpoint_proto::ids::{HostId, JournalId};
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::agent_link_client::AgentLinkClient;
use dewpoint_proto::wire::agent::{from_agent, to_agent};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::Effort;
use super::figure::{Pair, Target, ms, print};
use crate::coordinator::Coordinator;
use crate::lab::Lab;

/// Longer than any storm lasts.
const PATIENCE: Duration = Duration::from_secs(120);

/// Measures and prints it.
///
/// # Panics
/// When not all come back.
pub async fn run(effort: Effort, lab: &Lab) {
    const HOSTS: usize = 1000;
    let mut coordinator = Coordinator::new(lab);
    coordinator.start().await;
    let back = Arc::new(watch::Sender::new(0));
    let mut fleet = JoinSet::new();
    for _ in 0..HOSTS {
        fleet.spawn(keep_up(coordinator.url().to_owned(), Arc::clone(&back)));
    }
    until(&back, HOSTS).await;
    let mut pairs = Vec::new();
    for _ in 0..effort.of(5, 25) {
        coordinator.kill();
        until_at_most(&back, 0).await;
        let began = Instant::now();
        coordinator.start().await;
        until(&back, 1).await;
        let first = began.elapsed();
        until(&back, HOSTS).await;
        pairs.push(Pair { value: ms(began.elapsed()), baseline: ms(first) });
    }
    print("reconnect_storm_1000", "ms", Target::AtMost(20.0), &pairs);
    fleet.shutdown().await;
}

async fn until(back: &watch::Sender<usize>, count: usize) {
    let mut seen = back.subscribe();
    let all = tokio::time::timeout(PATIENCE, seen.wait_for(|back| *back >= count));
    assert!(all.await.is_ok_and(|seen| seen.is_ok()), "{} of {count} hosts are back", *back.borrow());
}

async fn until_at_most(back: &watch::Sender<usize>, count: usize) {
    let mut seen = back.subscribe();
    let gone = tokio::time::timeout(PATIENCE, seen.wait_for(|back| *back <= count));
    assert!(gone.await.is_ok_and(|seen| seen.is_ok()), "{} hosts have not noticed", *back.borrow());
}

/// One host: a session after the other, with the agent's own back-off between.
async fn keep_up(url: String, back: Arc<watch::Sender<usize>>) {
    let (host, journal) = (HostId::fresh(), JournalId::fresh());
    let mut attempt = 0;
    loop {
        let hello = wire::Hello {
            protocol: 2,
            host_id: host.to_string(),
            journal_id: journal.to_string(),
            start_count: 1,
            agent_version: "bench".to_owned(),
            hostname: "bench".to_owned(),
            ..wire::Hello::default()
        };
        // A session that was welcomed starts the back-off anew, as one that lasted does.
        attempt = if session(&url, hello, &back).await.is_some() { 0 } else { attempt + 1 };
        tokio::time::sleep(full_jitter(Bounds::default(), attempt, rand::random())).await;
    }
}

/// Until it ends; none: it was not welcomed.
async fn session(url: &str, hello: wire::Hello, back: &watch::Sender<usize>) -> Option<()> {
    let endpoint = Endpoint::from_shared(url.to_owned()).ok()?.connect_timeout(Duration::from_secs(5));
    let channel = endpoint.connect().await.ok()?;
    let (say, said) = mpsc::channel(8);
    let message = |message| wire::FromAgent { message: Some(message) };
    say.try_send(message(from_agent::Message::Hello(hello))).ok()?;
    let mut heard = AgentLinkClient::new(channel).connect(ReceiverStream::new(said)).await.ok()?.into_inner();
    let first = heard.message().await.ok()??;
    let Some(to_agent::Message::Welcome(_)) = first.message else { return None };
    let beat = wire::Heartbeat { count: 1, window: 32, ..wire::Heartbeat::default() };
    say.send(message(from_agent::Message::Heartbeat(beat))).await.ok()?;
    back.send_modify(|back| *back += 1);
    while let Ok(Some(told)) = heard.message().await {
        if let Some(to_agent::Message::Ping(ping)) = told.message
            && say.send(message(from_agent::Message::Pong(wire::Pong { nonce: ping.nonce }))).await.is_err()
        {
            break;
        }
    }
    back.send_modify(|back| *back -= 1);
    Some(())
}
