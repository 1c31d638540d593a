//! The router as agents meet it. Promises 1, 2 and 11.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::limits;
use dewpoint_proto::wire::agent::{self as wire, from_agent, to_agent::Message};
use dewpoint_proto::wire::{event, fleet};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Server};

use super::{Router, Settings};
use crate::events::{Events, EventsConfig};
use crate::images::{self, Images};
use crate::store::failing::FailingStore;
use crate::store::sqlite::SqliteStore;
use crate::testing::{Agent, Coordinator, Link, create_request, deliver_seq, wait_until};

#[tokio::test]
async fn an_event_is_delivered_accepted_and_reported() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let mut agent = Agent::new();
    let (mut link, welcome) = agent.connect(&coordinator).await;
    assert!(welcome.term > 0 && welcome.now_ms > 0 && welcome.images_url.starts_with("http://127.0.0.1:"));

    let created = coordinator.create("web").await;
    assert_eq!((created.stage.as_str(), created.seq), ("assigned", 1));
    let deliver = link.deliver().await;
    assert_eq!((deliver.seq, deliver.term, deliver.generation), (1, welcome.term, 1));
    let body = agent.journal(&deliver);
    assert_eq!(body.event().id.to_string(), created.event_id);

    link.accept(1).await;
    coordinator.wait_for_stage(&created.event_id, "accepted").await;
    link.send(from_agent::Message::Heartbeat(wire::Heartbeat {
        window: 32,
        running_event_ids: vec![created.event_id.clone()],
        ..Default::default()
    }))
    .await;
    coordinator.wait_for_stage(&created.event_id, "running").await;
    let report = agent.succeeded(&deliver);
    link.report(report).await;
    assert_eq!(link.ack().await, 1);
    let done = coordinator.wait_for_stage(&created.event_id, "succeeded").await;
    assert_eq!(done.host_id, agent.host.to_string());
    assert_eq!(coordinator.metrics().swept.get(), 0, "nothing was left to a sweep");
}

#[tokio::test]
async fn reports_that_come_again_are_acknowledged_again_and_change_nothing() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    let created = coordinator.create("web").await;
    let deliver = link.deliver().await;
    agent.journal(&deliver);
    let report = agent.succeeded(&deliver);
    for _ in 0..3 {
        link.accept(1).await;
        link.report(report.clone()).await;
        assert_eq!(link.ack().await, 1);
    }
    let done = coordinator.event(&created.event_id).await;
    assert_eq!((done.stage.as_str(), done.contradicted_by), ("succeeded", None));
}

#[tokio::test]
async fn what_was_not_accepted_is_delivered_again_in_a_new_session_only() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let mut agent = Agent::new();
    let (mut link, first) = agent.connect(&coordinator).await;
    for name in ["one", "two", "three"] {
        coordinator.create(name).await;
    }
    let deliveries = [link.deliver().await, link.deliver().await, link.deliver().await];
    assert_eq!(deliveries.each_ref().map(|d| d.seq), [1, 2, 3]);
    agent.journal(&deliveries[0]);
    link.is_quiet().await;
    drop(link);

    let (mut link, second) = agent.connect(&coordinator).await;
    assert!(second.term > first.term);
    let again = [link.deliver().await, link.deliver().await];
    assert_eq!(again.each_ref().map(|d| (d.seq, d.term)), [(2, second.term), (3, second.term)]);
    assert_eq!(again[0].event, deliveries[1].event, "the same bytes");
    let events =
        coordinator.events().list_events(fleet::ListEventsRequest::default()).await.unwrap().into_inner();
    let stages: BTreeMap<_, _> = events.events.iter().map(|e| (e.seq, e.stage.as_str())).collect();
    assert_eq!(stages[&1], "accepted", "the hello proved it");
}

