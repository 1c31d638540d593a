//! Every transition of an event that is not in its common way: the coordinator is killed right after it, and it stands.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::EventId;
use dewpoint_proto::wire::agent::{
    AccountChunk, Deliver, Heartbeat, Reconcile, Report, from_agent, to_agent,
};
use dewpoint_proto::wire::event::outcome::End;
use dewpoint_proto::wire::{event, fleet};

use crate::process::BOUND;
use crate::sigkill::agent::{Agent, Link};
use crate::sigkill::{Coordinator, create};

fn waiting(id: EventId) -> fleet::CreateVmRequest {
    fleet::CreateVmRequest { wait_for_capacity: true, ..create(id, "web") }
}

fn cause() -> event::Cause {
    Cause::new(Reason::DiskFull, "no room").into()
}

/// The report of a create of which nothing is left.
fn ended(agent: &mut Agent, deliver: &Deliver, end: End) -> Report {
    let report = agent.succeeded(deliver);
    let vm = report.vm.map(|vm| event::VmState { gone: true, power: event::Power::Absent.into(), ..vm });
    Report { vm, outcome: Some(event::Outcome { end: Some(end) }), ..report }
}

/// A heartbeat that says that it has begun: what progress alone says is shown, and not kept.
async fn running(link: &mut Link, id: &str) {
    let beat =
        Heartbeat { count: 2, window: 16, running_event_ids: vec![id.to_owned()], ..Default::default() };
    link.send(from_agent::Message::Heartbeat(beat)).await;
}

#[tokio::test]
async fn killed_with_an_event_pending_it_is_placed_once_a_host_is_there() {
    let mut coordinator = Coordinator::start();
    coordinator.image().await;
    let id = EventId::fresh();
    let asked = coordinator.vms().create_vm(waiting(id)).await.unwrap().into_inner();
    assert_eq!(asked.stage, "pending");
    coordinator.kill_and_open();

    let again = coordinator.vms().create_vm(waiting(id)).await.unwrap().into_inner();
    assert_eq!((again.stage.as_str(), &again.vm_id), ("pending", &asked.vm_id));
    assert_eq!(again.pending.map(|cause| cause.reason).as_deref(), Some("NO_CAPACITY"), "and why");
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    let deliver = link.deliver().await;
    assert_eq!((deliver.seq, agent.journal(&deliver).event().id), (1, id));
    coordinator.kill_and_open();
    assert_eq!(coordinator.event(&asked.event_id).await.seq, 1, "placed once");
}

#[tokio::test]
async fn killed_after_a_pending_event_was_cancelled_it_is_never_placed() {
    let mut coordinator = Coordinator::start();
    coordinator.image().await;
    let asked = coordinator.vms().create_vm(waiting(EventId::fresh())).await.unwrap().into_inner();
    let cancel = fleet::CancelEventRequest { event_id: asked.event_id.clone(), ..Default::default() };
    coordinator.events().cancel_event(cancel).await.unwrap();
    coordinator.kill_and_open();

    assert_eq!(coordinator.event(&asked.event_id).await.stage, "cancelled");
    let (mut link, _) = Agent::new().connect(&coordinator).await;
    link.is_quiet().await;
}

#[tokio::test]
async fn killed_while_an_event_runs_it_runs_on_and_is_not_delivered_again() {
    let mut coordinator = Coordinator::start();
    coordinator.image().await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    let asked = coordinator.vms().create_vm(create(EventId::fresh(), "web")).await.unwrap().into_inner();
    let deliver = link.deliver().await;
    agent.journal(&deliver);
    link.accept(1).await;
    running(&mut link, &asked.event_id).await;
    coordinator.wait_for_stage(&asked.event_id, "running").await;
    coordinator.kill_and_open();

    let (mut link, _) = agent.connect(&coordinator).await;
    link.is_quiet().await;
    let stage = coordinator.event(&asked.event_id).await.stage;
    assert_eq!(stage, "running");
    let report = agent.succeeded(&deliver);
    link.report(report).await;
    assert_eq!(link.ack().await, 1);
    coordinator.kill_and_open();
    assert_eq!(coordinator.event(&asked.event_id).await.stage, "succeeded");
}

