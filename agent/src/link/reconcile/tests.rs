use dewpoint_proto::ids::JournalId;
use dewpoint_proto::vm_state::Power;
use dewpoint_proto::wire::agent::to_agent;
use dewpoint_proto::wire::event;

use super::super::fake::{FakeSession, Host, creates, soon, state};
use super::*;
use crate::journal::fixture::{id, spec, vm};

fn to() -> JournalId {
    JournalId(uuid::Uuid::from_u128(0x2ed))
}

async fn diverged(session: &FakeSession) {
    let cause =
        event::Cause { reason: "DIVERGED".into(), text: "another journal".into(), ..Default::default() };
    session.say(to_agent::Message::Diverged(wire::Diverged { cause: Some(cause) })).await;
}

/// A VM that is there, and whose journal was lost.
fn found() -> Holding {
    let mark = crate::hypervisor::Mark {
        vm: vm(1),
        generation: Generation(4),
        event: id(4),
        run: None,
        wanted: Wanted::Off,
        disk: id(1),
        seed: id(1),
    };
    Holding {
        state: state(vm(1), Power::Off),
        spec: None,
        in_journal: false,
        mark: Some(mark),
        on_disk: true,
        unseen: String::new(),
        image: None,
    }
}

#[tokio::test]
async fn a_diverged_host_tells_what_it_has_and_begins_a_new_queue_by_a_persons_word() {
    let (host, mut coordinator) = Host::with_room(4);
    host.inventory.holdings.lock().unwrap().push(found());
    let mut session = coordinator.session().await;
    let hello = session.hello().await;
    assert_eq!((hello.protocol, hello.product_uuid.as_str()), (2, "this-machine"));
    diverged(&session).await;
    session.say(to_agent::Message::AskAccount(wire::AskAccount::default())).await;
    let account = session
        .until(|message| match message {
            from_agent::Message::Account(chunk) => Some(chunk),
            _ => None,
        })
        .await;
    assert!(account.complete && account.vms[0].in_libvirt && !account.vms[0].in_journal, "{account:?}");

    let decision = wire::Reconcile {
        from_journal_id: hello.journal_id,
        journal_id: to().to_string(),
        base_seq: 5,
        base_event_id: id(5).to_string(),
        vms: vec![wire::Adopted {
            vm_id: vm(1).to_string(),
            generation: 3,
            spec: Some(spec().into()),
            wanted_on: true,
        }],
        complete: true,
        end_unfinished: false,
    };
    session.say(to_agent::Message::Reconcile(decision)).await;
    let (session, hello) = coordinator.welcomed(9, 0).await;
    assert_eq!(
        (hello.journal_id, hello.last_seq, hello.last_seq_event_id),
        (to().to_string(), 5, id(5).to_string())
    );
    let row = host.journal.vm(vm(1)).await.unwrap().unwrap();
    assert_eq!((row.generation, row.wanted, row.disk), (Generation(4), Wanted::Off, Some(id(1))));
    // What follows is a queue as any other.
    let mut session = session;
    session.deliver_under(9, 6, &creates(1)[0]).await;
    session.accepted(6).await;
}

#[tokio::test]
async fn a_decision_on_another_journal_is_passed_over() {
    let (host, mut coordinator) = Host::with_room(4);
    let mut session = coordinator.session().await;
    session.hello().await;
    diverged(&session).await;
    let decision = wire::Reconcile {
        from_journal_id: to().to_string(),
        journal_id: JournalId::fresh().to_string(),
        base_seq: 5,
        base_event_id: id(5).to_string(),
        complete: true,
        ..wire::Reconcile::default()
    };
    session.say(to_agent::Message::Reconcile(decision)).await;
    session.say(to_agent::Message::AskAccount(wire::AskAccount::default())).await;
    session.until(|message| matches!(message, from_agent::Message::Account(_)).then_some(())).await;
    assert_eq!(host.journal.tail().await.unwrap().last, None);
}

/// A queue that began at its end could never go on.
#[tokio::test]
async fn a_decision_that_counts_beyond_what_can_be_counted_changes_nothing() {
    let (host, mut coordinator) = Host::with_room(4);
    let before = host.journal.tail().await.unwrap();
    let adopted = wire::Adopted {
        vm_id: vm(1).to_string(),
        generation: u64::MAX,
        spec: Some(spec().into()),
        wanted_on: true,
    };
    for (base_seq, vms) in [(u64::MAX, Vec::new()), (5, vec![adopted])] {
        let mut session = coordinator.session().await;
        let hello = session.hello().await;
        diverged(&session).await;
        let decision = wire::Reconcile {
            from_journal_id: hello.journal_id,
            journal_id: to().to_string(),
            base_seq,
            base_event_id: id(5).to_string(),
            vms,
            complete: true,
            end_unfinished: false,
        };
        session.say(to_agent::Message::Reconcile(decision)).await;
        session.closed_without_accepting().await;
        let after = host.journal.tail().await.unwrap();
        assert_eq!((after.epoch.journal, after.last), (before.epoch.journal, before.last));
    }
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    session.deliver(1, &creates(1)[0]).await;
    session.accepted(1).await;
}

#[tokio::test]
async fn a_host_without_vms_takes_anothers_id_and_starts_again() {
    let (mut host, mut coordinator) = Host::with_room(4);
    let mut session = coordinator.session().await;
    session.hello().await;
    diverged(&session).await;
    let other = HostId::fresh();
    session.say(to_agent::Message::Become(wire::Become { host_id: other.to_string() })).await;
    session.closed_without_accepting().await;
    let ended = soon(host.ended()).await.unwrap_err();
    assert_eq!(ended.fields.get("host_id"), Some(&other.to_string()));
    let identity = crate::identity::read(host.folder.path()).unwrap().unwrap();
    assert_eq!((identity.host_id, identity.product_uuid.as_deref()), (other, Some("this-machine")));
}