#[tokio::test]
async fn a_reconnect_in_the_middle_loses_and_doubles_nothing() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let mut agent = Agent::new();
    let mut ids = Vec::new();
    for round in 0..4 {
        let (mut link, _) = agent.connect(&coordinator).await;
        ids.push(coordinator.create(&format!("vm-{round}")).await.event_id);
        let deliver = loop {
            let deliver = link.deliver().await;
            agent.journal(&deliver);
            if deliver.seq == round + 1 {
                break deliver;
            }
        };
        match round {
            // Journaled, and the acknowledgement lost with the link.
            0 => {}
            // Accepted, not reported.
            1 => link.accept(deliver.seq).await,
            // Reported, and the link gone before the acknowledgement.
            2 => {
                link.accept(deliver.seq).await;
                let report = agent.succeeded(&deliver);
                link.report(report).await;
                coordinator.wait_for_stage(&ids[2], "succeeded").await;
            }
            _ => {
                let report = agent.succeeded(&deliver);
                link.report(report).await;
                assert_eq!(link.ack().await, 2);
            }
        }
        drop(link);
    }
    for (id, stage) in ids.iter().zip(["accepted", "accepted", "succeeded", "succeeded"]) {
        assert_eq!(coordinator.event(id).await.stage, stage);
    }
}

#[tokio::test]
async fn no_more_is_in_flight_than_the_window_and_the_host_allow() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    let most = u64::from(limits::DELIVERY_WINDOW);
    for number in 0..most + 4 {
        coordinator.create(&format!("vm-{number}")).await;
    }
    for seq in 1..=most {
        assert_eq!(link.deliver().await.seq, seq);
    }
    link.is_quiet().await;
    link.accept(2).await;
    assert_eq!((link.deliver().await.seq, link.deliver().await.seq), (most + 1, most + 2));
    link.is_quiet().await;

    // Withheld: nothing more comes; taken again: what was in flight comes again.
    link.heartbeat(0).await;
    link.is_quiet().await;
    link.heartbeat(2).await;
    assert_eq!((link.deliver().await.seq, link.deliver().await.seq), (3, 4));
    link.is_quiet().await;
}

#[tokio::test]
async fn what_is_not_accepted_for_long_is_delivered_again() {
    let coordinator = Coordinator::with(|settings| settings.patience = Duration::from_millis(300)).await;
    coordinator.image("tiny").await;
    let agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    coordinator.create("web").await;
    let (first, again) = (link.deliver().await, link.deliver().await);
    assert_eq!((first.seq, first.event), (again.seq, again.event));
    assert!(coordinator.metrics().resends.get() > 0);
    link.accept(1).await;
}

#[tokio::test]
async fn a_session_from_which_nothing_comes_is_ended_and_its_host_becomes_late() {
    let coordinator = Coordinator::with(|settings| settings.ping = Duration::from_millis(100)).await;
    let agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    link.goes_silent();
    assert_eq!(link.ended().await.reason, Reason::Unreachable);
    assert_eq!(coordinator.wait_for_host(&agent, |host| host.liveness == "late").await.vms, 0);
}

/// Promise 8: an agent that does not read costs a bounded queue for a bounded time.
#[tokio::test]
async fn an_agent_that_does_not_read_loses_its_session() {
    let coordinator = Coordinator::with(|settings| settings.patience = Duration::from_millis(300)).await;
    coordinator.image("tiny").await;
    let agent = Agent::new();
    let (link, _) = agent.connect(&coordinator).await;
    // Its ends stay open, with nobody who reads.
    let _unread = link;
    let metrics = coordinator.metrics();
    for number in 0..limits::DELIVERY_WINDOW * 2 {
        // On a busy machine it is given up before all are asked for, and its host is late soon after.
        if metrics.stuck.get() > 0 {
            break;
        }
        let user_data = vec![b'x'; limits::USER_DATA_BYTES].into();
        let request = fleet::CreateVmRequest { user_data, ..create_request(&format!("vm-{number}")) };
        coordinator.vms().create_vm(request).await.unwrap();
    }
    wait_until("the session is given up", async || (metrics.stuck.get() == 1).then_some(())).await;
    let (mut next, _) = agent.connect(&coordinator).await;
    assert_eq!((next.deliver().await.seq, metrics.clashes.get()), (1, 0));
}

