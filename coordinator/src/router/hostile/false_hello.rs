//! A host that claims to know events that nobody gave it. There are no certificates yet (promise 12), so what one liar
//! can do is bounded: it stops placement until a person has looked, and after that nothing but itself.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::EventId;
use dewpoint_proto::wire::agent::to_agent::Message;
use dewpoint_proto::wire::fleet;

use crate::testing::{Agent, Coordinator, Link, cause, create_request};

/// As high as a hello may count.
const HIGHEST: u64 = (i64::MAX / 2) as u64 - 1;

fn liar(last_seq: u64) -> Agent {
    Agent { last_seq, last_seq_event: EventId::fresh().to_string(), ..Agent::new() }
}

/// It says hello, and is given nothing.
async fn lies(liar: &Agent, coordinator: &Coordinator) -> Link {
    let mut link = liar.dial(coordinator).await;
    let first = link.next().await;
    assert!(matches!(first, Message::Diverged(_)), "{first:?}");
    link
}

/// A fleet of one honest host, which builds and starts what it is told to.
async fn with_an_honest_host() -> (Coordinator, fleet::EventRecord, tokio::task::JoinHandle<()>) {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let honest = Agent::new();
    let (link, _) = honest.connect(&coordinator).await;
    let obeying = tokio::spawn(honest.obey(link));
    let web = coordinator.create("web").await;
    let web = coordinator.wait_for_stage(&web.event_id, "succeeded").await;
    (coordinator, web, obeying)
}

async fn end_recovery(coordinator: &Coordinator) {
    let word = fleet::EndRecoveryRequest { reason: "that host was never ours".into() };
    coordinator.hosts().end_recovery(word).await.unwrap();
}

#[tokio::test]
async fn a_false_hello_stops_placement_until_a_person_has_looked_and_then_nothing_but_itself() {
    let (mut coordinator, web, obeying) = with_an_honest_host().await;
    let first = liar(HIGHEST - 1);
    let lying = lies(&first, &coordinator).await;
    let refused = cause(coordinator.vms().create_vm(create_request("db")).await);
    assert_eq!(refused.reason, Reason::Diverged);
    assert_eq!(refused.fields["host_id"], first.host.to_string(), "it is named: {refused:?}");
    assert!(refused.advice.contains("dewpoint host end-recovery --reason"), "{refused:?}");
    let start = fleet::VmRequest { vm: web.vm_id.clone(), ..Default::default() };
    let started = coordinator.vms().start_vm(start.clone()).await.unwrap().into_inner();
    coordinator.wait_for_stage(&started.event_id, "succeeded").await;

    end_recovery(&coordinator).await;
    let db = coordinator.create("db").await;
    coordinator.wait_for_stage(&db.event_id, "succeeded").await;
    drop(lying);

    // It says more, again and again: that is between it and a person, and no matter of the fleet's.
    let again = Agent { last_seq: HIGHEST, last_seq_event: EventId::fresh().to_string(), ..first };
    for name in ["mail", "dns"] {
        let _lying = lies(&again, &coordinator).await;
        let host = coordinator.wait_for_host(&again, |host| host.diverged.is_some()).await;
        assert!(host.recovering.is_none(), "{host:?}");
        let made = coordinator.create(name).await;
        coordinator.wait_for_stage(&made.event_id, "succeeded").await;
    }
    obeying.abort();

    // Its agent was stopped, and it is lost: it is refused by name from then on.
    coordinator.forget_heartbeats(again.host).await;
    let retire = fleet::RetireHostRequest {
        host: again.host.to_string(),
        disks_gone: false,
        reason: "it lies".into(),
    };
    coordinator.hosts().retire_host(retire).await.unwrap();
    let refused = again.dial(&coordinator).await.ended().await;
    assert_eq!(refused.reason, Reason::HostRetired, "{refused:?}");
}

/// One that tells what it has, and has nothing, is taken at its word when it dials again: nobody has to look.
#[tokio::test]
async fn a_false_hello_with_nothing_behind_it_ends_by_itself() {
    let (coordinator, _, obeying) = with_an_honest_host().await;
    let liar = liar(HIGHEST);
    let mut lying = lies(&liar, &coordinator).await;
    let asked = lying.next().await;
    assert!(matches!(asked, Message::AskAccount(_)), "{asked:?}");
    let nothing =
        dewpoint_proto::wire::agent::AccountChunk { complete: true, start_count: 1, ..Default::default() };
    lying.send(dewpoint_proto::wire::agent::from_agent::Message::Account(nothing)).await;
    lying.hang_up().await;
    let mut again = liar.dial(&coordinator).await;
    let told = again.next().await;
    assert!(matches!(told, Message::Welcome(_)), "{told:?}");
    coordinator.wait_for_host(&liar, |host| host.recovering.is_none()).await;
    let db = coordinator.create("db").await;
    coordinator.wait_for_stage(&db.event_id, "succeeded").await;
    obeying.abort();
}

/// A count that no queue reaches is no count: that session ends, and nobody notices.
#[tokio::test]
async fn a_hello_beyond_what_can_be_counted_is_refused_by_name() {
    let (coordinator, _, obeying) = with_an_honest_host().await;
    for count in [HIGHEST + 1, u64::MAX] {
        let mut link = liar(count).dial(&coordinator).await;
        let ended = link.ended().await;
        assert_eq!(ended.reason, Reason::Invalid, "{ended:?}");
    }
    coordinator.create("db").await;
    obeying.abort();
}
