//! What a guest can send, and what it cannot.

use std::net::{Ipv4Addr, Ipv6Addr};

use dewpoint_proto::spec::MacAddr;

use super::frame::{ARP, IP4, IP6, arp, ethernet, icmp6, icmp6_behind_options, tagged, udp4, udp6};
use super::wire::Wire;
use crate::network::{Allowed, Shield, tap_name};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
const OTHER_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x57]);
const IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 5);
const OTHER_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 6);
const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 5);
const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 6);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x3456);
const OTHER_LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x5054, 0xff, 0xfe12, 0x3457);

const ROUTER_ADVERT: u8 = 134;
const SOLICIT: u8 = 135;
const ADVERT: u8 = 136;
const REDIRECT: u8 = 137;
const GROUP_REPORT: u8 = 143;
const APP: (u16, u16) = (40000, 53);

fn honest() -> Vec<(&'static str, Vec<u8>)> {
    let ip4 = |payload: Vec<u8>| ethernet(MAC, IP4, &payload);
    let ip6 = |payload: Vec<u8>| ethernet(MAC, IP6, &payload);
    vec![
        ("IPv4 from its address", ip4(udp4(IP, APP))),
        ("DHCP client", ip4(udp4(IP, (68, 67)))),
        ("ARP request", ethernet(MAC, ARP, &arp(1, MAC, IP, OTHER_IP))),
        ("ARP reply", ethernet(MAC, ARP, &arp(2, MAC, IP, OTHER_IP))),
        ("IPv6 from its address", ip6(udp6(V6, APP))),
        ("IPv6 from its link-local address", ip6(udp6(LINK_LOCAL, APP))),
        ("neighbour solicitation", ip6(icmp6(V6, SOLICIT, OTHER_V6))),
        ("neighbour advertisement of its address", ip6(icmp6(V6, ADVERT, V6))),
        ("neighbour advertisement from link-local", ip6(icmp6(LINK_LOCAL, ADVERT, V6))),
        ("duplicate detection of its address", ip6(icmp6(Ipv6Addr::UNSPECIFIED, SOLICIT, V6))),
        ("duplicate detection of link-local", ip6(icmp6(Ipv6Addr::UNSPECIFIED, SOLICIT, LINK_LOCAL))),
        ("group report before it has an address", ip6(icmp6(Ipv6Addr::UNSPECIFIED, GROUP_REPORT, V6))),
        ("router solicitation", ip6(icmp6(LINK_LOCAL, 133, V6))),
    ]
}

fn spoofed() -> Vec<(&'static str, Vec<u8>)> {
    let ip4 = |payload: Vec<u8>| ethernet(MAC, IP4, &payload);
    let ip6 = |payload: Vec<u8>| ethernet(MAC, IP6, &payload);
    let good = ip4(udp4(IP, APP));
    vec![
        ("another MAC", ethernet(OTHER_MAC, IP4, &udp4(IP, APP))),
        ("another MAC, IPv6", ethernet(OTHER_MAC, IP6, &udp6(V6, APP))),
        ("another IPv4 address", ip4(udp4(OTHER_IP, APP))),
        ("no IPv4 address", ip4(udp4(Ipv4Addr::UNSPECIFIED, (68, 67)))),
        ("answer of a DHCP server", ip4(udp4(IP, (67, 68)))),
        ("ARP with another address", ethernet(MAC, ARP, &arp(2, MAC, OTHER_IP, IP))),
        ("ARP with another MAC inside", ethernet(MAC, ARP, &arp(2, OTHER_MAC, IP, OTHER_IP))),
        ("ARP with another MAC outside", ethernet(OTHER_MAC, ARP, &arp(2, MAC, IP, OTHER_IP))),
        ("ARP probe", ethernet(MAC, ARP, &arp(1, MAC, Ipv4Addr::UNSPECIFIED, OTHER_IP))),
        ("ARP of another kind of network", {
            let mut odd = arp(1, MAC, IP, OTHER_IP);
            odd[1] = 6;
            ethernet(MAC, ARP, &odd)
        }),
        ("another IPv6 address", ip6(udp6(OTHER_V6, APP))),
        ("another link-local address", ip6(udp6(OTHER_LINK_LOCAL, APP))),
        ("no IPv6 address", ip6(udp6(Ipv6Addr::UNSPECIFIED, APP))),
        ("neighbour advertisement of another", ip6(icmp6(V6, ADVERT, OTHER_V6))),
        ("the same behind options", ip6(icmp6_behind_options(V6, ADVERT, OTHER_V6))),
        ("neighbour advertisement from another", ip6(icmp6(OTHER_V6, ADVERT, V6))),
        ("duplicate detection of another's", ip6(icmp6(Ipv6Addr::UNSPECIFIED, SOLICIT, OTHER_V6))),
        ("router advertisement", ip6(icmp6(LINK_LOCAL, ROUTER_ADVERT, V6))),
        ("router advertisement behind options", ip6(icmp6_behind_options(LINK_LOCAL, ROUTER_ADVERT, V6))),
        ("redirect", ip6(icmp6(LINK_LOCAL, REDIRECT, V6))),
        ("answer of a DHCPv6 server", ip6(udp6(LINK_LOCAL, (547, 546)))),
        ("its own packet in a VLAN", tagged(&good, 0x8100)),
        ("its own packet in a provider's VLAN", tagged(&good, 0x88a8)),
        ("its own packet in two VLANs", tagged(&tagged(&good, 0x8100), 0x88a8)),
        ("RARP", ethernet(MAC, 0x8035, &arp(3, MAC, IP, IP))),
        ("LLDP", ethernet(MAC, 0x88cc, &[0; 32])),
        ("an unknown type", ethernet(MAC, 0x88b6, &[0; 32])),
        ("spanning tree's LLC", ethernet(MAC, 38, &[0x42, 0x42, 3, 0, 0, 0, 0, 0])),
    ]
}

