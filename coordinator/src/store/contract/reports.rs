//! Reports: stored once, in order; a claim goes by proof alone (promise 11).

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Kind, Snapshot};
use dewpoint_proto::ids::{Generation, ReportSeq, Seq};
use dewpoint_proto::outcome::{Outcome, Succeeded};
use dewpoint_proto::spec::{ImageDigest, ImageRef};
use dewpoint_proto::vm_state::Power;

use super::Factory;
use super::fixture::*;
use crate::events::stage::Stage;
use crate::store::*;

pub(super) async fn a_report_is_stored_once<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    let first = store.record_report(under, report(1, &made, Outcome::success())).await.unwrap();
    assert_eq!((first.acked, first.changed.len()), (ReportSeq(1), 1));
    let twice = store.record_report(under, report(1, &made, Outcome::success())).await.unwrap();
    assert_eq!((twice.acked, twice.changed.len()), (ReportSeq(1), 0));
    let event = store.event(made.id).await.unwrap().unwrap();
    assert_eq!((event.stage, event.outcome), (Stage::Succeeded, Some(Outcome::success())));
    assert_eq!(store.vm(made.vm).await.unwrap().unwrap().unfinished, None);
}

pub(super) async fn a_gap_is_refused<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let first = assigned(&store, create(1, &[1])).await;
    let second = assigned(&store, create(2, &[1])).await;
    // A host may have told its first reports to another coordinator.
    store.record_report(under, report(5, &first, Outcome::success())).await.unwrap();
    let gap = store.record_report(under, report(7, &second, Outcome::success())).await;
    assert!(matches!(gap, Err(StoreError::Refused(_))), "{gap:?}");
    assert_eq!(store.event(second.id).await.unwrap().unwrap().stage, Stage::Assigned);
    let next = store.record_report(under, report(6, &second, Outcome::success())).await.unwrap();
    assert_eq!(next.acked, ReportSeq(6));
}

pub(super) async fn only_proof_releases_the_claim<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    let failed = Outcome::Failed(Cause::new(Reason::StorageError, "no"));
    // It failed, and says nothing of being gone: something of it may be there.
    store.record_report(under, report(1, &made, failed.clone())).await.unwrap();
    let mut gone = state(1, 2, Power::Absent);
    gone.gone = true;
    store.observe_vms(under, vec![gone]).await.unwrap();
    assert_eq!(claims_of(&store, 1).await.vms, 1, "neither a failure nor a heartbeat is the proof");
    let destroyed = changed(&store, change(2, 1, destroy_kind())).await;
    let recorded = store.record_report(under, report_gone(2, &destroyed, Outcome::success())).await.unwrap();
    assert_eq!(recorded.freed.vms, 1);
    assert_eq!(claims_of(&store, 1).await, Claims::default());
    let vm = store.vm(vm_id(1)).await.unwrap().unwrap();
    assert_eq!((vm.gone, vm.host, vm.last_host), (true, None, Some(host_id(1))));
}

pub(super) async fn a_late_report_that_differs_is_kept<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    store.record_report(under, report(1, &made, Outcome::success())).await.unwrap();
    let expired = Outcome::Expired(Cause::new(Reason::Expired, "late"));
    let recorded = store.record_report(under, report(2, &made, expired.clone())).await.unwrap();
    assert!(recorded.contradiction.is_some());
    let event = store.event(made.id).await.unwrap().unwrap();
    assert_eq!((event.stage, event.contradicted_by), (Stage::Succeeded, Some(expired)));
}

pub(super) async fn a_snapshot_comes_into_the_catalogue<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    store.record_report(under, report(1, &made, Outcome::success())).await.unwrap();
    let name = "web-1".parse().unwrap();
    let kind = Kind::Snapshot(Snapshot { image_name: Some(name) });
    let event = changed(&store, change(2, 1, kind)).await;
    let digest = ImageDigest([9; 32]);
    let image = ImageRef { digest, size_bytes: 5, virtual_size_bytes: 1 << 30, local_path: None };
    let done = Outcome::Succeeded(Succeeded { image: Some(image), note: String::new() });
    store.record_report(under, report(2, &event, done.clone())).await.unwrap();
    let found = store.image(ImageSelector::Name("web-1".parse().unwrap())).await.unwrap().unwrap();
    assert_eq!((found.digest, found.made_by), (digest, Some((event.id, vm_id(1)))));

    store.remove_image(ImageSelector::Digest(digest)).await.unwrap().unwrap();
    let again = changed(&store, change(3, 1, Kind::Snapshot(Snapshot { image_name: None }))).await;
    let removed = HostReport { image_bytes: ImageBytes::Removed, ..report(3, &again, done) };
    store.record_report(under, removed).await.unwrap();
    assert_eq!(store.event(again.id).await.unwrap().unwrap().stage, Stage::Succeeded);
    assert_eq!(store.image(ImageSelector::Digest(digest)).await.unwrap(), None, "no row without bytes");
}

