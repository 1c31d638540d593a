//! The link against a coordinator that duplicates, reorders, forgets, breaks off and contradicts.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{ReportSeq, Seq, Term};
use dewpoint_proto::vm_state::Power;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::{from_agent, to_agent};
use dewpoint_proto::wire::event;
use prost::Message;

use super::Phase;
use super::fake::{Host, creates, soon, state, welcome};
use crate::journal::entry::{Entry, Leaves};
use crate::journal::fixture::{Folder, SmallDisk, body, create, delivered, id, reboot, vm};
use crate::journal::{Admission, Journal};
use dewpoint_proto::outcome::Outcome;

/// A refused event has a report at once.
async fn refuse(journal: &Journal, seq: u64) {
    let answer = journal.admit(delivered(seq, body(id(seq.into()), vm(99), reboot()))).await.unwrap();
    assert!(matches!(answer, Admission::Refused(_)));
}

/// A journal with so many reports, before anyone dials.
async fn with_refusals(most: u64) -> (Folder, Journal) {
    let folder = Folder::new();
    let journal = folder.open();
    for seq in 1..=most {
        refuse(&journal, seq).await;
    }
    (folder, journal)
}

#[tokio::test]
async fn a_delivery_is_on_disk_when_it_is_acknowledged_and_the_executor_gets_it_once() {
    let (mut host, mut coordinator) = Host::with_room(8);
    let (mut session, hello) = coordinator.welcomed(1, 0).await;
    assert_eq!((hello.last_seq, hello.start_count, hello.last_report_seq), (0, 1, 0));
    assert_eq!(hello.journal_id, host.journal.epoch().journal.to_string());
    let events = creates(1);
    session.deliver(1, &events[0]).await;
    session.accepted(1).await;
    // As a crash would find it.
    assert_eq!(host.folder.open().tail().await.unwrap().last, Some((Seq(1), id(1))));
    // Its acknowledgement was lost, say: it comes again, and is acknowledged again.
    session.deliver(1, &events[0]).await;
    session.accepted(1).await;
    assert_eq!(host.executed().await, id(1));
    assert!(host.executor.try_recv().is_err());
    assert_eq!(host.state.borrow().phase, Phase::Connected);
    assert_eq!(host.state.borrow().term, Term(1));
}

#[tokio::test]
async fn deliveries_out_of_order_are_executed_in_order() {
    let (mut host, mut coordinator) = Host::with_room(8);
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    let events = creates(5);
    for seq in [3, 5, 2, 2, 3, 4, 1] {
        session.deliver(seq, &events[seq as usize - 1]).await;
    }
    session.accepted(5).await;
    for n in 1..=5 {
        assert_eq!(host.executed().await, id(n));
    }
}

#[tokio::test]
async fn a_break_in_the_middle_loses_nothing() {
    let (mut host, mut coordinator) = Host::with_room(32);
    let events = creates(20);
    let (session, _) = coordinator.welcomed(1, 0).await;
    for seq in 1..=12 {
        session.deliver(seq, &events[seq as usize - 1]).await;
    }
    drop(session);
    // Some of the twelve are journaled, some may have been lost on the way.
    let (mut session, hello) = coordinator.welcomed(2, 0).await;
    for seq in hello.last_seq + 1..=20 {
        session.deliver_under(2, seq, &events[seq as usize - 1]).await;
    }
    session.accepted(20).await;
    for n in 1..=20 {
        assert_eq!(host.executed().await, id(n), "each once, in order");
    }
    assert!(host.executor.try_recv().is_err());
}

#[tokio::test]
async fn a_full_executor_closes_the_window_and_nothing_is_acknowledged_that_it_cannot_have() {
    let (mut host, mut coordinator) = Host::with_room(2);
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    let events = creates(3);
    for seq in 1..=3 {
        session.deliver(seq, &events[seq as usize - 1]).await;
    }
    session.accepted(2).await;
    session.heartbeat(|beat| beat.window == 0).await;
    assert_eq!(host.executed().await, id(1));
    session.accepted(3).await;
    assert_eq!(host.executed().await, id(2));
    assert_eq!(host.executed().await, id(3));
    session.heartbeat(|beat| beat.window > 0).await;
}

