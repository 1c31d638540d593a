//! Promise 1: what was answered is there when the process is killed right after the answer.

use dewpoint_proto::event::Kind;
use dewpoint_proto::ids::Seq;
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::vm_state::Power;

use super::Factory;
use super::catalogue::lan;
use super::fixture::*;
use crate::events::stage::ForcedAs;
use crate::store::*;

/// All that can be read.
async fn dump(store: &impl Store) -> String {
    let page = || Page::first(1000);
    let vms = VmFilter { include_gone: true, ..VmFilter::default() };
    format!(
        "{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}\n{:#?}",
        store.events(EventFilter::default(), page()).await.unwrap(),
        store.vms(vms, page()).await.unwrap(),
        store.hosts(page()).await.unwrap(),
        store.images(page()).await.unwrap(),
        store.networks(page()).await.unwrap(),
        store.addresses(&lan().name).await.unwrap(),
        store.fleet().await.unwrap(),
        store.audit(About::default(), page()).await.unwrap(),
    )
}

fn retired() -> AuditEntry {
    AuditEntry { act: Act::Retire, about: About::default(), detail: String::new(), word: word("e") }
}

/// After each transition, the crashed twin has what the living one has, and the transition changed something.
pub(super) async fn what_was_answered_is_there_after_a_crash<F: Factory>(factory: &F) {
    let store = factory.fresh();
    let mut before = dump(&store).await;
    macro_rules! then {
        ($transition:expr) => {{
            let answer = $transition.await;
            let alive = dump(&store).await;
            assert_ne!(alive, before, "{} changed nothing", stringify!($transition));
            assert_eq!(dump(&factory.after_crash(&store)).await, alive, "{}", stringify!($transition));
            before = alive;
            answer
        }};
    }
    then!(with_image(&store));
    let under = then!(join(&store, 1));
    then!(store.add_network(lan())).unwrap().unwrap();
    then!(
        store
            .record_heartbeat(under, HostFacts { capacity: Some(HostCapacity::default()), degraded: vec![] })
    )
    .unwrap();
    let made = then!(assigned(&store, create(1, &[1])));
    then!(store.accepted_up_to(under, Seq(1))).unwrap();
    then!(store.record_running(under, vec![made.id])).unwrap();
    then!(store.observe_vms(under, vec![state(1, 0, Power::Running)])).unwrap();
    then!(store.record_report(under, report(1, &made, Outcome::success()))).unwrap();
    then!(changed(&store, change(2, 1, Kind::Start)));
    let destroyed = then!(changed(&store, change(3, 1, destroy_kind())));
    then!(store.record_report(under, report_gone(2, &destroyed, Outcome::success()))).unwrap();
    let pending = CreateAdmission { unplaced: waiting(), ..create(4, &[]) };
    then!(store.admit_create(pending)).unwrap();
    let again = PlaceAgain {
        event: event_id(4),
        candidates: vec![candidate(1)],
        explanation: Default::default(),
        pending: dewpoint_proto::cause::Cause::new(dewpoint_proto::cause::Reason::NoCapacity, "full"),
        at: NOW,
    };
    then!(store.place_again(again)).unwrap();
    then!(store.set_cordon(host_id(1), Switch::On, word("a"))).unwrap().unwrap();
    then!(store.set_hold(HoldScope::Fleet, Switch::On, word("b"))).unwrap().unwrap();
    then!(store.set_hold(HoldScope::Host(host_id(1)), Switch::On, word("c"))).unwrap().unwrap();
    let silent = Forcing { event: event_id(4), ends: ForcedAs::Unknown, word: word("silent") };
    then!(store.accepted_up_to(under, Seq(4))).unwrap();
    then!(store.force_event(silent)).unwrap().unwrap();
    // Only when nothing is to be seen of a move is the next change one.
    let moved = store.move_finished(NOW, NOW).await.unwrap();
    assert!(moved > 1 && dump(&factory.after_crash(&store)).await == before, "{moved} were moved");
    then!(store.forget_bodies(NOW)).unwrap();
    then!(store.set_destroy_limit(Some(5), word("f"))).unwrap();
    then!(store.record_act(retired())).unwrap();
    then!(store.remove_network(lan().name)).unwrap().unwrap();
    then!(store.claim_host(Hello { last_seq: Seq(9), ..hello(3) }, NOW)).unwrap();
    then!(store.end_recovery(word("d"))).unwrap();
    let _ = before;
}
