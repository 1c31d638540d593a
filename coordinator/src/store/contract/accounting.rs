//! Claims: never more than allowed, always the sum of the rows.

use dewpoint_proto::limits::GIB;
use dewpoint_proto::outcome::Outcome;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::Factory;
use super::fixture::*;
use crate::store::*;

#[derive(Clone, Debug)]
enum Act {
    Create { vcpus: u32, memory: u64, first: u128 },
    Gone(prop::sample::Index),
    Waits { vcpus: u32 },
    PlaceAgain(prop::sample::Index),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (1..6u32, 1..5u64, 1..3u128).prop_map(|(vcpus, memory, first)| Act::Create { vcpus, memory, first }),
        2 => any::<prop::sample::Index>().prop_map(Act::Gone),
        1 => (1..6u32).prop_map(|vcpus| Act::Waits { vcpus }),
        1 => any::<prop::sample::Index>().prop_map(Act::PlaceAgain),
    ];
    prop::collection::vec(act, 1..40)
}

/// Random creates, ends and late placements on two hosts, against the rows themselves.
pub(super) async fn claims_never_exceed_and_sums_equal_rows<F: Factory>(factory: &F) {
    // Proptest calls back without async: each case gets a runtime of its own, on a thread that has none.
    std::thread::scope(|scope| scope.spawn(|| random_plays(factory)).join().unwrap());
}

fn random_plays<F: Factory>(factory: &F) {
    let mut runner = TestRunner::new(ProptestConfig { cases: 24, ..ProptestConfig::default() });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runner
        .run(&acts(), |acts| {
            runtime.block_on(play(factory, acts));
            Ok(())
        })
        .unwrap();
}

async fn play<F: Factory>(factory: &F, acts: Vec<Act>) {
    let store = factory.fresh();
    with_image(&store).await;
    let unders = [join(&store, 1).await, join(&store, 2).await];
    let mut placed: Vec<EventRecord> = Vec::new();
    let mut waits: Vec<u128> = Vec::new();
    let mut reports = [0, 0];
    for (n, act) in (1u128..).zip(acts) {
        match act {
            Act::Create { vcpus, memory, first } => {
                let mut new = create(n, &[first, 3 - first]);
                new.body = sized(n, vcpus, memory);
                if let Admission::Assigned(record) = store.admit_create(new).await.unwrap() {
                    placed.push(*record);
                }
            }
            Act::Waits { vcpus } => {
                let new = CreateAdmission { body: sized(n, vcpus, 1), unplaced: waiting(), ..create(n, &[]) };
                store.admit_create(new).await.unwrap();
                waits.push(n);
            }
            Act::Gone(which) if !placed.is_empty() => {
                let event = placed.swap_remove(which.index(placed.len()));
                let at = usize::from(event.host == Some(host_id(2)));
                reports[at] += 1;
                store
                    .record_report(unders[at], report_gone(reports[at], &event, Outcome::success()))
                    .await
                    .unwrap();
            }
            Act::PlaceAgain(which) if !waits.is_empty() => {
                let event = waits[which.index(waits.len())];
                let again = PlaceAgain {
                    event: event_id(event),
                    candidates: vec![candidate(1), candidate(2)],
                    explanation: Default::default(),
                    pending: dewpoint_proto::cause::Cause::new(
                        dewpoint_proto::cause::Reason::NoCapacity,
                        "full",
                    ),
                    at: NOW,
                };
                if let Placed::Assigned(record) = store.place_again(again).await.unwrap() {
                    placed.push(*record);
                }
            }
            Act::Gone(_) | Act::PlaceAgain(_) => {}
        }
        check(&store, &placed).await;
    }
}

fn sized(n: u128, vcpus: u32, memory: u64) -> dewpoint_proto::event::Body {
    let spec = dewpoint_proto::spec::VmSpec { vcpus, memory_bytes: memory * GIB, ..spec(n) };
    body(n, n, create_kind(spec))
}

async fn check(store: &impl Store, placed: &[EventRecord]) {
    assert_eq!(store.recount_claims().await.unwrap(), [], "the sums equal the rows");
    for host in [1, 2] {
        let (claims, most) = (claims_of(store, host).await, candidate(host).most);
        assert!(claims.vcpus <= most.vcpus && claims.memory_bytes <= most.memory_bytes, "{claims:?}");
        let there = placed.iter().filter(|event| event.host == Some(host_id(host))).count();
        assert_eq!(claims.vms as usize, there);
    }
}

pub(super) async fn a_cordoned_or_held_host_gets_nothing<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    store.set_cordon(host_id(1), Switch::On, word("disk is worn")).await.unwrap().unwrap();
    assert_eq!(store.admit_create(create(1, &[1])).await.unwrap(), Admission::ClaimLost);
    store.set_cordon(host_id(1), Switch::Off, word("")).await.unwrap().unwrap();
    store.set_hold(HoldScope::Host(host_id(1)), Switch::On, word("")).await.unwrap().unwrap();
    assert_eq!(store.admit_create(create(1, &[1])).await.unwrap(), Admission::ClaimLost);
    store.set_hold(HoldScope::Host(host_id(1)), Switch::Off, word("")).await.unwrap().unwrap();
    assigned(&store, create(1, &[1])).await;
}

pub(super) async fn no_more_than_the_most_vms<F: Factory>(factory: &F) {
    let store = factory.fresh();
    small_world(&store).await;
    let roomy = |n| {
        let mut new = create(n, &[1]);
        new.candidates[0].most =
            Claims { vcpus: 10_000, memory_bytes: 10_000 * GIB, disk_bytes: 10_000 * GIB, vms: 1000 };
        new
    };
    for n in 1..=135 {
        assigned(&store, roomy(n)).await;
    }
    assert_eq!(store.admit_create(roomy(136)).await.unwrap(), Admission::ClaimLost);
}