pub(super) async fn what_was_made_on_the_host_gets_its_rows<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let local = HostReport {
        report_seq: ReportSeq(1),
        event: event_id(1),
        seq: None,
        generation: Generation(4),
        outcome: Outcome::success(),
        vm: Some(state(1, 1, Power::Running)),
        body: Some(body(1, 1, create_kind(spec(1)))),
        begun_at: Some(NOW),
        finished_at: NOW,
        image_bytes: ImageBytes::Here,
    };
    let recorded = store.record_report(under, local.clone()).await.unwrap();
    assert_eq!((recorded.gained.vms, recorded.contradiction), (1, None));
    let event = store.event(event_id(1)).await.unwrap().unwrap();
    assert_eq!((event.stage, event.host, event.seq), (Stage::Succeeded, Some(host_id(1)), None));
    assert_eq!(store.recount_claims().await.unwrap(), []);
    let next = changed(&store, change(2, 1, destroy_kind())).await;
    assert_eq!((next.generation, next.seq), (Generation(5), Some(Seq(1))), "the maximum is taken");
    let unknown = HostReport { report_seq: ReportSeq(2), event: event_id(9), body: None, ..local };
    let odd = store.record_report(under, unknown).await.unwrap();
    assert!(odd.contradiction.is_some() && odd.acked == ReportSeq(2), "acknowledged, and said");
}

pub(super) async fn a_destroyed_vm_that_its_host_built_again_lives_again<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    store.record_report(under, report(1, &made, Outcome::success())).await.unwrap();
    let destroyed = changed(&store, change(2, 1, destroy_kind())).await;
    store.record_report(under, report_gone(2, &destroyed, Outcome::success())).await.unwrap();
    assert!(store.vm(vm_id(1)).await.unwrap().unwrap().gone);

    let again = HostReport {
        report_seq: ReportSeq(3),
        event: event_id(3),
        seq: None,
        generation: Generation(7),
        outcome: Outcome::success(),
        vm: Some(state(1, 3, Power::Running)),
        body: Some(body(3, 1, create_kind(spec(1)))),
        begun_at: Some(NOW),
        finished_at: NOW,
        image_bytes: ImageBytes::Here,
    };
    let recorded = store.record_report(under, again).await.unwrap();
    assert_eq!((recorded.gained.vms, recorded.contradiction), (1, None));
    let vm = store.vm(vm_id(1)).await.unwrap().unwrap();
    assert_eq!((vm.gone, vm.host, vm.generation), (false, Some(host_id(1)), Generation(7)));
    assert_eq!(vm.observed.map(|seen| seen.power), Some(Power::Running));
    assert_eq!(store.recount_claims().await.unwrap(), []);
    let next = changed(&store, change(4, 1, destroy_kind())).await;
    assert_eq!(next.generation, Generation(8), "it can be changed as any other");
}

pub(super) async fn older_states_are_passed_over<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    assigned(&store, create(1, &[1])).await;
    let take = |state| store.observe_vms(under, vec![state]);
    assert_eq!(take(state(1, 5, Power::Running)).await.unwrap().changed, [vm_id(1)]);
    assert_eq!(take(state(1, 4, Power::Off)).await.unwrap(), Observed::default());
    assert_eq!(take(state(1, 5, Power::Running)).await.unwrap(), Observed::default(), "nothing new");
    let vm = store.vm(vm_id(1)).await.unwrap().unwrap();
    assert_eq!(vm.observed.unwrap().power, Power::Running);
    assert_eq!(take(state(8, 6, Power::Running)).await.unwrap().foreign, [vm_id(8)]);
}