#[tokio::test]
async fn reports_are_sent_until_they_are_acknowledged() {
    let (folder, journal) = with_refusals(2).await;
    let (host, mut coordinator) = Host::on(folder, journal, 8);
    let (mut session, hello) = coordinator.welcomed(1, 0).await;
    assert_eq!((hello.last_seq, hello.last_report_seq), (2, 2));
    // Nobody acknowledges: they come again, in order.
    let mut numbers = Vec::new();
    for _ in 0..4 {
        numbers.push(session.report().await.report_seq);
    }
    assert_eq!(numbers, [1, 2, 1, 2]);
    session.acknowledge(1).await;
    drop(session);
    // What the coordinator has counts, whatever acknowledgement was lost.
    let (mut session, _) = coordinator.welcomed(2, 1).await;
    let report = session.report().await;
    assert_eq!((report.report_seq, report.seq), (2, 2));
    session.acknowledge(2).await;
    let mut changes = host.journal.changes();
    let acknowledged = async {
        while host.journal.tail().await.unwrap().acknowledged != ReportSeq(2) {
            let _ = changes.recv().await;
        }
    };
    soon(acknowledged).await;
    refuse(&host.journal, 3).await;
    assert_eq!(session.report().await.report_seq, 3);
}

#[tokio::test]
async fn a_coordinator_that_forgot_reports_gets_them_again() {
    let (folder, journal) = with_refusals(2).await;
    journal.acknowledge(ReportSeq(2)).await.unwrap();
    let (_host, mut coordinator) = Host::on(folder, journal, 8);
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    assert_eq!(session.report().await.report_seq, 1);
    assert_eq!(session.report().await.report_seq, 2);
}

#[tokio::test]
async fn a_local_event_is_reported_with_its_body() {
    let (host, mut coordinator) = Host::with_room(8);
    let event = body(id(1), vm(1), create());
    let Admission::New(proof) =
        host.journal.admit(crate::journal::fixture::local(event.clone())).await.unwrap()
    else {
        panic!()
    };
    let end = Entry::Finished { outcome: Outcome::success(), vm: None, leaves: Some(Leaves::Gone) };
    host.journal.append(&proof, vec![end]).await.unwrap();
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    let report = session.report().await;
    assert_eq!((report.seq, report.generation), (0, 1));
    assert_eq!(report.event, *event.bytes());
}

#[tokio::test]
async fn a_delivery_of_another_term_is_ignored() {
    let (mut host, mut coordinator) = Host::with_room(8);
    let (mut session, _) = coordinator.welcomed(5, 0).await;
    let events = creates(2);
    session.deliver_under(4, 1, &events[1]).await;
    session.deliver_under(5, 1, &events[0]).await;
    session.accepted(1).await;
    assert_eq!(host.executed().await, id(1));
}

#[tokio::test]
async fn a_coordinator_that_lost_its_claim_is_left() {
    let (host, mut coordinator) = Host::with_room(8);
    let (session, _) = coordinator.welcomed(5, 0).await;
    drop(session);
    let (old, _) = coordinator.welcomed(4, 0).await;
    old.closed_without_accepting().await;
    let mut state = host.state.clone();
    let lost = |phase: &Phase| matches!(phase, Phase::Apart(Some(cause)) if cause.reason == Reason::TermLost);
    soon(state.wait_for(|state| lost(&state.phase))).await.unwrap();
}

#[tokio::test]
async fn nothing_is_taken_or_reported_while_diverged() {
    let (folder, journal) = with_refusals(1).await;
    let (mut host, mut coordinator) = Host::on(folder, journal, 8);
    let mut session = coordinator.session().await;
    session.hello().await;
    let cause =
        event::Cause { reason: "DIVERGED".into(), text: "logs differ".into(), ..event::Cause::default() };
    session.say(to_agent::Message::Diverged(wire::Diverged { cause: Some(cause) })).await;
    session.deliver(2, &creates(2)[1]).await;
    session
        .until(|message| match message {
            from_agent::Message::Heartbeat(beat) => {
                assert_eq!(beat.window, 0);
                Some(())
            }
            from_agent::Message::Report(_) | from_agent::Message::Accepted(_) => panic!("{message:?}"),
            _ => None,
        })
        .await;
    assert!(matches!(&host.state.borrow().phase, Phase::Diverged(cause) if cause.text == "logs differ"));
    session.closed_without_accepting().await;
    // It asks again by itself, and goes on once it is reconciled.
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    assert_eq!(session.report().await.report_seq, 1);
    assert!(host.executor.try_recv().is_err());
}

