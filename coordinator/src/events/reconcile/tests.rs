//! Both logs and a person, over the wire: the host's side is a scripted agent.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::JournalId;
use dewpoint_proto::wire::agent::{from_agent, to_agent::Message};
use dewpoint_proto::wire::{agent as wire, event, fleet};

use crate::testing::{Agent, Coordinator, Link, cause, reason, wait_until};

/// A host with one VM, and one event under way; what its agent reported last.
async fn host_with_a_vm(coordinator: &Coordinator) -> (Agent, fleet::EventRecord, fleet::EventRecord) {
    coordinator.image("tiny").await;
    let mut agent = Agent { machine: "one".into(), ..Agent::new() };
    let (mut link, _) = agent.connect(coordinator).await;
    let web = coordinator.create("web").await;
    let deliver = link.deliver().await;
    agent.journal(&deliver);
    link.accept(1).await;
    link.report(agent.succeeded(&deliver)).await;
    link.ack().await;
    let half = coordinator.create("half").await;
    let deliver = link.deliver().await;
    agent.journal(&deliver);
    link.accept(2).await;
    coordinator.wait_for_stage(&half.event_id, "accepted").await;
    (agent, web, half)
}

fn lost(agent: &Agent) -> Agent {
    Agent { host: agent.host, machine: agent.machine.clone(), ..Agent::new() }
}

/// What the coordinator asks a diverged host.
async fn asked(link: &mut Link) -> wire::AskAccount {
    match link.next().await {
        Message::AskAccount(ask) => ask,
        other => panic!("{other:?} instead of a question"),
    }
}

async fn diverged(coordinator: &Coordinator, agent: &Agent) -> (Link, Cause) {
    let mut link = agent.dial(coordinator).await;
    match link.next().await {
        Message::Diverged(told) => (link, told.cause.unwrap().into()),
        other => panic!("{other:?} instead of Diverged"),
    }
}

async fn tell(link: &mut Link, vms: Vec<wire::Holding>, entries: Vec<wire::Entry>) {
    let chunk =
        wire::AccountChunk { start_count: 1, complete: true, vms, entries, ..wire::AccountChunk::default() };
    link.send(from_agent::Message::Account(chunk)).await;
}

fn holding(vm_id: &str) -> wire::Holding {
    wire::Holding {
        state: Some(event::VmState {
            vm_id: vm_id.into(),
            name: "web".into(),
            generation: 6,
            power: event::Power::Running.into(),
            ..Default::default()
        }),
        in_libvirt: true,
        on_disk: true,
        ..wire::Holding::default()
    }
}

async fn plan(coordinator: &Coordinator, agent: &Agent) -> fleet::ReconcilePlan {
    let asked = fleet::PlanReconcileRequest { host: agent.host.to_string() };
    wait_until("there is a plan", async || {
        coordinator.hosts().plan_reconcile(asked.clone()).await.ok().map(tonic::Response::into_inner)
    })
    .await
}

fn order(agent: &Agent, digest: &str) -> fleet::ReconcileHostRequest {
    fleet::ReconcileHostRequest {
        host: agent.host.to_string(),
        digest: digest.into(),
        reason: "the disk was replaced".into(),
    }
}