#[tokio::test]
async fn killed_after_each_end_that_a_host_reports_it_stands_and_nothing_is_claimed() {
    let mut coordinator = Coordinator::start();
    coordinator.image().await;
    let mut agent = Agent::new();
    let ends = [
        ("failed", End::Failed(cause())),
        ("refused", End::Refused(cause())),
        ("expired", End::Expired(cause())),
        ("cancelled", End::Cancelled(cause())),
    ];
    for (at, (stage, end)) in ends.into_iter().enumerate() {
        let (mut link, _) = agent.connect(&coordinator).await;
        let name = format!("web-{at}");
        let asked = coordinator.vms().create_vm(create(EventId::fresh(), &name)).await.unwrap().into_inner();
        let deliver = link.deliver().await;
        agent.journal(&deliver);
        link.accept(deliver.seq).await;
        let report = ended(&mut agent, &deliver, end);
        link.report(report.clone()).await;
        assert_eq!(link.ack().await, report.report_seq);
        coordinator.kill_and_open();

        let found = coordinator.event(&asked.event_id).await;
        assert_eq!(found.stage, stage);
        assert!(found.outcome.is_some_and(|outcome| outcome.end.is_some()), "with its cause");
        let (mut link, welcome) = agent.connect(&coordinator).await;
        assert_eq!(welcome.reports_acked, report.report_seq, "{stage}");
        link.report(report).await;
        link.ack().await;
        let host = coordinator.wait_for_host(&agent, |_| true).await;
        assert_eq!((host.vms, host.claimed_vcpus), (0, 0), "{stage}: nothing is left of it");
    }
}

/// The session of a host whose journal was lost, and with it what became of an event.
async fn diverged(coordinator: &Coordinator, agent: &Agent) -> Link {
    let mut link = agent.dial(coordinator).await;
    let first = link.next().await;
    assert!(matches!(first, to_agent::Message::Diverged(_)), "{first:?}");
    link
}

/// As a person does it: looks at the plan, and has just that carried out.
async fn reconcile(coordinator: &Coordinator, agent: &Agent, mut link: Link) {
    assert!(matches!(link.next().await, to_agent::Message::AskAccount(_)));
    let nothing = AccountChunk { start_count: 1, complete: true, ..AccountChunk::default() };
    link.send(from_agent::Message::Account(nothing)).await;
    let mut hosts = fleet::hosts_client::HostsClient::new(coordinator.channel.clone());
    let asked = fleet::PlanReconcileRequest { host: agent.host.to_string() };
    // The account was sent before; it is there once a plan is.
    let planning = async {
        loop {
            match hosts.plan_reconcile(asked.clone()).await {
                Ok(plan) => return plan.into_inner(),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    let plan = tokio::time::timeout(BOUND, planning).await.expect("there is no plan");
    let order =
        fleet::ReconcileHostRequest { host: asked.host, digest: plan.digest, reason: "a new disk".into() };
    hosts.reconcile_host(order).await.unwrap();
}

async fn told_of_its_queue(link: &mut Link) -> Reconcile {
    match link.next().await {
        to_agent::Message::Reconcile(queue) => queue,
        other => panic!("{other:?} instead of a new queue"),
    }
}

#[tokio::test]
async fn killed_after_an_event_became_unknown_it_stands_until_a_person_says_how_it_ended() {
    let mut coordinator = Coordinator::start();
    coordinator.image().await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    let asked = coordinator.vms().create_vm(create(EventId::fresh(), "web")).await.unwrap().into_inner();
    agent.journal(&link.deliver().await);
    link.accept(1).await;
    coordinator.wait_for_stage(&asked.event_id, "accepted").await;
    let lost = Agent { host: agent.host, ..Agent::new() };
    drop(diverged(&coordinator, &lost).await);
    coordinator.kill_and_open();

    assert_eq!(coordinator.event(&asked.event_id).await.stage, "accepted", "nobody has said otherwise");
    let link = diverged(&coordinator, &lost).await;
    reconcile(&coordinator, &lost, link).await;
    coordinator.kill_and_open();

    let found = coordinator.event(&asked.event_id).await;
    assert_eq!(found.stage, "unknown");
    let mut link = diverged(&coordinator, &lost).await;
    let queue = told_of_its_queue(&mut link).await;
    coordinator.kill_and_open();

    let renewed = Agent {
        journal: queue.journal_id.parse().unwrap(),
        last_seq: queue.base_seq,
        last_seq_event: queue.base_event_id,
        ..lost
    };
    let (mut link, _) = renewed.connect(&coordinator).await;
    link.is_quiet().await;
    let host = coordinator.wait_for_host(&renewed, |host| host.diverged.is_none()).await;
    assert_eq!(host.vms, 1, "what may be there is claimed");
    assert_eq!(coordinator.event(&asked.event_id).await.stage, "unknown");
    let force = fleet::ForceEventRequest {
        event_id: asked.event_id.clone(),
        end: "failed".into(),
        reason: "its disk is gone".into(),
    };
    coordinator.events().force_event(force).await.unwrap();
    coordinator.kill_and_open();

    let forced = coordinator.event(&asked.event_id).await;
    assert_eq!((forced.stage.as_str(), forced.forced.is_some()), ("failed", true));
}