#[tokio::test]
async fn another_event_at_a_journaled_seq_ends_the_session() {
    let (host, mut coordinator) = Host::with_room(8);
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    let events = creates(2);
    session.deliver(1, &events[0]).await;
    session.accepted(1).await;
    session.deliver(1, &events[1]).await;
    session.closed_without_accepting().await;
    let mut state = host.state.clone();
    let diverged =
        |phase: &Phase| matches!(phase, Phase::Apart(Some(cause)) if cause.reason == Reason::Diverged);
    soon(state.wait_for(|state| diverged(&state.phase))).await.unwrap();
}

#[tokio::test]
async fn a_hold_closes_the_window_and_is_kept_over_a_restart() {
    let (host, mut coordinator) = Host::with_room(8);
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    session.heartbeat(|beat| beat.window == 8).await;
    session.say(to_agent::Message::Hold(wire::Hold { hold: true, reason: "kernel upgrade".into() })).await;
    session.heartbeat(|beat| beat.window == 0).await;
    assert!(host.state.borrow().hold);
    assert_eq!(host.state.borrow().hold_reason, "kernel upgrade");
    assert!(host.folder.open().tail().await.unwrap().session.hold);
    session.say(to_agent::Message::Hold(wire::Hold::default())).await;
    session.heartbeat(|beat| beat.window == 8).await;
}

#[tokio::test]
async fn an_event_of_a_newer_kind_is_refused_in_its_place() {
    let (mut host, mut coordinator) = Host::with_room(8);
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    let newer =
        event::Event { event_id: id(1).to_string(), vm_id: vm(1).to_string(), ..event::Event::default() };
    let deliver = wire::Deliver { seq: 1, term: 1, generation: 1, event: newer.encode_to_vec().into() };
    session.say(to_agent::Message::Deliver(deliver)).await;
    let (mut accepted, mut report) = (None, None);
    session
        .until(|message| {
            match message {
                from_agent::Message::Accepted(found) => accepted = Some(found.seq),
                from_agent::Message::Report(found) => report = Some(found),
                _ => {}
            }
            (accepted.is_some() && report.is_some()).then_some(())
        })
        .await;
    let Some(event::outcome::End::Refused(cause)) = report.unwrap().outcome.unwrap().end else { panic!() };
    assert_eq!((accepted, cause.reason.as_str()), (Some(1), "UNKNOWN_KIND"));
    session.deliver(2, &creates(2)[1]).await;
    session.accepted(2).await;
    assert_eq!(host.executed().await, id(2));
}

#[tokio::test]
async fn bytes_that_name_no_event_end_the_session_and_are_not_acknowledged() {
    let (_host, mut coordinator) = Host::with_room(8);
    let (session, _) = coordinator.welcomed(1, 0).await;
    let deliver = wire::Deliver { seq: 1, term: 1, generation: 1, event: b"\xff\xff\xff".to_vec().into() };
    session.say(to_agent::Message::Deliver(deliver)).await;
    session.closed_without_accepting().await;
    let (_, hello) = coordinator.welcomed(2, 0).await;
    assert_eq!(hello.last_seq, 0);
}

#[tokio::test]
async fn an_acknowledgement_of_what_was_not_sent_ends_the_session() {
    let (host, mut coordinator) = Host::with_room(8);
    let (session, _) = coordinator.welcomed(1, 0).await;
    session.acknowledge(7).await;
    session.closed_without_accepting().await;
    assert_eq!(host.journal.tail().await.unwrap().acknowledged, ReportSeq(0));
    // A Welcome that has more reports than were written is another journal's.
    let mut session = coordinator.session().await;
    session.hello().await;
    session.say(to_agent::Message::Welcome(welcome(2, 7))).await;
    session.closed_without_accepting().await;
}

