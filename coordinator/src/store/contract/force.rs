//! A person answers for a silent host: the event ends, the claim stands, and what the host says later is kept.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::event::{Cancel, Kind};
use dewpoint_proto::ids::Seq;
use dewpoint_proto::outcome::Outcome;

use super::Factory;
use super::fixture::*;
use crate::events::stage::{ForcedAs, Stage};
use crate::store::*;

fn forcing(event: u128, ends: ForcedAs) -> Forcing {
    Forcing { event: event_id(event), ends, word: word("the rack burnt") }
}

pub(super) async fn a_person_answers_for_a_silent_host<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    store.accepted_up_to(under, Seq(1)).await.unwrap();
    let forced = store.force_event(forcing(1, ForcedAs::Failed)).await.unwrap().unwrap();
    assert_eq!((forced.stage, forced.forced.clone()), (Stage::Failed, Some(word("the rack burnt"))));
    let cause = forced.outcome.as_ref().and_then(Outcome::cause).cloned().unwrap();
    assert!(cause.reason == Reason::Forced && cause.text.contains("ann") && cause.text.contains("burnt"));
    assert_eq!(claims_of(&store, 1).await.vms, 1, "nobody's word on an event frees what the host may hold");
    let about = About { event: Some(made.id), ..About::default() };
    let acts = store.audit(about, Page::first(10)).await.unwrap().items;
    assert_eq!((acts.len(), acts[0].act.as_str(), acts[0].about.host), (1, "force", Some(host_id(1))));
    assert_eq!(acts[0].detail, "create of vm-1 was accepted, now failed");

    let again = store.force_event(forcing(1, ForcedAs::Succeeded)).await.unwrap().unwrap_err();
    assert_eq!(again.reason, Reason::TooLate);
    assert_eq!(
        store.force_event(forcing(9, ForcedAs::Failed)).await.unwrap().unwrap_err().reason,
        Reason::EventNotFound
    );

    // The VM takes other events, and the host's own word is kept when it comes after all.
    changed(&store, change(2, 1, Kind::Start)).await;
    let late = store.record_report(under, report(1, &made, Outcome::success())).await.unwrap();
    assert!(late.contradiction.is_some());
    let event = store.event(made.id).await.unwrap().unwrap();
    assert_eq!((event.stage, event.contradicted_by), (Stage::Failed, Some(Outcome::success())));
}

pub(super) async fn what_its_host_would_still_carry_out_is_cancelled_first<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    let queued = store.force_event(forcing(1, ForcedAs::Failed)).await.unwrap().unwrap_err();
    assert!(queued.reason == Reason::WrongStage && queued.advice.contains("cancel"), "{queued:?}");
    changed(&store, change(2, 1, Kind::Cancel(Cancel { target: made.id }))).await;
    for event in [1, 2] {
        let forced = store.force_event(forcing(event, ForcedAs::Unknown)).await.unwrap().unwrap();
        assert_eq!((forced.stage, forced.outcome), (Stage::Unknown, None));
    }
    assert_eq!(store.vm(made.vm).await.unwrap().unwrap().unfinished, None);
    let queue = store.deliverable(host_id(1), Seq(0), 10).await.unwrap();
    assert_eq!(queue.len(), 2, "the host is still told of both, in order");
    let found_out = store.force_event(forcing(1, ForcedAs::Succeeded)).await.unwrap().unwrap();
    assert_eq!(
        (found_out.stage, found_out.unknown),
        (Stage::Succeeded, None),
        "what nobody knew may be found out"
    );
    let pending = CreateAdmission { unplaced: waiting(), ..create(3, &[]) };
    store.admit_create(pending).await.unwrap();
    let nobody = store.force_event(forcing(3, ForcedAs::Failed)).await.unwrap().unwrap_err();
    assert_eq!(nobody.reason, Reason::WrongStage);
}

pub(super) async fn a_forced_vm_is_freed_by_its_hosts_proof<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    store.record_report(under, report(1, &made, Outcome::success())).await.unwrap();
    let destroy = changed(&store, change(2, 1, destroy_kind())).await;
    store.accepted_up_to(under, Seq(2)).await.unwrap();
    store.force_event(forcing(2, ForcedAs::Succeeded)).await.unwrap().unwrap();
    assert!(!store.vm(made.vm).await.unwrap().unwrap().gone, "a destroy is not proven by a word");
    let late = store.record_report(under, report_gone(2, &destroy, Outcome::success())).await.unwrap();
    assert_eq!((late.contradiction, late.freed.vms), (None, 1));
    assert!(store.vm(made.vm).await.unwrap().unwrap().gone);
}
