//! Promise 1 and 2 from the caller's side; one unfinished event per VM.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::event::{Cancel, Kind};
use dewpoint_proto::ids::{Generation, Seq};

use super::Factory;
use super::fixture::*;
use crate::events::stage::Stage;
use crate::store::*;

pub(super) async fn a_create_is_assigned_with_seq_generation_and_claim<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    let first = assigned(&store, create(1, &[1])).await;
    let second = assigned(&store, create(2, &[1])).await;
    assert_eq!((first.seq, second.seq), (Some(Seq(1)), Some(Seq(2))));
    assert_eq!(
        (first.stage, first.generation, first.host),
        (Stage::Assigned, Generation(1), Some(host_id(1)))
    );
    let read = store.event(first.id).await.unwrap().unwrap();
    assert_eq!(EventRecord { explanation: None, ..read }, first);
    let vm = store.vm(vm_id(1)).await.unwrap().unwrap();
    assert_eq!((vm.host, vm.unfinished, vm.wanted_on), (Some(host_id(1)), Some(first.id), true));
    let claims = claims_of(&store, 1).await;
    assert_eq!((claims.vcpus, claims.vms), (2, 2));
}

pub(super) async fn the_same_request_has_the_same_answer<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    let first = assigned(&store, create(1, &[1])).await;
    let again = store.admit_create(create(1, &[1])).await.unwrap();
    assert_eq!(again, Admission::Seen(Box::new(first)));
    assert_eq!(claims_of(&store, 1).await.vms, 1);
}

pub(super) async fn another_request_under_the_same_id_is_refused<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    assigned(&store, create(1, &[1])).await;
    let other = CreateAdmission { request: RequestDigest([99; 32]), ..create(1, &[1]) };
    assert_eq!(refused(store.admit_create(other).await.unwrap()).reason, Reason::EventIdReused);
}

pub(super) async fn a_vm_id_is_used_once<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    let twice = |event| CreateAdmission { body: body(event, 1, create_kind(spec(1))), ..create(event, &[1]) };
    assert_eq!(refused(store.admit_create(twice(2)).await.unwrap()).reason, Reason::VmExists);
    let gone = report_gone(1, &made, dewpoint_proto::outcome::Outcome::success());
    store.record_report(under, gone).await.unwrap();
    assert_eq!(refused(store.admit_create(twice(3)).await.unwrap()).reason, Reason::VmExists);
    assert_eq!(claims_of(&store, 1).await, Claims::default(), "a refusal leaves nothing behind");
}

pub(super) async fn one_unfinished_event_per_vm<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    let busy = refused(store.admit_change(change(2, 1, Kind::Start)).await.unwrap());
    assert_eq!(busy.reason, Reason::VmBusy);
    assert_eq!(busy.fields["event_id"], made.id.to_string());
    let done = report(1, &made, dewpoint_proto::outcome::Outcome::success());
    store.record_report(under, done).await.unwrap();
    let started = changed(&store, change(2, 1, Kind::Start)).await;
    assert_eq!((started.seq, started.generation), (Some(Seq(2)), Generation(2)));
    let missing = refused(store.admit_change(change(3, 9, Kind::Start)).await.unwrap());
    assert_eq!(missing.reason, Reason::VmNotFound);
}

pub(super) async fn only_destroy_and_cancel_supersede<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    let cancel = |event, target| change(event, 1, Kind::Cancel(Cancel { target }));
    let cancelling = changed(&store, cancel(2, made.id)).await;
    assert_eq!((cancelling.seq, cancelling.generation), (Some(Seq(2)), Generation(2)));
    assert_eq!(refused(store.admit_change(cancel(3, made.id)).await.unwrap()).reason, Reason::VmBusy);
    assert_eq!(refused(store.admit_change(cancel(4, cancelling.id)).await.unwrap()).reason, Reason::Invalid);
    assert_eq!(
        refused(store.admit_change(cancel(5, event_id(77))).await.unwrap()).reason,
        Reason::EventNotFound
    );
    let destroying = changed(&store, change(6, 1, destroy_kind())).await;
    assert_eq!(destroying.generation, Generation(3));
    assert_eq!(
        refused(store.admit_change(change(7, 1, destroy_kind())).await.unwrap()).reason,
        Reason::VmBusy
    );
    assert_eq!(refused(store.admit_change(change(8, 1, Kind::Start)).await.unwrap()).reason, Reason::VmBusy);
}

