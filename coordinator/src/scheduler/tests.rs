use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use dewpoint_proto::limits::GIB;

const NOW: Millis = Millis(1_000_000);

fn host(n: u128) -> HostView {
    HostView {
        id: HostId(Uuid::from_u128(n)),
        hostname: format!("h{n}"),
        last_heartbeat: Some(NOW),
        cordoned: false,
        held: false,
        observe_only: false,
        diverged: false,
        degraded: None,
        capacity: Some(HostCapacity {
            cpus: 8,
            memory_bytes: 32 * GIB,
            memory_available_bytes: 30 * GIB,
            disk_bytes: 500 * GIB,
            disk_free_bytes: 400 * GIB,
            cpu_arch: "x86_64".into(),
            bridges: vec!["br0".parse().unwrap()],
        }),
        claims: Claims::default(),
        builds: 0,
    }
}

fn request() -> Request {
    Request {
        event: EventId(Uuid::from_u128(0xe)),
        vcpus: 2,
        memory_bytes: 2 * GIB,
        disk_bytes: 10 * GIB,
        disk_now_bytes: GIB,
        bridges: vec!["br0".parse().unwrap()],
        only_host: None,
    }
}

fn ranked(request: &Request, hosts: &[HostView]) -> Ranking {
    rank(request, hosts, &Rules::default(), NOW)
}

fn with(change: impl FnOnce(&mut HostView)) -> HostView {
    let mut host = host(1);
    change(&mut host);
    host
}

fn capacity(host: &mut HostView) -> &mut HostCapacity {
    host.capacity.as_mut().unwrap()
}

/// Each rule turns away what it is there for, and is named.
#[test]
fn each_filter_turns_away_and_says_why() {
    let table: [(&str, HostView); 14] = [
        ("alive", with(|h| h.last_heartbeat = Some(Millis(NOW.0 - 16_000)))),
        ("alive", with(|h| h.last_heartbeat = None)),
        ("alive", with(|h| h.capacity = None)),
        ("observe_only", with(|h| h.observe_only = true)),
        ("trouble", with(|h| h.diverged = true)),
        ("trouble", with(|h| h.held = true)),
        ("trouble", with(|h| h.degraded = Some("DISK_FULL".into()))),
        ("cordon", with(|h| h.cordoned = true)),
        ("bridge", with(|h| capacity(h).bridges.clear())),
        ("count", with(|h| h.claims.vms = 135)),
        ("vcpus", with(|h| h.claims.vcpus = 31)),
        ("memory", with(|h| h.claims.memory_bytes = 29 * GIB)),
        ("disk", with(|h| h.claims.disk_bytes = 495 * GIB)),
        ("disk", with(|h| capacity(h).disk_free_bytes = GIB)),
    ];
    for (filter, host) in table {
        let found = ranked(&request(), &[host]);
        assert_eq!(found.candidates, [], "{filter}");
        let verdict = &found.explanation.hosts[0];
        assert_eq!(verdict.rejected_by.as_deref(), Some(filter), "{}", verdict.text);
        assert!(!verdict.text.is_empty());
        assert_eq!(found.explanation.rejected[filter], 1);
    }
    let only = Request { only_host: Some(HostId(Uuid::from_u128(2))), ..request() };
    let found = ranked(&only, &[host(1), host(2)]);
    assert_eq!(found.candidates.iter().map(|c| c.host).collect::<Vec<_>>(), [host(2).id]);
}

#[test]
fn memory_is_counted_with_the_reserve_and_qemus_own() {
    let policy = Policy::default();
    let most = policy.most(host(1).capacity.as_ref().unwrap());
    assert_eq!(most.memory_bytes, 31 * GIB);
    let fits =
        |claimed| !ranked(&request(), &[with(|h| h.claims.memory_bytes = claimed)]).candidates.is_empty();
    let edge = most.memory_bytes - request().memory_bytes - policy.memory_overhead_bytes;
    assert!(fits(edge) && !fits(edge + 1));
}

