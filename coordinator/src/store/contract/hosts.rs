//! Terms, matching, switches.

use dewpoint_proto::cause::Reason;
use dewpoint_proto::event::Kind;
use dewpoint_proto::ids::{JournalId, ReportSeq, Seq};
use dewpoint_proto::outcome::Outcome;

use super::Factory;
use super::fixture::*;
use crate::events::stage::Stage;
use crate::store::*;

/// Promise 11: two coordinators never both own a host's queue.
pub(super) async fn a_lost_term_writes_nothing<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let old = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    let new = join(&store, 1).await;
    assert!(new.term > old.term);
    let lost = StoreError::TermLost { host: old.host, term: old.term };
    assert_eq!(store.accepted_up_to(old, Seq(1)).await.unwrap_err(), lost);
    assert_eq!(store.record_running(old, vec![made.id]).await.unwrap_err(), lost);
    assert_eq!(store.record_report(old, report(1, &made, Outcome::success())).await.unwrap_err(), lost);
    assert_eq!(store.observe_vms(old, Vec::new()).await.unwrap_err(), lost);
    assert_eq!(store.record_heartbeat(old, HostFacts::default()).await.unwrap_err(), lost);
    assert_eq!(store.event(made.id).await.unwrap().unwrap().stage, Stage::Assigned);
    store.accepted_up_to(new, Seq(1)).await.unwrap();
    store.record_running(new, vec![made.id]).await.unwrap();
    assert_eq!(store.event(made.id).await.unwrap().unwrap().stage, Stage::Running);
}

pub(super) async fn a_diverged_host_is_refused_events<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    store.record_report(under, report(1, &made, Outcome::success())).await.unwrap();
    let lost = Hello { journal: JournalId(uuid::Uuid::from_u128(5)), ..hello(1) };
    let HostClaim::Diverged { term, cause } = store.claim_host(lost, NOW).await.unwrap() else {
        panic!("a lost journal diverges");
    };
    assert_eq!(cause.reason, Reason::Diverged);
    let busy = refused(store.admit_change(change(2, 1, Kind::Start)).await.unwrap());
    assert_eq!(busy.reason, Reason::Diverged);
    assert_eq!(store.admit_create(create(3, &[1])).await.unwrap(), Admission::ClaimLost);
    let told = store.record_report(Under { term, ..under }, report(2, &made, Outcome::success())).await;
    assert!(matches!(told, Err(StoreError::Refused(cause)) if cause.reason == Reason::Diverged));
    // The old journal comes back, as when the right disk is put in again.
    let back =
        Hello { last_seq: Seq(1), last_seq_event: Some(made.id), last_report: ReportSeq(1), ..hello(1) };
    assert!(matches!(store.claim_host(back, NOW).await.unwrap(), HostClaim::Matched { after: Seq(1), .. }));
    assert_eq!(store.host(host_id(1)).await.unwrap().unwrap().diverged, None);
}

pub(super) async fn recovery_ends_by_a_persons_word<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    let ahead =
        Hello { last_seq: Seq(7), last_seq_event: Some(event_id(70)), last_report: ReportSeq(5), ..hello(2) };
    assert!(matches!(store.claim_host(ahead.clone(), NOW).await.unwrap(), HostClaim::Diverged { .. }));
    assert!(store.fleet().await.unwrap().recovering.is_some());
    let nowhere = refused(store.admit_create(create(1, &[1])).await.unwrap());
    assert_eq!(nowhere.reason, Reason::Diverged, "no placement on any host");
    store.end_recovery(word("compared")).await.unwrap();
    assert!(store.fleet().await.unwrap().recovering.is_none());
    let claim = store.claim_host(ahead, NOW).await.unwrap();
    assert!(matches!(claim, HostClaim::Matched { after: Seq(7), .. }), "{claim:?}");
    let made = assigned(&store, create(1, &[2])).await;
    assert_eq!(made.seq, Some(Seq(8)), "its queue goes on without a gap");
}

pub(super) async fn hold_and_cordon_are_kept<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    let unknown = store.set_cordon(host_id(9), Switch::On, word("smoke")).await.unwrap().unwrap_err();
    assert_eq!(unknown.reason, Reason::HostNotFound);
    store.set_cordon(host_id(1), Switch::On, word("smoke")).await.unwrap().unwrap();
    assert_eq!(store.set_hold(HoldScope::Fleet, Switch::On, word("smoke")).await.unwrap(), Ok(1));
    join(&store, 1).await;
    let host = store.host(host_id(1)).await.unwrap().unwrap();
    assert_eq!((host.cordoned.as_deref(), host.held), (Some("smoke"), None));
    assert_eq!(store.fleet().await.unwrap().held.as_deref(), Some("smoke"));
}

/// An acknowledgement that was lost: the hello says the same again.
pub(super) async fn acceptance_is_taken_from_hello<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let under = small_world(&store).await;
    let made = assigned(&store, create(1, &[1])).await;
    assert!(store.accepted_up_to(under, Seq(2)).await.is_err(), "more than was ever given out");
    let again = Hello { last_seq: Seq(1), last_seq_event: Some(made.id), ..hello(1) };
    let HostClaim::Matched { after, changed, .. } = store.claim_host(again, NOW).await.unwrap() else {
        panic!("it matches");
    };
    assert_eq!((after, changed.len()), (Seq(1), 1));
    assert_eq!(store.event(made.id).await.unwrap().unwrap().stage, Stage::Accepted);
    assert_eq!(store.host(host_id(1)).await.unwrap().unwrap().accepted_seq, Seq(1));
}