/// The journal is lost, the VM runs on: found on hello, shown, reconciled, and a new queue begins.
#[tokio::test]
async fn a_lost_journal_is_found_shown_and_reconciled() {
    let coordinator = Coordinator::start().await;
    let (before, web, half) = host_with_a_vm(&coordinator).await;
    let agent = lost(&before);
    let (mut link, told) = diverged(&coordinator, &agent).await;
    assert_eq!(told.reason, Reason::Diverged);
    assert_eq!(asked(&mut link).await.event_ids, std::slice::from_ref(&half.event_id));
    let planning = fleet::PlanReconcileRequest { host: agent.host.to_string() };
    assert_eq!(
        reason(coordinator.hosts().plan_reconcile(planning).await),
        Reason::Unreachable,
        "not told yet"
    );
    tell(&mut link, vec![holding(&web.vm_id)], Vec::new()).await;

    let shown = plan(&coordinator, &agent).await;
    assert_eq!(
        shown.unknown.iter().map(|e| e.event_id.as_str()).collect::<Vec<_>>(),
        [half.event_id.as_str()]
    );
    let standing: Vec<_> = shown.vms.iter().map(|vm| (vm.vm_id.as_str(), vm.standing.as_str())).collect();
    assert_eq!(standing, [(web.vm_id.as_str(), "both"), (half.vm_id.as_str(), "coordinator_only")]);
    assert_eq!(coordinator.event(&half.event_id).await.stage, "accepted", "showing changes nothing");

    let other = cause(coordinator.hosts().reconcile_host(order(&agent, "ab")).await);
    assert_eq!(other.reason, Reason::PlanChanged);
    let unreasoned = fleet::ReconcileHostRequest { reason: " ".into(), ..order(&agent, &shown.digest) };
    assert_eq!(reason(coordinator.hosts().reconcile_host(unreasoned).await), Reason::Invalid);
    coordinator.hosts().reconcile_host(order(&agent, &shown.digest)).await.unwrap();

    let event = coordinator.event(&half.event_id).await;
    assert_eq!(event.stage, "unknown");
    let Message::Reconcile(queue) = link.next().await else { panic!("it was not told") };
    assert!(queue.complete && queue.from_journal_id == agent.journal.to_string());
    let vms: Vec<_> = queue.vms.iter().map(|vm| (vm.vm_id.clone(), vm.generation)).collect();
    assert_eq!(vms.len(), 2);
    assert!(vms.contains(&(web.vm_id.clone(), 6)), "the higher generation: {vms:?}");
    assert!(queue.vms.iter().all(|vm| vm.spec.as_ref().is_some_and(|spec| spec.vcpus == 1)));
    drop(link);

    // Its agent has not done it yet: it is told again, and not asked.
    let (mut link, _) = diverged(&coordinator, &agent).await;
    assert!(matches!(link.next().await, Message::Reconcile(_)));
    drop(link);
    let renewed = Agent {
        journal: queue.journal_id.parse::<JournalId>().unwrap(),
        last_seq: queue.base_seq,
        last_seq_event: queue.base_event_id,
        ..agent
    };
    let (mut link, _) = renewed.connect(&coordinator).await;
    let next = coordinator.create("next").await;
    let deliver = link.deliver().await;
    assert_eq!((deliver.seq, next.seq), (3, 3), "nothing that was accepted comes again");
    let claimed = coordinator.wait_for_host(&renewed, |host| host.diverged.is_none()).await;
    assert_eq!(claimed.vms, 3, "claims stay");
}

/// The coordinator's file was put back from yesterday: what its hosts know comes back, and nothing is done again.
#[tokio::test]
async fn an_older_database_takes_over_what_its_hosts_know_and_places_again() {
    let mut coordinator = Coordinator::start().await;
    let (mut agent, web, half) = host_with_a_vm(&coordinator).await;
    let (link, _) = agent.connect(&coordinator).await;
    drop(link);
    coordinator.copy_away().await;
    let (mut link, _) = agent.connect(&coordinator).await;
    let later = coordinator.create("later").await;
    let deliver = link.deliver().await;
    let body = deliver.event.clone();
    agent.journal(&deliver);
    link.accept(3).await;
    let ended = agent.succeeded(&deliver);
    link.report(ended.clone()).await;
    link.ack().await;
    drop(link);
    coordinator.copy_back().await;
    assert_eq!(
        reason(
            coordinator.events().get_event(fleet::GetEventRequest { event_id: later.event_id.clone() }).await
        ),
        Reason::EventNotFound
    );

    let (mut link, told) = diverged(&coordinator, &agent).await;
    assert_eq!(told.fields.get("state").map(String::as_str), Some("recovering"));
    assert_eq!(
        reason(coordinator.vms().create_vm(crate::testing::create_request("no")).await),
        Reason::Diverged
    );
    assert_eq!(asked(&mut link).await.after_seq, 2);
    let entry = wire::Entry {
        seq: 3,
        event_id: later.event_id.clone(),
        vm_id: later.vm_id.clone(),
        generation: 1,
        kind: "create".into(),
        stage: "reported".into(),
        event: body,
        outcome: None,
    };
    tell(&mut link, vec![holding(&web.vm_id)], vec![entry]).await;
    assert_eq!(link.ended().await.reason, Reason::Unreachable, "matched anew");
    let mut link = agent.dial(&coordinator).await;
    let Message::Welcome(welcome) = link.next().await else { panic!("not welcomed") };
    assert_eq!(welcome.reports_acked, 1);
    link.heartbeat(32).await;
    link.report(ended).await;
    assert_eq!(link.ack().await, 2);
    assert_eq!(coordinator.event(&later.event_id).await.stage, "succeeded");
    assert_eq!(coordinator.event(&half.event_id).await.stage, "accepted");
    wait_until("the recovery is over", async || {
        let host = coordinator.wait_for_host(&agent, |_| true).await;
        host.recovering.is_none().then_some(())
    })
    .await;
    coordinator.create("after").await;
    assert_eq!(link.deliver().await.seq, 4, "only what is new is delivered");
}

