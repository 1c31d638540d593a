//! What is in force is looked up, and set again when somebody else took it away.

use std::time::{Duration, Instant};

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::VmId;

use super::wire::{Wire, nft};
use crate::network::nft::{Nft, NftSettings};
use crate::network::{Allowed, Rules, Seen, Shield, Survey, tap_name};

/// Two NICs; addresses in an order of their own.
fn rules(vm: VmId) -> Vec<Allowed> {
    let addresses = ["2001:db8::7/64", "192.0.2.7/24", "192.0.2.3/28"];
    vec![
        Allowed {
            tap: tap_name(vm, 0),
            mac: "52:54:00:ab:cd:ef".parse().unwrap(),
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        },
        Allowed { tap: tap_name(vm, 1), mac: "52:54:00:ab:cd:00".parse().unwrap(), addresses: Vec::new() },
    ]
}

#[tokio::test]
async fn rules_are_seen_as_they_were_set_and_gone_when_cleared() {
    let Some(Wire { nft: shield, vm, .. }) = Wire::new() else { return };
    let neighbour = VmId::fresh();
    assert_eq!(shield.observe(vm).await, Seen::Absent);
    shield.clear(vm).await.expect("clearing is repeatable");
    assert_eq!(nft("list ruleset"), "", "and makes nothing");

    shield.set(neighbour, &rules(neighbour)).await.unwrap();
    assert_eq!(shield.observe(vm).await, Seen::Absent);
    shield.set(vm, &rules(vm)).await.unwrap();
    assert_eq!(shield.observe(vm).await, Seen::There(rules(vm)));

    let before = nft("-a list ruleset");
    shield.set(vm, &rules(vm)).await.unwrap();
    assert_eq!(nft("-a list ruleset"), before, "setting is repeatable");

    shield.clear(vm).await.unwrap();
    assert_eq!(shield.observe(vm).await, Seen::Absent);
    assert!(!nft("list ruleset").contains(tap_name(vm, 0).as_str()));
    assert_eq!(shield.observe(neighbour).await, Seen::There(rules(neighbour)));
}

#[tokio::test]
async fn what_others_do_to_the_table_is_seen_and_mended() {
    let Some(Wire { nft: shield, vm, .. }) = Wire::new() else { return };
    let tap = tap_name(vm, 0);
    let damage = [
        ("flush ruleset".to_owned(), Seen::Absent),
        ("delete table bridge dewpoint".to_owned(), Seen::Absent),
        ("flush set bridge dewpoint macs".to_owned(), Seen::There(Vec::new())),
        ("flush chain bridge dewpoint guard".to_owned(), Seen::There(Vec::new())),
        ("insert rule bridge dewpoint guest accept".to_owned(), Seen::There(Vec::new())),
        (
            format!("delete element bridge dewpoint ip4s {{ \"{tap}\" . 192.0.2.3 }}"),
            Seen::There(rules(vm)[1..].to_vec()),
        ),
        (
            format!("add element bridge dewpoint ip6s {{ \"{tap}\" . 2001:db8::66 }}"),
            Seen::There(rules(vm)[1..].to_vec()),
        ),
        (
            format!("add element bridge dewpoint arps {{ \"{tap}\" . 52:54:00:ab:cd:ef . 192.0.2.66 }}"),
            Seen::There(rules(vm)[1..].to_vec()),
        ),
    ];
    for (damage, seen) in damage {
        shield.set(vm, &rules(vm)).await.unwrap();
        nft(&damage);
        assert_eq!(shield.observe(vm).await, seen, "after {damage}");
        shield.set(vm, &rules(vm)).await.unwrap();
        assert_eq!(shield.observe(vm).await, Seen::There(rules(vm)), "mended after {damage}");
    }
}

#[tokio::test]
async fn other_tables_are_left_alone() {
    let Some(Wire { nft: shield, vm, .. }) = Wire::new() else { return };
    nft("add table bridge theirs");
    nft("add table inet dewpoint");
    let before = nft("list ruleset");
    shield.set(vm, &rules(vm)).await.unwrap();
    shield.clear(vm).await.unwrap();
    nft("delete table bridge dewpoint");
    assert_eq!(nft("list ruleset"), before);
}

#[tokio::test]
async fn a_table_that_is_not_as_ours_is_unknown_and_not_changed() {
    let Some(Wire { nft: shield, vm, .. }) = Wire::new() else { return };
    nft("add table bridge dewpoint");
    nft("add set bridge dewpoint macs { type ether_addr; elements = { 52:54:00:00:00:01 }; }");
    let before = nft("list ruleset");
    assert!(matches!(shield.observe(vm).await, Seen::Unknown(_)));
    assert_eq!(shield.set(vm, &rules(vm)).await.unwrap_err().reason, Reason::NetworkError);
    assert_eq!(nft("list ruleset"), before);
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused() {
    let vm = VmId::fresh();
    let shield = Nft::new(NftSettings { command: vec!["false".into()], ..NftSettings::default() });
    let foreign = rules(VmId::fresh());
    assert_eq!(shield.set(vm, &foreign).await.unwrap_err().reason, Reason::Internal);
    let Some(Wire { nft: shield, vm, .. }) = Wire::new() else { return };
    let mut twice = rules(vm);
    twice[0].addresses.push("192.0.2.7/32".parse().unwrap());
    assert_eq!(shield.set(vm, &twice).await.unwrap_err().reason, Reason::Invalid);
    assert_eq!(shield.observe(vm).await, Seen::Absent);
}

#[tokio::test]
async fn nft_that_is_missing_fails_or_hangs_is_unknown() {
    let vm = VmId::fresh();
    for command in [vec!["/nonexistent/nft"], vec!["false"], vec!["sleep", "600", "#"]] {
        let command = if command.len() > 1 { vec!["sh", "-c", "exec sleep 600", "nft"] } else { command };
        let settings = NftSettings {
            command: command.into_iter().map(Into::into).collect(),
            deadline: Duration::from_millis(300),
            ..NftSettings::default()
        };
        let (shield, began) = (Nft::new(settings), Instant::now());
        assert!(matches!(shield.observe(vm).await, Seen::Unknown(_)));
        assert_eq!(shield.set(vm, &rules(vm)).await.unwrap_err().reason, Reason::NetworkError);
        assert!(began.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn a_survey_tells_all_and_taps_of_nobody_are_cleared_alone() {
    let Some(Wire { nft: shield, vm, .. }) = Wire::new() else { return };
    assert_eq!(shield.survey().await.unwrap(), Survey::default(), "no table");
    let gone = VmId::fresh();
    shield.set(vm, &rules(vm)).await.unwrap();
    shield.set(gone, &rules(gone)).await.unwrap();
    let survey = shield.survey().await.unwrap();
    assert_eq!((survey.rules, survey.taps.len(), survey.in_force.len()), (Rules::Whole, 4, 4));
    let taps = [tap_name(gone, 0), tap_name(gone, 1)];
    for _ in 0..2 {
        shield.clear_taps(&taps).await.unwrap();
        assert_eq!(shield.observe(gone).await, Seen::Absent);
        assert_eq!(shield.observe(vm).await, Seen::There(rules(vm)));
    }
    nft("insert rule bridge dewpoint guest accept");
    assert_eq!(shield.survey().await.unwrap().rules, Rules::Broken);
}