#[test]
fn the_emptier_host_comes_first() {
    for fuller in [
        with(|h| h.claims.memory_bytes = 20 * GIB),
        with(|h| h.claims.vcpus = 20),
        with(|h| h.claims.disk_bytes = 300 * GIB),
        with(|h| h.builds = 3),
    ] {
        let found = ranked(&request(), &[fuller, host(2)]);
        assert_eq!(found.candidates[0].host, host(2).id);
        assert_eq!(found.candidates.len(), 2);
    }
}

/// Creates that come together see the same sums, and still spread.
#[test]
fn equal_hosts_are_spread_over_by_event() {
    let hosts: Vec<_> = (1..=50).map(host).collect();
    let chosen =
        |n| ranked(&Request { event: EventId(Uuid::from_u128(n)), ..request() }, &hosts).candidates[0].host;
    let first: std::collections::BTreeSet<_> = (0..200).map(chosen).collect();
    assert!(first.len() > 40, "{} of 50 hosts", first.len());
}

#[test]
fn the_explanation_of_a_large_fleet_is_short_and_counts_all() {
    let hosts: Vec<_> = (1..=15_000u128).map(|n| HostView { cordoned: n % 3 == 0, ..host(n) }).collect();
    let found = ranked(&request(), &hosts);
    assert_eq!(found.explanation.considered, 15_000);
    assert_eq!(found.explanation.rejected["cordon"], 5_000);
    assert_eq!((found.explanation.hosts.len(), found.candidates.len()), (20, 16));
    let text = serde_json::to_string(&found.explanation).unwrap();
    assert!(text.len() < 8 * 1024, "{} bytes", text.len());
    assert_eq!(serde_json::from_str::<Explanation>(&text).unwrap(), found.explanation);
}

prop_compose! {
    fn any_host(n: u128)(
        silent in 0..20_000i64, cordoned: bool, claims in (0..40u64, 0..40u64, 0..600u64, 0..140u32), builds in 0..5u32,
    ) -> HostView {
        let (vcpus, memory, disk, vms) = claims;
        HostView {
            last_heartbeat: Some(Millis(NOW.0 - silent)),
            cordoned,
            claims: Claims { vcpus, memory_bytes: memory * GIB, disk_bytes: disk * GIB, vms },
            builds,
            ..host(n)
        }
    }
}

fn any_fleet() -> impl Strategy<Value = Vec<HostView>> {
    prop::collection::vec(any_host(0), 0..60).prop_map(|mut hosts| {
        for (n, host) in (1u128..).zip(&mut hosts) {
            host.id = HostId(Uuid::from_u128(n));
        }
        hosts
    })
}

proptest! {
    /// The same input gives the same ranking again, and the order of the input does not choose.
    #[test]
    fn a_ranking_replays(hosts in any_fleet(), event: u128) {
        let request = Request { event: EventId(Uuid::from_u128(event)), ..request() };
        let found = ranked(&request, &hosts);
        prop_assert_eq!(&found, &ranked(&request, &hosts));
        let reversed: Vec<_> = hosts.iter().rev().cloned().collect();
        prop_assert_eq!(&found.candidates, &ranked(&request, &reversed).candidates);
        let turned_away: u32 = found.explanation.rejected.values().sum();
        let fits = hosts.len() - turned_away as usize;
        prop_assert_eq!(found.candidates.len(), fits.min(16));
    }

    /// What is handed to the store as a candidate fits by the sums that were seen.
    #[test]
    fn a_candidate_fits(hosts in any_fleet()) {
        for candidate in ranked(&request(), &hosts).candidates {
            let host = hosts.iter().find(|host| host.id == candidate.host).unwrap();
            prop_assert!(host.claims.vcpus + 2 <= candidate.most.vcpus);
            prop_assert!(host.claims.memory_bytes + 2 * GIB <= candidate.most.memory_bytes);
            prop_assert!(host.claims.vms < candidate.most.vms && !host.cordoned);
        }
    }
}