/// A mainboard was replaced: a person says that it is no clone, and all goes on.
#[tokio::test]
async fn another_machine_is_accepted_by_a_persons_word() {
    let coordinator = Coordinator::start().await;
    let (before, _, half) = host_with_a_vm(&coordinator).await;
    let agent = Agent { machine: "two".into(), ..before };
    let (mut link, told) = diverged(&coordinator, &agent).await;
    assert!(told.text.contains("another machine"), "{told:?}");
    asked(&mut link).await;
    tell(&mut link, Vec::new(), Vec::new()).await;
    let shown = plan(&coordinator, &agent).await;
    assert_eq!((shown.old_machine.as_str(), shown.new_machine.as_str()), ("one", "two"));
    assert!(shown.unknown.is_empty() && shown.vms.is_empty());
    coordinator.hosts().reconcile_host(order(&agent, &shown.digest)).await.unwrap();
    assert_eq!(link.ended().await.reason, Reason::Unreachable);
    agent.connect(&coordinator).await;
    assert_eq!(coordinator.event(&half.event_id).await.stage, "accepted");
}

/// The agent's own word: its journal is an older copy.
#[tokio::test]
async fn a_doubted_journal_is_not_delivered_into() {
    let coordinator = Coordinator::start().await;
    let (before, _, half) = host_with_a_vm(&coordinator).await;
    let doubt = Some(Cause::new(Reason::JournalLost, "the journal is an older copy of itself"));
    let agent = Agent { doubt, ..before };
    let (mut link, _) = diverged(&coordinator, &agent).await;
    asked(&mut link).await;
    let entry = wire::Entry {
        seq: 2,
        event_id: half.event_id.clone(),
        vm_id: half.vm_id.clone(),
        stage: "running".into(),
        ..wire::Entry::default()
    };
    tell(&mut link, Vec::new(), vec![entry]).await;
    let shown = plan(&coordinator, &agent).await;
    assert_eq!(shown.unknown[0].host_stage, "running");
    coordinator.hosts().reconcile_host(order(&agent, &shown.digest)).await.unwrap();
    let Message::Reconcile(queue) = link.next().await else { panic!("it was not told") };
    assert!(queue.end_unfinished);
}

/// A reimaged host is a new one; the old one is retired, and what comes back under its id is refused by name.
#[tokio::test]
async fn a_reimaged_host_is_new_and_the_old_one_is_retired() {
    let mut coordinator = Coordinator::start().await;
    let (old, web, _) = host_with_a_vm(&coordinator).await;
    let reimaged = Agent { machine: old.machine.clone(), ..Agent::new() };
    let (link, _) = reimaged.connect(&coordinator).await;
    let retire = |disks_gone| fleet::RetireHostRequest {
        host: old.host.to_string(),
        disks_gone,
        reason: "reimaged".into(),
    };
    let heard = cause(coordinator.hosts().retire_host(retire(true)).await);
    assert!(heard.reason == Reason::HostInUse && heard.text.contains("is heard"), "{heard:?}");
    coordinator.forget_heartbeats(old.host).await;
    let used = cause(coordinator.hosts().retire_host(retire(false)).await);
    assert!(used.reason == Reason::HostInUse && used.advice.contains("--disks-gone"), "{used:?}");
    let retired = coordinator.hosts().retire_host(retire(true)).await.unwrap().into_inner();
    assert_eq!((retired.vm_ids.len(), retired.unknown_event_ids.len()), (2, 1));
    assert!(retired.vm_ids.contains(&web.vm_id));
    let refused = old.dial(&coordinator).await.ended().await;
    assert!(refused.reason == Reason::HostRetired && refused.text.contains("reimaged"), "{refused:?}");
    let host = coordinator.wait_for_host(&old, |host| host.liveness == "retired").await;
    assert_eq!((host.vms, host.claimed_vcpus), (0, 0));
    drop(link);
}

/// A machine died, and another takes its place.
#[tokio::test]
async fn a_replacement_is_told_whose_place_it_takes() {
    let mut coordinator = Coordinator::start().await;
    let (old, _, _) = host_with_a_vm(&coordinator).await;
    coordinator.forget_heartbeats(old.host).await;
    let new = Agent { machine: "two".into(), ..Agent::new() };
    let (mut link, _) = new.connect(&coordinator).await;
    let replace = fleet::ReplaceHostRequest {
        old_host: old.host.to_string(),
        new_host: new.host.to_string(),
        reason: "the board died".into(),
    };
    coordinator.hosts().replace_host(replace).await.unwrap();
    assert_eq!(link.ended().await.reason, Reason::Unreachable, "it dials again, and is told");
    let (mut link, _) = diverged(&coordinator, &new).await;
    let Message::Become(told) = link.next().await else { panic!("it was not told") };
    assert_eq!(told.host_id, old.host.to_string());
    drop(link);
    let became = Agent { host: old.host, ..new };
    let (mut link, _) = diverged(&coordinator, &became).await;
    asked(&mut link).await;
}
