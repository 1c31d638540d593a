//! Frames, byte by byte, right as far as a bridge looks (`br_netfilter` drops wrong lengths and IPv4 checksums).

use std::net::{Ipv4Addr, Ipv6Addr};

use dewpoint_proto::spec::MacAddr;

/// Bytes that the wire appends to the payload.
const MARK: usize = 16;

pub(super) const ARP: u16 = 0x0806;
pub(super) const IP4: u16 = 0x0800;
pub(super) const IP6: u16 = 0x86dd;

/// To everybody on the bridge.
pub(super) fn ethernet(source: MacAddr, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&[0xff; 6][..], &source.0, &kind.to_be_bytes(), payload].concat()
}

/// The frame with a tag after its addresses: 0x8100 for a VLAN, 0x88a8 for the outer one of two.
pub(super) fn tagged(frame: &[u8], tag: u16) -> Vec<u8> {
    [&frame[..12], &tag.to_be_bytes(), &7u16.to_be_bytes(), &frame[12..]].concat()
}

pub(super) fn arp(operation: u16, mac: MacAddr, ip: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4];
    [&head[..], &operation.to_be_bytes(), &mac.0, &ip.octets(), &[0; 6], &target.octets()].concat()
}

pub(super) fn udp4(source: Ipv4Addr, ports: (u16, u16)) -> Vec<u8> {
    let udp = udp(ports);
    let length = u16::try_from(20 + udp.len() + MARK).unwrap().to_be_bytes();
    let head = [0x45, 0, length[0], length[1], 0, 0, 0, 0, 64, 17, 0, 0];
    let mut head = [&head[..], &source.octets(), &Ipv4Addr::BROADCAST.octets()].concat();
    let sum: u32 = head.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    head[10..12].copy_from_slice(&(!folded).to_be_bytes());
    [head, udp].concat()
}

pub(super) fn udp6(source: Ipv6Addr, ports: (u16, u16)) -> Vec<u8> {
    ipv6(source, 17, &udp(ports))
}

/// An ICMPv6 message of a type, whose target (if it has one) is the address.
pub(super) fn icmp6(source: Ipv6Addr, kind: u8, target: Ipv6Addr) -> Vec<u8> {
    ipv6(source, 58, &icmp(kind, target))
}

/// The same behind a hop-by-hop header.
pub(super) fn icmp6_behind_options(source: Ipv6Addr, kind: u8, target: Ipv6Addr) -> Vec<u8> {
    ipv6(source, 0, &[&[58, 0, 1, 4, 0, 0, 0, 0][..], &icmp(kind, target)].concat())
}

fn udp((from, to): (u16, u16)) -> Vec<u8> {
    [from.to_be_bytes(), to.to_be_bytes(), 32u16.to_be_bytes(), [0, 0]].concat()
}

fn icmp(kind: u8, target: Ipv6Addr) -> Vec<u8> {
    [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &target.octets()].concat()
}

fn ipv6(source: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let all_nodes = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    let length = u16::try_from(payload.len() + MARK).unwrap().to_be_bytes();
    [&[0x60, 0, 0, 0, length[0], length[1], next, 255][..], &source.octets(), &all_nodes.octets(), payload]
        .concat()
}
