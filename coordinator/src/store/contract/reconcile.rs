//! Hosts that are ahead, that diverged, that retire: what becomes of their events and VMs by a person's word.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::Kind;
use dewpoint_proto::ids::{Generation, JournalId, ReportSeq, Seq, VmId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::vm_state::Power;
use uuid::Uuid;

use super::Factory;
use super::fixture::*;
use crate::events::stage::Stage;
use crate::store::*;

fn lost(n: u128) -> Hello {
    Hello { journal: JournalId(Uuid::from_u128(0x1057)), ..hello(n) }
}

fn queue(base: u64) -> NewQueue {
    NewQueue {
        from: lost(1).journal,
        to: JournalId(Uuid::from_u128(0x2ed)),
        base: Seq(base),
        base_event: event_id(0xba5e),
        end_unfinished: false,
    }
}

fn holding(vm: u128) -> Holding {
    Holding {
        state: state(vm, 0, Power::Running),
        spec: Some(spec(vm)),
        found: Found { journal: true, libvirt: true, disk: true },
        unseen: String::new(),
        image: None,
    }
}

fn cause() -> Cause {
    Cause::new(Reason::JournalLost, "its journal was lost")
}

/// The term of a claim that diverged.
async fn diverged(store: &impl Store, hello: Hello) -> dewpoint_proto::ids::Term {
    match store.claim_host(hello, NOW).await.unwrap() {
        HostClaim::Diverged { term, .. } => term,
        other => panic!("it matches: {other:?}"),
    }
}

/// Promises 1 and 11: nothing that was accepted is delivered into the new journal, and claims stay with their VMs.
pub(super) async fn a_new_queue_begins_by_a_persons_word<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let there = assigned(&store, create(1, &[1])).await;
    store.record_report(under, report(1, &there, Outcome::success())).await.unwrap();
    let half = assigned(&store, create(2, &[1])).await;
    store.accepted_up_to(under, Seq(2)).await.unwrap();
    let term = diverged(&store, lost(1)).await;
    let cure = |unknown: Vec<_>| Cure::NewQueue {
        queue: queue(2),
        unknown,
        continued: Vec::new(),
        raised: vec![(vm_id(1), Generation(9))],
        adopted: vec![holding(7)],
    };
    let told = |term, cure| Reconciliation {
        host: host_id(1),
        term,
        last_seq: Seq(2),
        cure,
        word: word("disk swap"),
    };

    let other = store.reconcile(told(under.term, cure(vec![(half.id, cause())]))).await.unwrap().unwrap_err();
    assert_eq!(other.reason, Reason::PlanChanged, "planned in another session");
    let fewer = store.reconcile(told(term, cure(Vec::new()))).await.unwrap().unwrap_err();
    assert_eq!(fewer.reason, Reason::PlanChanged, "an event came since");
    assert_eq!(store.event(half.id).await.unwrap().unwrap().stage, Stage::Accepted, "nothing was changed");

    let settled = store.reconcile(told(term, cure(vec![(half.id, cause())]))).await.unwrap().unwrap();
    assert_eq!((settled.changed.len(), settled.vms.as_slice()), (1, &[vm_id(7)][..]));
    let unknown = store.event(half.id).await.unwrap().unwrap();
    assert_eq!((unknown.stage, unknown.unknown.unwrap().reason), (Stage::Unknown, Reason::JournalLost));
    assert_eq!(claims_of(&store, 1).await.vms, 3, "claims stay, and the VM that only the host had has one");
    assert_eq!(store.vm(vm_id(1)).await.unwrap().unwrap().generation, Generation(9));
    assert_eq!(
        store.admit_create(create(3, &[1])).await.unwrap(),
        Admission::ClaimLost,
        "until the agent has heard"
    );

    // Its agent did not hear of it: it is told again.
    diverged(&store, lost(1)).await;
    assert_eq!(store.host(host_id(1)).await.unwrap().unwrap().reconciling, Some(queue(2)));
    let heard = Hello {
        journal: queue(2).to,
        last_seq: Seq(2),
        last_seq_event: Some(queue(2).base_event),
        last_report: ReportSeq(4),
        ..hello(1)
    };
    let claim = store.claim_host(heard, NOW).await.unwrap();
    let HostClaim::Matched { term, after, reports_acked, .. } = claim else { panic!("{claim:?}") };
    assert_eq!((after, reports_acked), (Seq(2), ReportSeq(0)));
    assert!(store.deliverable(host_id(1), after, 32).await.unwrap().is_empty(), "nothing comes again");
    let next = assigned(&store, create(4, &[1])).await;
    assert_eq!(next.seq, Some(Seq(3)));
    let under = Under { term, ..under };
    let first = store.record_report(under, report(4, &next, Outcome::success())).await.unwrap();
    assert_eq!(first.acked, ReportSeq(4), "the new journal's reports begin anywhere");
    let acts = store.audit(About::host(host_id(1)), Page::first(10)).await.unwrap().items;
    assert!(acts.iter().any(|act| act.act == "reconcile" && act.word.reason == "disk swap"), "{acts:?}");
}

