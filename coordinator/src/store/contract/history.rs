//! Finished events move out of the way of those under way, and nobody notices.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{ReportSeq, Seq};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::time::Millis;

use super::Factory;
use super::fixture::*;
use crate::events::stage::{ForcedAs, Stage};
use crate::store::*;

const LATER: Millis = Millis(NOW.0 + 1_000_000);

async fn every_event(store: &impl Store, filter: &EventFilter) -> Vec<EventRecord> {
    let (mut all, mut page) = (Vec::new(), Some(Page::first(2)));
    while let Some(this) = page {
        let found = store.events(filter.clone(), this.clone()).await.unwrap();
        all.extend(found.items);
        page = found.next.map(|token| this.at(token));
    }
    all
}

/// Three VMs on a host: created, and the second one destroyed.
async fn some_history(store: &impl Store) -> (Under, Vec<EventRecord>) {
    let under = small_world(store).await;
    let mut made = Vec::new();
    for n in 1..=3 {
        made.push(assigned(store, create(n, &[1])).await);
    }
    made.push(changed(store, change(4, 2, destroy_kind())).await);
    store.accepted_up_to(under, Seq(4)).await.unwrap();
    store.record_report(under, report(1, &made[0], Outcome::success())).await.unwrap();
    store.record_report(under, report(2, &made[1], Outcome::success())).await.unwrap();
    store.record_report(under, report_gone(3, &made[3], Outcome::success())).await.unwrap();
    (under, made)
}

pub(super) async fn what_was_moved_is_found_as_before<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let (_, made) = some_history(&store).await;
    let filters = [
        EventFilter::default(),
        EventFilter { vm: Some(vm_id(2)), ..Default::default() },
        EventFilter { host: Some(host_id(1)), ..Default::default() },
        EventFilter { event: Some(event_id(2)), ..Default::default() },
        EventFilter { unfinished_only: true, ..Default::default() },
    ];
    let mut before = Vec::new();
    for filter in &filters {
        before.push(every_event(&store, filter).await);
    }
    assert_eq!(store.move_finished(Millis(NOW.0 - 1), LATER).await.unwrap(), 0, "not before its time");
    assert_eq!(store.move_finished(NOW, LATER).await.unwrap(), 3);
    assert_eq!(store.move_finished(NOW, LATER).await.unwrap(), 0);
    for (filter, before) in filters.iter().zip(before) {
        assert_eq!(every_event(&store, filter).await, before, "{filter:?}");
    }

    // Idempotency holds for good.
    assert!(matches!(store.admit_create(create(1, &[1])).await.unwrap(), Admission::Seen(_)));
    let other = CreateAdmission { request: RequestDigest([99; 32]), ..create(1, &[1]) };
    assert_eq!(refused(store.admit_create(other).await.unwrap()).reason, Reason::EventIdReused);
    assert_eq!(store.seen(event_id(2)).await.unwrap().unwrap().0, create(2, &[]).request);
    // A new one is the newest, and the queue goes on.
    let next = assigned(&store, create(5, &[1])).await;
    assert_eq!(next.seq, Some(Seq(5)));
    let all = every_event(&store, &EventFilter::default()).await;
    assert_eq!(all.iter().map(|event| event.id).collect::<Vec<_>>(), [5, 4, 3, 2, 1].map(event_id));
    // The logs still match at what was moved.
    let back =
        Hello { last_seq: Seq(4), last_seq_event: Some(made[3].id), last_report: ReportSeq(3), ..hello(1) };
    assert!(matches!(store.claim_host(back, NOW).await.unwrap(), HostClaim::Matched { .. }));
}

pub(super) async fn what_its_host_has_not_taken_stays_to_be_delivered<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    changed(&store, change(2, 1, destroy_kind())).await;
    let word = word("gone for weeks");
    store.force_event(Forcing { event: made.id, ends: ForcedAs::Unknown, word }).await.unwrap().unwrap();
    assert_eq!(store.move_finished(LATER, LATER).await.unwrap(), 0);
    let queue = store.deliverable(host_id(1), Seq(0), 10).await.unwrap();
    assert_eq!(queue.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [Seq(1), Seq(2)]);
    store.accepted_up_to(under, Seq(1)).await.unwrap();
    assert_eq!(store.move_finished(LATER, LATER).await.unwrap(), 1);
    assert_eq!(store.deliverable(host_id(1), Seq(1), 10).await.unwrap().len(), 1);
}

pub(super) async fn what_comes_late_reaches_what_was_moved<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let (under, made) = some_history(&store).await;
    store.move_finished(LATER, LATER).await.unwrap();
    let expired = Outcome::Expired(Cause::new(Reason::Expired, "late"));
    store.record_report(under, report(4, &made[0], expired.clone())).await.unwrap();
    let event = store.event(made[0].id).await.unwrap().unwrap();
    assert_eq!((event.stage, event.contradicted_by), (Stage::Succeeded, Some(expired)));
    // And a retry of it is found from there.
    let mut retry = change(6, 1, dewpoint_proto::event::Kind::Start);
    let mut event = retry.body.event().clone();
    event.retry_of = Some(made[0].id);
    retry.body = dewpoint_proto::event::Body::encode(event).unwrap();
    changed(&store, retry).await;
    assert_eq!(store.event(made[0].id).await.unwrap().unwrap().retried_by, Some(event_id(6)));
}

pub(super) async fn bodies_go_after_a_time_and_the_rest_stays<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let (_, made) = some_history(&store).await;
    store.move_finished(NOW, LATER).await.unwrap();
    assert_eq!(store.forget_bodies(NOW).await.unwrap(), 0, "kept from the move on");
    assert_eq!(store.forget_bodies(LATER).await.unwrap(), 3);
    assert_eq!(store.forget_bodies(LATER).await.unwrap(), 0);
    let event = store.event(made[0].id).await.unwrap().unwrap();
    assert_eq!((event.body, event.explanation, event.stage), (None, None, Stage::Succeeded));
    assert!(store.event(made[2].id).await.unwrap().unwrap().body.is_some(), "not of what is under way");
    assert!(matches!(store.admit_create(create(1, &[1])).await.unwrap(), Admission::Seen(_)), "digests stay");
}
