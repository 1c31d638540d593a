//! Whatever a coordinator says, the link lives on, and the journal has what was acknowledged and nothing between.

use dewpoint_proto::hostile::{FROM_THE_FUTURE, spoiled};
use dewpoint_proto::ids::Seq;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::to_agent::Message;
use dewpoint_proto::wire::event;
use proptest::collection::vec;
use proptest::prelude::*;

use super::fake::{FakeCoordinator, FakeSession, Host, bytes_of, creates, soon, welcome};
use crate::journal::fixture::{body, create, destroy, id, vm};

/// Small numbers, which fit, and any, which do not.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![4 => 0..6_u64, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

/// An event as it should be, spoiled, cut short, or noise.
fn event_bytes() -> impl Strategy<Value = Vec<u8>> {
    let whole = (1..5_u128, any::<bool>()).prop_map(|(n, builds)| {
        body(id(n), vm(n), if builds { create() } else { destroy() }).bytes().to_vec()
    });
    let spoiled = (1..5_u128, any::<prop::sample::Index>(), any::<u8>()).prop_map(|(n, at, byte)| {
        let mut bytes = body(id(n), vm(n), create()).bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        bytes
    });
    let cut = (1..5_u128, any::<prop::sample::Index>()).prop_map(|(n, at)| {
        let bytes = body(id(n), vm(n), create()).bytes().to_vec();
        bytes[..at.index(bytes.len())].to_vec()
    });
    prop_oneof![3 => whole, 2 => spoiled, 1 => cut, 1 => vec(any::<u8>(), 0..64)]
}

fn message() -> impl Strategy<Value = Message> {
    let deliver = (number(), prop_oneof![4 => Just(1), 1 => any::<u64>()], number(), event_bytes()).prop_map(
        |(seq, term, generation, event)| wire::Deliver { seq, term, generation, event: event.into() },
    );
    let hold = (any::<bool>(), ".{0,200}").prop_map(|(hold, reason)| wire::Hold { hold, reason });
    let cause = (".{0,200}", ".{0,20}").prop_map(|(text, reason)| event::Cause {
        text,
        reason,
        ..event::Cause::default()
    });
    prop_oneof![
        8 => deliver.prop_map(Message::Deliver),
        1 => number().prop_map(|report_seq| Message::ReportAck(wire::ReportAck { report_seq })),
        1 => hold.prop_map(Message::Hold),
        1 => any::<u64>().prop_map(|nonce| Message::Ping(wire::Ping { nonce })),
        1 => any_welcome().prop_map(Message::Welcome),
        1 => cause.prop_map(|cause| Message::Diverged(wire::Diverged { cause: Some(cause) })),
        1 => confirm().prop_map(Message::Confirm),
        1 => Just(Message::AskAccount(wire::AskAccount::default())),
        1 => reconcile().prop_map(Message::Reconcile),
        1 => ".{0,40}".prop_map(|host_id| Message::Become(wire::Become { host_id })),
    ]
}

fn confirm() -> impl Strategy<Value = wire::Confirm> {
    (".{0,40}", number()).prop_map(|(vm_id, generation)| wire::Confirm {
        vms: vec![wire::Confirmed { vm_id, generation, refused: None }],
    })
}

/// Of a journal that may be this one: ids are checked before.
fn reconcile() -> impl Strategy<Value = wire::Reconcile> {
    (".{0,40}", number(), number(), any::<bool>()).prop_map(|(id, base_seq, generation, complete)| {
        wire::Reconcile {
            from_journal_id: id.clone(),
            journal_id: id.clone(),
            base_seq,
            base_event_id: id.clone(),
            vms: vec![wire::Adopted { vm_id: id, generation, spec: None, wanted_on: true }],
            complete,
            end_unfinished: complete,
        }
    })
}

fn message_bytes() -> impl Strategy<Value = Vec<u8>> {
    spoiled(message().prop_map(bytes_of))
}

fn any_welcome() -> impl Strategy<Value = wire::Welcome> {
    let times = prop_oneof![Just(i64::MIN), Just(i64::MAX), any::<i64>()];
    (0..3_u64, number(), times, any::<u32>(), ".{0,60}", any::<bool>()).prop_map(
        |(term, reports_acked, now_ms, heartbeat_seconds, images_url, hold)| wire::Welcome {
            term,
            reports_acked,
            now_ms,
            heartbeat_seconds,
            images_url,
            hold,
        },
    )
}

/// What the agent acknowledged, until it or the test hung up.
async fn play(mut session: FakeSession, welcome: wire::Welcome, messages: Vec<Vec<u8>>) -> u64 {
    session.hello().await;
    let mut all = vec![bytes_of(Message::Welcome(welcome))];
    all.extend(messages);
    for bytes in all {
        if !session.try_say_bytes(bytes).await {
            break;
        }
    }
    session.last_word().await
}