#[tokio::test]
async fn acceptance_of_what_was_never_sent_ends_the_session() {
    let coordinator = Coordinator::start().await;
    let agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    link.accept(7).await;
    assert_eq!(link.ended().await.reason, Reason::Invalid);
}

#[tokio::test]
async fn a_stream_without_hello_is_refused() {
    let coordinator = Coordinator::start().await;
    let mut link = Link::open(&coordinator).await;
    link.accept(1).await;
    assert_eq!(link.ended().await.reason, Reason::Invalid);
    let mut link = Link::open(&coordinator).await;
    link.send(from_agent::Message::Hello(wire::Hello { host_id: "../../etc".into(), ..Default::default() }))
        .await;
    assert_eq!(link.ended().await.reason, Reason::Invalid);
}

#[tokio::test]
async fn two_agents_with_one_host_id_are_named_and_the_first_stays() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    // Answering its pings takes a reader.
    let (told, mut deliveries) = tokio::sync::mpsc::channel(8);
    let reader = tokio::spawn(async move {
        while let Ok(message) = link.take().await {
            if let Some(seq) = deliver_seq(&message) {
                told.send(seq).await.unwrap();
            }
        }
    });
    let clash = agent.dial(&coordinator).await.ended().await;
    assert!(clash.reason == Reason::Diverged && clash.text.contains("two agents"), "{clash:?}");
    assert_eq!(coordinator.metrics().clashes.get(), 1);
    coordinator.create("web").await;
    assert_eq!(deliveries.recv().await, Some(1), "the first has the host");
    reader.abort();
}

#[tokio::test]
async fn a_session_that_fails_a_ping_is_displaced_and_its_term_is_lost() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let agent = Agent::new();
    let (mut old, first) = agent.connect(&coordinator).await;
    old.goes_silent();
    let (mut new, second) = agent.connect(&coordinator).await;
    assert!(second.term > first.term);
    coordinator.create("web").await;
    assert_eq!(new.deliver().await.seq, 1);
    assert_eq!(old.ended().await.reason, Reason::TermLost);
}

#[tokio::test]
async fn a_host_whose_journal_is_another_is_told_and_delivered_nothing() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    let created = coordinator.create("web").await;
    let deliver = link.deliver().await;
    agent.journal(&deliver);
    link.accept(1).await;
    coordinator.wait_for_stage(&created.event_id, "accepted").await;
    drop(link);

    let lost = Agent { host: agent.host, ..Agent::new() };
    let mut link = lost.dial(&coordinator).await;
    let Message::Diverged(diverged) = link.next().await else { panic!("not told that it diverged") };
    assert!(!diverged.cause.unwrap().text.is_empty());
    assert!(matches!(link.next().await, Message::AskAccount(_)), "it is asked what it has");
    link.heartbeat(32).await;
    let host = coordinator.wait_for_host(&agent, |host| host.liveness == "diverged").await;
    assert!(host.diverged.is_some());
    link.is_quiet().await;
}

#[tokio::test]
async fn a_held_host_is_told_and_delivered_nothing_until_it_is_released() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let agent = Agent::new();
    let (mut link, welcome) = agent.connect(&coordinator).await;
    assert!(!welcome.hold);
    let hold = |hold, host: &str| fleet::SetHoldRequest { host: host.into(), hold, reason: "careful".into() };
    coordinator.hosts().set_hold(hold(true, &agent.host.to_string())).await.unwrap();
    let Message::Hold(told) = link.next().await else { panic!("not told to hold") };
    assert!(told.hold && told.reason == "careful");
    drop(link);
    let (mut link, welcome) = agent.connect(&coordinator).await;
    assert!(welcome.hold, "the welcome says it as well");
    coordinator.hosts().set_hold(hold(false, &agent.host.to_string())).await.unwrap();
    let Message::Hold(told) = link.next().await else { panic!("not released") };
    assert!(!told.hold);
    coordinator.create("web").await;
    assert_eq!(link.deliver().await.seq, 1);

    coordinator.hosts().set_hold(hold(true, "")).await.unwrap();
    let Message::Hold(told) = link.next().await else { panic!("the fleet's hold was not told") };
    assert!(told.hold);
}