/// A clone of the disk from before does not have the base that both agreed on.
pub(super) async fn a_copy_from_before_a_reconciliation_diverges<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let there = assigned(&store, create(1, &[1])).await;
    store.record_report(under, report(1, &there, Outcome::success())).await.unwrap();
    let term = diverged(&store, lost(1)).await;
    let cure = Cure::NewQueue {
        queue: queue(1),
        unknown: Vec::new(),
        continued: Vec::new(),
        raised: Vec::new(),
        adopted: Vec::new(),
    };
    let told = Reconciliation { host: host_id(1), term, last_seq: Seq(1), cure, word: word("swap") };
    store.reconcile(told).await.unwrap().unwrap();
    let before =
        Hello { last_seq: Seq(1), last_seq_event: Some(there.id), last_report: ReportSeq(1), ..hello(1) };
    diverged(&store, before.clone()).await;
    diverged(&store, Hello { journal: queue(1).to, ..before }).await;
}

pub(super) async fn another_machine_is_accepted_and_the_queue_goes_on<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    let moved = Hello { product_uuid: Some("a new board".into()), ..hello(1) };
    let term = diverged(&store, moved.clone()).await;
    let told = Reconciliation {
        host: host_id(1),
        term,
        last_seq: Seq(1),
        cure: Cure::Machine,
        word: word("mainboard replaced"),
    };
    store.reconcile(told).await.unwrap().unwrap();
    let claim = store.claim_host(moved, NOW).await.unwrap();
    assert!(matches!(claim, HostClaim::Matched { after: Seq(0), .. }), "{claim:?}");
    assert_eq!(store.deliverable(host_id(1), Seq(0), 9).await.unwrap()[0].body.event().id, made.id);
    diverged(&store, hello(1)).await;
}

/// A backup of yesterday: what its host knows comes back into the rows, and no event is redone.
pub(super) async fn a_host_that_is_ahead_is_taken_over<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    join(&store, 2).await;
    // Placed on host 1 after the backup; here it still waits.
    let waits = CreateAdmission { candidates: Vec::new(), unplaced: waiting(), ..create(5, &[]) };
    store.admit_create(waits).await.unwrap();
    let ahead =
        Hello { last_seq: Seq(2), last_seq_event: Some(event_id(5)), last_report: ReportSeq(1), ..hello(1) };
    let term = diverged(&store, ahead.clone()).await;
    assert!(store.settle_recovery().await.unwrap().is_none(), "a host is ahead");
    let entry = |seq: u64, n: u128| JournalEntry {
        seq: Some(Seq(seq)),
        event: event_id(n),
        vm: vm_id(n),
        generation: Generation(1),
        stage: "running".into(),
        body: Some(body(n, n, create_kind(spec(n)))),
        outcome: None,
    };
    let account = Account {
        vms: vec![holding(4), holding(9)],
        entries: vec![entry(1, 4), entry(2, 5)],
        truncated: false,
    };
    let told = TakeOver { host: host_id(1), term, account, at: NOW };
    let taken = store.take_over(told.clone()).await.unwrap().unwrap();
    assert_eq!((taken.changed.len(), taken.vms), (2, vec![vm_id(4), vm_id(9)]));
    assert_eq!(store.take_over(told).await.unwrap().unwrap_err().reason, Reason::PlanChanged, "once");
    for n in [4, 5] {
        let event = store.event(event_id(n)).await.unwrap().unwrap();
        assert_eq!(
            (event.stage, event.host, event.seq),
            (Stage::Accepted, Some(host_id(1)), Some(Seq(n as u64 - 3)))
        );
    }
    assert_eq!(claims_of(&store, 1).await.vms, 3);
    assert!(store.recount_claims().await.unwrap().is_empty(), "sums equal rows");
    let over = store.settle_recovery().await.unwrap().unwrap();
    assert_eq!(over.reason, Reason::Diverged);
    assert!(store.fleet().await.unwrap().recovering.is_none());
    let claim = store.claim_host(ahead, NOW).await.unwrap();
    let HostClaim::Matched { term, after: Seq(2), reports_acked: ReportSeq(0), .. } = claim else {
        panic!("{claim:?}");
    };
    assert!(store.deliverable(host_id(1), Seq(2), 9).await.unwrap().is_empty(), "no event is redone");
    let under = Under { host: host_id(1), term, at: NOW };
    let event = store.event(event_id(4)).await.unwrap().unwrap();
    store.record_report(under, report(1, &event, Outcome::success())).await.unwrap();
    assert_eq!(store.event(event_id(4)).await.unwrap().unwrap().stage, Stage::Succeeded);
}

