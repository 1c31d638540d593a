//! A wire that dies silently: nothing is closed and nobody is told. Both ends find it within their configured times, and the
//! host goes on when there is a wire again.

use std::path::Path;

use dewpoint_tests::agent::{Agent, Link};
use dewpoint_tests::caller::Caller;
use dewpoint_tests::coordinator::{Coordinator, GRPC};
use dewpoint_tests::lab::Lab;
use dewpoint_tests::proxy::{self, State, Wire};
use dewpoint_tests::wait::{EVENT, until};

#[tokio::test]
async fn a_wire_that_dies_silently_is_found_by_both_ends_and_replaced() {
    let lab = Lab::new();
    let mut coordinator = Coordinator::new(&lab);
    append(&lab.dir().join("coordinator.toml"), "ping = \"1s\"\n");
    coordinator.start().await;
    let wire = Wire::listen(&lab, proxy::GRPC, GRPC).await;
    let mut agent = Agent::new(&lab, Link::Proxy);
    append(&agent.config(), "[link]\nsilence = \"5s\"\nreconnect_most = \"1s\"\n");
    agent.start().await;
    let caller = Caller::of(coordinator.url());
    let first = until_alive(&caller, 0).await;

    wire.set(State::HalfOpen);
    until_told(&agent.log(), "nothing was heard of the coordinator for too long").await;
    until_told(&lab.dir().join("coordinator.log"), "Silent").await;
    wire.set(State::Open);
    let second = until_alive(&caller, first).await;
    assert!(second > first, "the host goes on in another session");
}

fn append(path: &Path, text: &str) {
    let before = std::fs::read_to_string(path).unwrap();
    std::fs::write(path, before + text).unwrap();
}

async fn until_told(log: &Path, text: &str) {
    until(&format!("`{text}` is told"), EVENT, async || match std::fs::read_to_string(log) {
        Ok(log) if log.contains(text) => Ok(()),
        Ok(_) => Err("not yet".to_owned()),
        Err(error) => Err(error.to_string()),
    })
    .await;
}

/// The host's term once it is alive under a higher one.
async fn until_alive(caller: &Caller, above: u64) -> u64 {
    until("the host is alive in a new session", EVENT, async || match caller.all_hosts().await {
        Ok(hosts) => match hosts.as_slice() {
            [host] if host.liveness == "alive" && host.term > above => Ok(host.term),
            hosts => Err(format!("{hosts:?}")),
        },
        Err(cause) => Err(cause.to_string()),
    })
    .await
}