#[tokio::test]
async fn the_inventory_follows_the_welcome_and_changes_follow_it() {
    let (host, mut coordinator) = Host::with_room(8);
    *host.inventory.vms.lock().unwrap() = vec![state(vm(1), Power::Running), state(vm(2), Power::Off)];
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    let chunk = session
        .until(|message| match message {
            from_agent::Message::Inventory(chunk) => Some(chunk),
            _ => None,
        })
        .await;
    assert!(chunk.complete);
    assert_eq!((chunk.vms.len(), chunk.start_count), (2, 1));
    host.inventory.vms.lock().unwrap()[1].power = Power::Running;
    host.inventory.degraded.lock().unwrap().push(Cause::new(Reason::HypervisorDown, "libvirt is away"));
    let beat = session.heartbeat(|beat| !beat.changed.is_empty()).await;
    assert_eq!(beat.changed.len(), 1);
    assert_eq!(beat.changed[0].vm_id, vm(2).to_string());
    assert_eq!(beat.capacity.unwrap().cpus, 2);
    session.heartbeat(|beat| beat.degraded.iter().any(|cause| cause.reason == "HYPERVISOR_DOWN")).await;
}

#[tokio::test]
async fn pings_are_answered_and_progress_is_told() {
    let (host, mut coordinator) = Host::with_room(8);
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    session.say(to_agent::Message::Ping(wire::Ping { nonce: 42 })).await;
    let nonce = session
        .until(|message| match message {
            from_agent::Message::Pong(pong) => Some(pong.nonce),
            _ => None,
        })
        .await;
    assert_eq!(nonce, 42);
    let progress = crate::report::progress::Progress {
        event: id(1),
        step: "fetch-image".into(),
        steps_done: 0,
        bytes: (5, 10),
        waiting_for: String::new(),
        until: None,
    };
    host.board.set(progress);
    let told = session
        .until(|message| match message {
            from_agent::Message::Progress(progress) => Some(progress),
            _ => None,
        })
        .await;
    assert_eq!((told.event_id, told.done_bytes), (id(1).to_string(), 5));
}

#[tokio::test]
async fn a_begun_event_is_named_once() {
    let (mut host, mut coordinator) = Host::with_room(8);
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    let event: Body = creates(1).remove(0);
    session.deliver(1, &event).await;
    session.accepted(1).await;
    let proof = soon(host.executor.recv()).await.unwrap();
    let step = Entry::StepStarted { step: crate::execute::step::Step::MakeDisk, attempt: 1, before: None };
    host.journal.append(&proof, vec![step]).await.unwrap();
    let beat = session.heartbeat(|beat| !beat.running_event_ids.is_empty()).await;
    assert_eq!(beat.running_event_ids, [id(1).to_string()]);
    let next = session.heartbeat(|beat| beat.capacity.is_some()).await;
    assert!(next.running_event_ids.is_empty());
}

#[tokio::test]
async fn what_the_full_disk_withholds_is_acknowledged_once_there_is_room() {
    let Some(disk) = SmallDisk::of(24) else { return };
    let journal = disk.open();
    let (mut host, mut coordinator) = Host::on(Folder::new(), journal, 8);
    let (mut session, _) = coordinator.welcomed(1, 0).await;
    session.heartbeat(|beat| beat.window == 8).await;
    disk.fill();
    // As the inventory has it from the journal.
    let shown = Cause::new(Reason::JournalError, "shown on the spot");
    host.inventory.degraded.lock().unwrap().push(shown.clone());
    let events = creates(3);
    for seq in 1..=3 {
        session.deliver(seq, &events[seq as usize - 1]).await;
    }
    let withheld = session
        .until(|message| match message {
            from_agent::Message::Accepted(_) => panic!("acknowledged what is not on disk"),
            from_agent::Message::Heartbeat(beat) if beat.window == 0 => {
                beat.degraded.iter().any(|cause| cause.text != shown.text).then_some(beat)
            }
            _ => None,
        })
        .await;
    assert_eq!(withheld.degraded[0].reason, "JOURNAL_ERROR");
    assert_eq!(withheld.degraded.len(), 1, "told once");
    host.inventory.degraded.lock().unwrap().clear();
    assert!(host.executor.try_recv().is_err());
    disk.empty();
    session.accepted(3).await;
    for n in 1..=3 {
        assert_eq!(host.executed().await, id(n));
    }
    session.heartbeat(|beat| beat.window > 0 && beat.degraded.is_empty()).await;
}