pub(super) async fn another_history_is_not_taken_over<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    // Accepted by the restored database before the host was back.
    let ours = assigned(&store, create(1, &[1])).await;
    let ahead = Hello { last_seq: Seq(2), last_seq_event: Some(event_id(8)), ..hello(1) };
    let term = diverged(&store, ahead).await;
    let entry = JournalEntry {
        seq: Some(Seq(1)),
        event: event_id(7),
        vm: vm_id(7),
        generation: Generation(1),
        stage: "finished".into(),
        body: None,
        outcome: Some(Outcome::success()),
    };
    let account = Account { vms: Vec::new(), entries: vec![entry], truncated: false };
    let told = TakeOver { host: host_id(1), term, account, at: NOW };
    let other = store.take_over(told).await.unwrap().unwrap_err();
    assert_eq!(other.reason, Reason::Diverged);
    let host = store.host(host_id(1)).await.unwrap().unwrap();
    assert!(!host.recovering && host.diverged.is_some(), "a person decides");
    assert_eq!(store.event(ours.id).await.unwrap().unwrap().stage, Stage::Assigned);
}

/// Ended by a person before the host told: what stands behind its last seq is never delivered, and not forgotten.
pub(super) async fn what_an_ended_recovery_passes_over_is_unknown<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    let ours = assigned(&store, create(1, &[1])).await;
    diverged(&store, Hello { last_seq: Seq(3), last_seq_event: Some(event_id(8)), ..hello(1) }).await;
    let settled = store.end_recovery(word("the host is scrap")).await.unwrap();
    assert_eq!(settled.changed.len(), 1);
    assert_eq!(store.event(ours.id).await.unwrap().unwrap().stage, Stage::Unknown);
    assert_eq!(claims_of(&store, 1).await.vms, 1, "its claim stays until it is proven gone");
}

/// It told that it is ahead, and then comes with another end of its log: what it was ahead by means nothing any more.
pub(super) async fn a_host_that_was_ahead_and_is_not_any_more_goes_on<F: Factory>(factory: &F) {
    let ahead = || Hello { last_seq: Seq(2), last_seq_event: Some(event_id(8)), ..hello(1) };
    for back in [hello(1), lost(1)] {
        let store = factory.fresh();
        small_world(&store).await;
        diverged(&store, ahead()).await;
        let claim = store.claim_host(back.clone(), NOW).await.unwrap();
        assert!(matches!(claim, HostClaim::Matched { after: Seq(0), .. }), "{claim:?}");
        store.settle_recovery().await.unwrap().unwrap();
        for n in 1..=2 {
            assert_eq!(assigned(&store, create(n, &[1])).await.seq, Some(Seq(n as u64)));
        }
        let later = Hello { last_seq: Seq(2), last_seq_event: Some(event_id(2)), ..back };
        let claim = store.claim_host(later, NOW).await.unwrap();
        assert!(matches!(claim, HostClaim::Matched { after: Seq(2), .. }), "its log is ours: {claim:?}");
    }
}

/// Promise 11: a VM is gone when its host has proved it, or when a person says that the disks are.
pub(super) async fn a_retired_hosts_vms_are_gone_only_with_its_disks<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    store.record_report(under, report(1, &made, Outcome::success())).await.unwrap();
    let half = changed(&store, change(2, 1, Kind::Start)).await;
    let told = |disks| Retirement { host: host_id(1), disks, word: word("scrapped") };
    let refused = store.retire_host(told(Disks::NotSaid)).await.unwrap().unwrap_err();
    assert_eq!(refused.reason, Reason::HostInUse);
    assert!(refused.advice.contains("--disks-gone"));
    let settled = store.retire_host(told(Disks::Gone)).await.unwrap().unwrap();
    assert_eq!((settled.vms.as_slice(), settled.freed.vms), (&[vm_id(1)][..], 1));
    assert_eq!(store.event(half.id).await.unwrap().unwrap().stage, Stage::Unknown);
    assert!(store.vm(vm_id(1)).await.unwrap().unwrap().gone);
    assert!(store.recount_claims().await.unwrap().is_empty(), "sums equal rows");
    assert_eq!(store.admit_create(create(3, &[1])).await.unwrap(), Admission::ClaimLost);
    let back = store.claim_host(hello(1), NOW).await.unwrap_err();
    assert!(
        matches!(back, StoreError::Refused(cause) if cause.reason == Reason::HostRetired && cause.text.contains("scrapped"))
    );
}

pub(super) async fn a_host_takes_the_place_of_another<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    store.record_report(under, report(1, &made, Outcome::success())).await.unwrap();
    join(&store, 2).await;
    let told = |old, new| Replacement { old: host_id(old), new: host_id(new), word: word("new machine") };
    let has_vms = store.replace_host(told(2, 1)).await.unwrap().unwrap_err();
    assert_eq!(has_vms.reason, Reason::HostInUse);
    let new = store.replace_host(told(1, 2)).await.unwrap().unwrap();
    assert_eq!(new.becomes, Some(host_id(1)));
    diverged(&store, hello(2)).await;
    // It has heard, and says hello under the old id, from its own journal and machine.
    let became = Hello { product_uuid: hello(2).product_uuid, ..lost(1) };
    diverged(&store, became).await;
    let vm = store.vm(VmId(vm_id(1).0)).await.unwrap().unwrap();
    assert_eq!((vm.host, vm.gone), (Some(host_id(1)), false), "its VMs are still its own");
}