async fn lives_on(host: &Host, coordinator: &mut FakeCoordinator, acknowledged: u64) {
    // Sessions that the agent opened and left meanwhile say Hello as well.
    let hello = loop {
        let mut session = coordinator.session().await;
        let Some(hello) = session.maybe_hello().await else { continue };
        session.say(Message::Welcome(welcome(9, 0))).await;
        let next = hello.last_seq + 1;
        let event = body(id(900), vm(900), create());
        session.deliver_under(9, next, &event).await;
        session.accepted(next).await;
        break hello;
    };
    assert!(hello.last_seq >= acknowledged, "{acknowledged} was acknowledged, {} is there", hello.last_seq);
    let tail = host.journal.tail().await.unwrap();
    assert_eq!(tail.last.unwrap().0, Seq(hello.last_seq + 1));
    assert!(host.journal.unfinished().await.unwrap().parked.is_empty(), "what was taken can be gone on with");
}

#[test]
fn whatever_is_said_the_link_lives_on_and_the_journal_is_whole() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(first in any_welcome(), messages in vec(message(), 0..12))| {
        runtime.block_on(async {
            let (host, mut coordinator) = Host::with_room(32);
            let session = coordinator.session().await;
            let messages = messages.into_iter().map(bytes_of).collect();
            let acknowledged = play(session, first, messages).await;
            lives_on(&host, &mut coordinator, acknowledged).await;
        });
    });
}

/// Bytes that are no message end the session at most, and the next one goes on.
#[test]
fn whatever_bytes_come_the_link_lives_on_and_the_journal_is_whole() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(messages in vec(message_bytes(), 1..12))| {
        runtime.block_on(async {
            let (host, mut coordinator) = Host::with_room(32);
            let session = coordinator.session().await;
            let acknowledged = play(session, welcome(1, 0), messages).await;
            lives_on(&host, &mut coordinator, acknowledged).await;
        });
    });
}

/// A newer coordinator may say more than this agent knows: it is passed over, and the session goes on.
#[tokio::test]
async fn a_message_of_a_kind_from_the_future_and_a_field_from_the_future_are_passed_over() {
    let (mut host, mut coordinator) = Host::with_room(8);
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    let event = &creates(1)[0];
    assert!(session.try_say_bytes(FROM_THE_FUTURE.to_vec()).await);
    let deliver = wire::Deliver { seq: 1, term: 1, generation: 1, event: event.bytes().clone() };
    let mut with_more = bytes_of(Message::Deliver(deliver));
    with_more.extend(FROM_THE_FUTURE);
    assert!(session.try_say_bytes(with_more).await);
    session.accepted(1).await;
    assert_eq!(host.executed().await, id(1));
}

/// What is left of a delivery that was cut short is none: the session ends, and it is taken when it comes whole.
#[tokio::test]
async fn a_delivery_that_was_cut_short_is_not_taken_and_taken_once_it_is_whole() {
    let (mut host, mut coordinator) = Host::with_room(8);
    let event = &creates(1)[0];
    let deliver = wire::Deliver { seq: 1, term: 1, generation: 1, event: event.bytes().clone() };
    let mut cut = bytes_of(Message::Deliver(deliver));
    cut.truncate(cut.len() / 2);
    let (session, _) = coordinator.welcomed(1, 0).await;
    assert!(session.try_say_bytes(cut).await);
    session.closed_without_accepting().await;
    let (mut session, hello) = coordinator.welcomed(2, 0).await;
    assert_eq!(hello.last_seq, 0);
    session.deliver_under(2, 1, event).await;
    session.accepted(1).await;
    assert_eq!(host.executed().await, id(1));
}

#[tokio::test]
async fn an_event_from_the_future_and_one_repeated_change_nothing() {
    let (mut host, mut coordinator) = Host::with_room(8);
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    let events = creates(3);
    // Beyond what is next, and far beyond.
    session.deliver(3, &events[2]).await;
    session.deliver(u64::MAX, &events[2]).await;
    session.deliver(1, &events[0]).await;
    session.accepted(1).await;
    session.deliver(1, &events[0]).await;
    session.accepted(1).await;
    session.deliver(2, &events[1]).await;
    session.accepted(3).await;
    for n in 1..=3 {
        assert_eq!(host.executed().await, id(n));
    }
    assert!(host.executor.try_recv().is_err(), "no event is executed twice");
    let none = soon(host.journal.reports_after(dewpoint_proto::ids::ReportSeq(0), 9)).await.unwrap();
    assert!(none.is_empty(), "{none:?}");
}

#[tokio::test]
async fn a_host_that_only_observes_says_so_and_refuses_by_name() {
    let folder = crate::journal::fixture::Folder::new();
    let judge = crate::intake::judge_observing;
    let settings = crate::journal::Settings { judge, ..crate::journal::fixture::settings() };
    let journal = crate::journal::Journal::open(&folder.db(), settings).unwrap();
    let (mut host, mut coordinator) = Host::observing(folder, journal);
    let (mut session, hello) = coordinator.welcomed(1, 0).await;
    assert!(hello.observe_only);
    session.heartbeat(|beat| beat.observe_only).await;
    session.deliver(1, &creates(1)[0]).await;
    let report = session.report().await;
    let Some(event::outcome::End::Refused(cause)) = report.outcome.unwrap().end else { panic!() };
    assert_eq!(cause.reason, "OBSERVE_ONLY");
    assert!(cause.advice.contains("observe_only = false"), "{cause:?}");
    assert!(host.executor.try_recv().is_err());
}