pub(super) async fn what_waits_is_ended_by_the_coordinator<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    for (vm, event, kind) in [(1, 11, destroy_kind()), (2, 12, Kind::Cancel(Cancel { target: event_id(2) }))]
    {
        let pending = CreateAdmission { unplaced: waiting(), ..create(vm, &[]) };
        assert!(matches!(store.admit_create(pending).await.unwrap(), Admission::Pending(_)));
        let ended = store.admit_change(change(event, vm, kind)).await.unwrap();
        let Admission::Ended(ended) = ended else { panic!("not ended: {ended:?}") };
        assert_eq!((ended.stage, ended.seq), (Stage::Succeeded, None));
        assert_eq!(store.event(event_id(vm)).await.unwrap().unwrap().stage, Stage::Cancelled);
        assert!(store.vm(vm_id(vm)).await.unwrap().unwrap().gone);
    }
    let late = store.admit_change(change(13, 2, Kind::Cancel(Cancel { target: event_id(2) }))).await.unwrap();
    assert_eq!(refused(late).reason, Reason::VmNotFound);
}

pub(super) async fn a_lost_claim_leaves_nothing<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    let mut lost = create(1, &[1]);
    lost.candidates[0].most.vcpus = 0;
    assert_eq!(store.admit_create(lost).await.unwrap(), Admission::ClaimLost);
    assert_eq!(store.event(event_id(1)).await.unwrap(), None);
    assert_eq!(store.vm(vm_id(1)).await.unwrap(), None);
    // The next candidate gets it.
    join(&store, 2).await;
    let mut second = create(1, &[1, 2]);
    second.candidates[0].most.memory_bytes = 0;
    assert_eq!(assigned(&store, second).await.host, Some(host_id(2)));
}

pub(super) async fn pending_events_are_placed_or_expire<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    for n in 1..=2 {
        let pending = CreateAdmission { unplaced: waiting(), ..create(n, &[]) };
        assert!(matches!(store.admit_create(pending).await.unwrap(), Admission::Pending(_)));
    }
    assert_eq!(store.pending(10).await.unwrap().len(), 2);
    let place = |candidates| PlaceAgain {
        event: event_id(1),
        candidates,
        explanation: Default::default(),
        pending: dewpoint_proto::cause::Cause::new(Reason::NoCapacity, "still full"),
        at: NOW,
    };
    assert_eq!(store.place_again(place(Vec::new())).await.unwrap(), Placed::StillPending);
    let why = store.event(event_id(1)).await.unwrap().unwrap().pending.unwrap();
    assert_eq!(why.text, "still full");
    let placed = store.place_again(place(vec![candidate(1)])).await.unwrap();
    let Placed::Assigned(placed) = placed else { panic!("not placed: {placed:?}") };
    assert_eq!((placed.seq, placed.generation, placed.pending), (Some(Seq(1)), Generation(1), None));
    assert_eq!(store.place_again(place(vec![candidate(1)])).await.unwrap(), Placed::NotPending);
    assert_eq!(claims_of(&store, 1).await.vms, 1);
    // What has no deadline never expires.
    assert_eq!(store.expire_pending(NOW).await.unwrap().changed, []);
    assert_eq!(store.pending(10).await.unwrap().len(), 1);
}

pub(super) async fn an_address_is_given_out_once<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    store.add_network(super::catalogue::lan()).await.unwrap().unwrap();
    let with = |n: u128, mac: u8, address: &str| {
        let lease = Lease {
            network: "lan".parse().unwrap(),
            mac: dewpoint_proto::spec::MacAddr([0x52, 0x54, 0, 0, 0, mac]),
            addresses: vec![address.parse().unwrap()],
        };
        CreateAdmission { leases: vec![lease], ..create(n, &[1]) }
    };
    let name = "lan".parse().unwrap();
    // Nothing is kept of a create that got no host.
    let nowhere = CreateAdmission { candidates: Vec::new(), ..with(9, 9, "192.0.2.5") };
    assert_eq!(store.admit_create(nowhere).await.unwrap(), Admission::ClaimLost);
    assert_eq!(store.addresses(&name).await.unwrap(), Vec::<std::net::IpAddr>::new());
    let made = assigned(&store, with(1, 1, "192.0.2.5")).await;
    for taken in [with(2, 2, "192.0.2.5"), with(3, 1, "192.0.2.6")] {
        assert!(matches!(store.admit_create(taken).await.unwrap(), Admission::LeaseTaken(_)));
    }
    assert_eq!(store.addresses(&name).await.unwrap(), ["192.0.2.5".parse::<std::net::IpAddr>().unwrap()]);
    let gone = report_gone(1, &made, dewpoint_proto::outcome::Outcome::success());
    let recorded = store.record_report(under, gone).await.unwrap();
    assert_eq!(recorded.released, [(name, "192.0.2.5".parse().unwrap())]);
    assigned(&store, with(4, 1, "192.0.2.5")).await;
}
