//! Bytes that are no message, messages that were cut short, and kinds and fields from the future.

use dewpoint_proto::hostile::{FROM_THE_FUTURE, spoiled};
use dewpoint_proto::wire::agent::{self as wire, from_agent::Message, to_agent};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message as _;

use super::raw::RawLink;
use super::{message, others_are_served};
use crate::testing::{Agent, Coordinator, create_request};

fn bytes_of(message: Message) -> Vec<u8> {
    wire::FromAgent { message: Some(message) }.encode_to_vec()
}

fn message_bytes() -> impl Strategy<Value = Vec<u8>> {
    spoiled(message().prop_map(bytes_of))
}

/// A host that says so, and was welcomed.
async fn welcomed(coordinator: &Coordinator, agent: &Agent, more: &[u8]) -> RawLink {
    let mut link = RawLink::open(coordinator).await;
    let mut hello = bytes_of(Message::Hello(agent.hello()));
    hello.extend(more);
    link.send(hello).await;
    let first = link.next().await;
    assert!(matches!(first, Some(to_agent::Message::Welcome(_))), "{first:?}");
    link
}

#[test]
fn whatever_bytes_a_host_sends_the_others_are_served() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let coordinator = runtime.block_on(Coordinator::start());
    let config = ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(begins_well in prop::bool::weighted(0.8), messages in vec(message_bytes(), 1..12))| {
        runtime.block_on(async {
            let link = if begins_well {
                welcomed(&coordinator, &Agent::new(), &[]).await
            } else {
                RawLink::open(&coordinator).await
            };
            for bytes in messages {
                link.send(bytes).await;
            }
            link.hang_up().await;
        });
    });
    runtime.block_on(others_are_served(&coordinator));
}

/// A newer agent may say more than this coordinator knows: it is passed over, and the session goes on.
#[tokio::test]
async fn kinds_and_fields_from_the_future_are_passed_over_and_the_event_is_carried_out() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let mut agent = Agent::new();
    let mut link = welcomed(&coordinator, &agent, &FROM_THE_FUTURE).await;
    link.send(FROM_THE_FUTURE.to_vec()).await;
    let mut beat = bytes_of(Message::Heartbeat(crate::testing::heartbeat(8)));
    beat.extend(FROM_THE_FUTURE);
    link.send(beat).await;
    coordinator.wait_for_host(&agent, |host| host.cpus > 0 && host.liveness == "alive").await;
    let created = coordinator.vms().create_vm(create_request("web")).await.unwrap().into_inner();
    let Some(to_agent::Message::Deliver(deliver)) = link.next().await else { panic!("no delivery") };
    agent.journal(&deliver);
    link.send(bytes_of(Message::Accepted(wire::Accepted { seq: deliver.seq }))).await;
    link.send(FROM_THE_FUTURE.to_vec()).await;
    let mut report = bytes_of(Message::Report(agent.succeeded(&deliver)));
    report.extend(FROM_THE_FUTURE);
    link.send(report).await;
    coordinator.wait_for_stage(&created.event_id, "succeeded").await;
}

/// What is left of a report that was cut short is none: nothing is stored or acknowledged, and it comes again whole.
#[tokio::test]
async fn a_report_that_was_cut_short_ends_nothing_until_it_comes_whole() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let mut agent = Agent::new();
    let mut link = welcomed(&coordinator, &agent, &[]).await;
    link.send(bytes_of(Message::Heartbeat(crate::testing::heartbeat(8)))).await;
    coordinator.wait_for_host(&agent, |host| host.cpus > 0 && host.liveness == "alive").await;
    let created = coordinator.create("web").await;
    let Some(to_agent::Message::Deliver(deliver)) = link.next().await else { panic!("no delivery") };
    agent.journal(&deliver);
    link.send(bytes_of(Message::Accepted(wire::Accepted { seq: 1 }))).await;
    coordinator.wait_for_stage(&created.event_id, "accepted").await;
    let report = agent.succeeded(&deliver);
    let mut cut = bytes_of(Message::Report(report.clone()));
    cut.truncate(cut.len() - 3);
    link.send(cut).await;
    assert_eq!(link.next().await, None, "nothing is acknowledged, and the session is over");
    assert_eq!(coordinator.event(&created.event_id).await.stage, "accepted");
    let (mut link, welcome) = agent.connect(&coordinator).await;
    assert_eq!(welcome.reports_acked, 0);
    link.report(report).await;
    assert_eq!(link.ack().await, 1);
    coordinator.wait_for_stage(&created.event_id, "succeeded").await;
}
