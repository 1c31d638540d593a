//! A fleet that dials at once: everyone is matched, in turn.

use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::wire::agent::to_agent::Message;
use futures::future::join_all;

use crate::testing::{Agent, Coordinator, wait_until};

#[tokio::test]
async fn a_fleet_that_dials_at_once_is_matched_in_turn_and_nobody_is_starved() {
    let coordinator = Coordinator::with(|settings| {
        settings.handshakes = 1;
        settings.clash = Duration::from_millis(500);
    })
    .await;
    let coordinator = Arc::new(coordinator);
    let agents: Vec<_> = (0..60).map(|_| Agent::new()).collect();
    let dialled = join_all(agents.iter().map(|agent| agent.dial(&coordinator))).await;
    let welcomed = join_all(dialled.into_iter().map(async |mut link| {
        let told = link.next().await;
        assert!(matches!(told, Message::Welcome(_)), "{told:?}");
        link
    }))
    .await;
    assert_eq!((welcomed.len(), coordinator.metrics().sessions.get()), (60, 60));
}

/// What comes over a dead wire is nothing: the session is ended, counted, and its place is free.
#[tokio::test]
async fn a_session_that_is_silent_for_three_pings_is_ended_and_counted() {
    let coordinator = Coordinator::with(|settings| settings.ping = Duration::from_millis(100)).await;
    let agent = Agent::new();
    let mut link = agent.dial(&coordinator).await;
    assert!(matches!(link.next().await, Message::Welcome(_)));
    link.goes_silent();
    let metrics = coordinator.metrics();
    wait_until("the silence is noticed", async || (metrics.silent.get() == 1).then_some(())).await;
    let mut next = agent.dial(&coordinator).await;
    assert!(matches!(next.next().await, Message::Welcome(_)), "without a clash");
    assert_eq!(metrics.clashes.get(), 0);
}