#[tokio::test]
async fn a_hold_of_the_fleet_survives_a_restart_and_stops_what_was_queued() {
    let mut coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let agent = Agent::new();
    let (link, _) = agent.connect(&coordinator).await;
    let created = coordinator.create("web").await;
    drop(link);
    let hold = |hold| fleet::SetHoldRequest { host: String::new(), hold, reason: "fire drill".into() };
    coordinator.hosts().set_hold(hold(true)).await.unwrap();
    coordinator.kill_and_open().await;

    let (mut link, welcome) = agent.connect(&coordinator).await;
    assert!(welcome.hold, "the welcome says it");
    let host = coordinator.wait_for_host(&agent, |host| host.held).await;
    assert_eq!(host.hold_reason, "fire drill");
    link.is_quiet().await;
    assert_eq!(
        coordinator.event(&created.event_id).await.waiting_for,
        format!("a person to release {}", host.hostname)
    );
    assert_eq!(
        crate::testing::reason(coordinator.vms().create_vm(create_request("db")).await),
        Reason::NoCapacity
    );
    coordinator.hosts().set_hold(hold(false)).await.unwrap();
    let Message::Hold(told) = link.next().await else { panic!("not released") };
    assert!(!told.hold);
    assert_eq!(link.deliver().await.seq, 1);
}

#[tokio::test]
async fn a_host_that_only_observes_is_shown_and_gets_nothing() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let agent = Agent { observe_only: true, ..Agent::new() };
    let mut link = agent.dial(&coordinator).await;
    let Message::Welcome(_) = link.next().await else { panic!("no welcome") };
    coordinator.wait_for_host(&agent, |host| host.observe_only).await;
    link.observes(8).await;
    coordinator.wait_for_host(&agent, |host| host.observe_only && host.cpus > 0).await;
    let host_id = agent.host.to_string();
    for only in ["", &host_id] {
        let request = fleet::CreateVmRequest { host_id: only.to_owned(), ..create_request("web") };
        let refused = crate::testing::cause(coordinator.vms().create_vm(request).await);
        assert_eq!(refused.reason, Reason::NoCapacity);
        assert!(refused.text.contains("observe"), "{refused:?}");
    }
    // Told otherwise, it is a host like any other.
    link.heartbeat(8).await;
    coordinator.wait_for_host(&agent, |host| !host.observe_only).await;
    coordinator.create("web").await;
    link.deliver().await;
}

#[tokio::test]
async fn vm_states_come_up_with_heartbeats_and_inventories() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    let created = coordinator.create("web").await;
    let deliver = link.deliver().await;
    let report = agent.succeeded(&deliver);
    link.accept(1).await;
    let state = |power: event::Power| event::VmState {
        power: power.into(),
        as_of_report_seq: 1,
        ..report.vm.clone().unwrap()
    };
    link.report(report.clone()).await;
    link.ack().await;
    let power_is = async |power: event::Power| {
        wait_until("the VM's power is seen", async || {
            let request = fleet::GetVmRequest { vm: created.vm_id.clone() };
            let vm = coordinator.vms().get_vm(request).await.unwrap().into_inner();
            (vm.observed?.power == i32::from(power)).then_some(())
        })
        .await;
    };
    power_is(event::Power::Running).await;
    link.send(from_agent::Message::Heartbeat(wire::Heartbeat {
        window: 32,
        changed: vec![state(event::Power::Crashed)],
        ..Default::default()
    }))
    .await;
    power_is(event::Power::Crashed).await;
    for (start_count, power) in [(99, event::Power::Paused), (1, event::Power::Off)] {
        link.send(from_agent::Message::Inventory(wire::InventoryChunk {
            start_count,
            inventory: 1,
            complete: true,
            vms: vec![state(power)],
        }))
        .await;
    }
    power_is(event::Power::Off).await;
}