fn allowed(wire: &Wire) -> Allowed {
    let addresses = vec!["192.0.2.5/24".parse().unwrap(), "2001:db8::5/64".parse().unwrap()];
    Allowed { tap: tap_name(wire.vm, 0), mac: MAC, addresses }
}

#[tokio::test]
async fn a_guest_sends_as_itself_and_as_nobody_else() {
    let Some(wire) = Wire::new() else { return };
    for (what, frame) in spoofed().iter().chain(&honest()) {
        assert!(wire.passes(frame), "without rules, this passes: {what}");
    }
    wire.nft.set(wire.vm, &[allowed(&wire)]).await.unwrap();
    for (what, frame) in honest() {
        assert!(wire.passes(&frame), "must pass: {what}");
    }
    for (what, frame) in spoofed() {
        assert!(!wire.passes(&frame), "must not pass: {what}");
        assert!(wire.passes_from_other(&frame), "is none of our business from elsewhere: {what}");
    }
}

#[tokio::test]
async fn a_nic_without_addresses_sends_nothing() {
    let Some(wire) = Wire::new() else { return };
    wire.nft.set(wire.vm, &[Allowed { addresses: Vec::new(), ..allowed(&wire) }]).await.unwrap();
    for (what, frame) in honest().into_iter().chain(spoofed()) {
        assert!(!wire.passes(&frame), "must not pass: {what}");
    }
}

#[tokio::test]
async fn a_tap_that_is_not_listed_is_none_of_this_tables_business() {
    let Some(wire) = Wire::new() else { return };
    let other = dewpoint_proto::ids::VmId::fresh();
    wire.nft.set(other, &[Allowed { tap: tap_name(other, 0), ..allowed(&wire) }]).await.unwrap();
    for (what, frame) in honest().iter().chain(&spoofed()) {
        assert!(wire.passes(frame), "another agent's tap: {what}");
    }
}

#[tokio::test]
async fn rules_hold_from_the_moment_they_are_set_until_they_are_set_anew() {
    let Some(wire) = Wire::new() else { return };
    wire.nft.set(wire.vm, &[allowed(&wire)]).await.unwrap();
    let (from_old, from_new) = (ethernet(MAC, IP4, &udp4(IP, APP)), ethernet(MAC, IP4, &udp4(OTHER_IP, APP)));
    assert!(wire.passes(&from_old) && !wire.passes(&from_new));
    let moved = Allowed { addresses: vec!["192.0.2.6/24".parse().unwrap()], ..allowed(&wire) };
    wire.nft.set(wire.vm, &[moved]).await.unwrap();
    assert!(!wire.passes(&from_old) && wire.passes(&from_new));
    wire.nft.clear(wire.vm).await.unwrap();
    assert!(wire.passes(&from_old) && wire.passes(&from_new), "cleared only when the VM is gone");
}
