//! No more VMs are destroyed in a minute than the fleet allows.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::event::Body;
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::time::Millis;

use super::Factory;
use super::fixture::*;
use crate::store::*;

/// A destroy of VM `n`, asked for so many milliseconds after the first.
fn destroy(n: u128, after: i64, limit: u32) -> ChangeAdmission {
    let mut asked = change(100 + n, n, destroy_kind());
    let event =
        dewpoint_proto::event::Event { accepted_at: Millis(NOW.0 + after), ..asked.body.event().clone() };
    asked.body = Body::encode(event).unwrap();
    ChangeAdmission { destroys_a_minute: limit, ..asked }
}

async fn some_vms<F: Factory>(factory: &F) -> F::Store {
    let store = factory.fresh();
    let under = small_world(&store).await;
    for n in 1..=6 {
        let made = assigned(&store, create(n, &[1])).await;
        let number = u64::try_from(n).unwrap();
        store.record_report(under, report(number, &made, Outcome::success())).await.unwrap();
    }
    store
}

pub(super) async fn destroys_beyond_the_limit_are_refused_for_a_minute<F: Factory>(factory: &F) {
    let store = some_vms(factory).await;
    changed(&store, destroy(1, 0, 2)).await;
    changed(&store, destroy(2, 30_000, 2)).await;
    let third = refused(store.admit_change(destroy(3, 45_000, 2)).await.unwrap());
    assert_eq!((&third.reason, third.fields["retry_after_seconds"].as_str()), (&Reason::DestroyLimit, "15"));
    assert!(third.advice.contains("destroy-limit"), "{third:?}");
    assert!(
        matches!(store.admit_change(destroy(2, 30_000, 2)).await.unwrap(), Admission::Seen(_)),
        "repeated"
    );
    let crashed = factory.after_crash(&store);
    assert_eq!(
        refused(crashed.admit_change(destroy(3, 45_000, 2)).await.unwrap()).reason,
        Reason::DestroyLimit
    );
    changed(&store, destroy(3, 60_000, 2)).await;
    assert_eq!(
        refused(store.admit_change(destroy(4, 60_001, 2)).await.unwrap()).reason,
        Reason::DestroyLimit
    );
    changed(&store, destroy(4, -3_600_000, 2)).await;
}

pub(super) async fn a_person_sets_the_limit_over_the_configured_one<F: Factory>(factory: &F) {
    let store = some_vms(factory).await;
    store.set_destroy_limit(Some(1), word("careful week")).await.unwrap();
    assert_eq!(store.fleet().await.unwrap().destroy_limit, Some(1));
    changed(&store, destroy(1, 0, 0)).await;
    assert_eq!(refused(store.admit_change(destroy(2, 1, 50)).await.unwrap()).reason, Reason::DestroyLimit);
    store.set_destroy_limit(Some(0), word("cleared out by hand")).await.unwrap();
    changed(&store, destroy(2, 2, 1)).await;
    store.set_destroy_limit(None, word("over")).await.unwrap();
    assert_eq!(refused(store.admit_change(destroy(3, 3, 2)).await.unwrap()).reason, Reason::DestroyLimit);
    changed(&store, destroy(3, 4, 3)).await;
    let acts = store.audit(About::default(), Page::first(10)).await.unwrap().items;
    let told: Vec<_> = acts.iter().map(|act| (act.act.as_str(), act.detail.as_str())).collect();
    let limit = "destroy-limit";
    assert_eq!(told, [(limit, "as configured"), (limit, "none"), (limit, "1 a minute")]);
}