/// Promise 1: the coordinator is killed at every transition of an event, and the event goes on from there.
#[tokio::test]
async fn a_coordinator_that_is_killed_at_each_transition_goes_on() {
    let mut coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let mut agent = Agent::new();
    let (link, _) = agent.connect(&coordinator).await;
    let request = fleet::CreateVmRequest {
        options: Some(fleet::EventOptions {
            event_id: dewpoint_proto::ids::EventId::fresh().to_string(),
            ..Default::default()
        }),
        ..create_request("web")
    };
    let created = coordinator.vms().create_vm(request.clone()).await.unwrap().into_inner();
    let id = created.event_id.clone();
    drop(link);

    // Assigned, and answered to the caller.
    coordinator.kill_and_open().await;
    assert_eq!(coordinator.event(&id).await.stage, "assigned");
    let again = coordinator.vms().create_vm(request).await.unwrap().into_inner();
    assert_eq!((again.event_id, again.vm_id, again.seq), (id.clone(), created.vm_id.clone(), 1));

    // Delivered, and not accepted.
    let (mut link, _) = agent.connect(&coordinator).await;
    let first = link.deliver().await;
    coordinator.kill_and_open().await;
    let (mut link, _) = agent.connect(&coordinator).await;
    let deliver = link.deliver().await;
    assert_eq!((deliver.seq, &deliver.event), (1, &first.event));
    agent.journal(&deliver);

    // Accepted.
    link.accept(1).await;
    coordinator.wait_for_stage(&id, "accepted").await;
    coordinator.kill_and_open().await;
    assert_eq!(coordinator.event(&id).await.stage, "accepted");
    let (mut link, _) = agent.connect(&coordinator).await;

    // Reported; the acknowledgement may be lost.
    let report = agent.succeeded(&deliver);
    link.report(report.clone()).await;
    coordinator.wait_for_stage(&id, "succeeded").await;
    coordinator.kill_and_open().await;
    assert_eq!(coordinator.event(&id).await.stage, "succeeded");
    let (mut link, welcome) = agent.connect(&coordinator).await;
    assert_eq!(welcome.reports_acked, 1);
    link.report(report).await;
    assert_eq!(link.ack().await, 1);
    link.is_quiet().await;
    let host = coordinator.wait_for_host(&agent, |_| true).await;
    assert_eq!((host.vms, host.claimed_vcpus, host.last_seq), (1, 1, 1));
}

#[tokio::test]
async fn a_coordinator_that_stops_ends_its_sessions_and_says_so() {
    let coordinator = Coordinator::start().await;
    let agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    let stopping = tokio::spawn(coordinator.stop());
    assert_eq!(link.ended().await.reason, Reason::Unreachable);
    drop(link);
    stopping.await.unwrap();
}

/// A VM's state is told when it changes, not again: the inventory of a new session brings what could not be stored.
#[tokio::test]
async fn a_heartbeat_that_cannot_be_stored_ends_the_session() {
    let folder = tempfile::Builder::new().prefix("dewpoint-router-").tempdir().unwrap();
    let store = Arc::new(FailingStore::whole(SqliteStore::open(&folder.path().join("c.db")).unwrap()));
    let images = Images::open(images::Settings::at(folder.path().join("images"))).unwrap();
    let stop = CancellationToken::new();
    let _stop = stop.clone().drop_guard();
    let events = Events::start(Arc::clone(&store) as _, EventsConfig::default(), stop.clone()).await.unwrap();
    let settings = Settings::with_images_at("http://127.0.0.1:1".into());
    let router = Router::new(events, images, settings, Arc::default(), stop.clone());
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}", incoming.local_addr().unwrap());
    let server = Server::builder().add_service(router.service());
    tokio::spawn(server.serve_with_incoming_shutdown(incoming, stop.cancelled_owned()));
    let channel = Channel::from_shared(url).unwrap().connect_lazy();

    let agent = Agent::new();
    let mut link = agent.dial_over(channel.clone()).await;
    assert!(matches!(link.next().await, Message::Welcome(_)));
    store.set_broken(true);
    link.heartbeat(32).await;
    assert_eq!(link.ended().await.reason, Reason::JournalError);
    store.set_broken(false);
    let mut link = agent.dial_over(channel).await;
    assert!(matches!(link.next().await, Message::Welcome(_)));
    link.heartbeat(32).await;
    link.is_quiet().await;
}
