//! The rules, and the elements that one VM has in their sets. Pure.
//!
//! | set | element | lets through |
//! |---|---|---|
//! | `taps` | tap | nothing: what comes from these, and from these alone, is looked at |
//! | `macs` | tap, MAC | nothing by itself: without it the tap is dumb |
//! | `arps` | tap, MAC, IPv4 | ARP with that sender |
//! | `ip4s` | tap, IPv4 | IPv4 from there |
//! | `ip6s` | tap, IPv6 | IPv6 from there |
//! | `targets` | tap, IPv6 as a number | neighbour advertisements for that address, and its duplicate detection |
//!
//! Everything else from such a tap is dropped: other EtherTypes (so VLAN tags hide
//! nothing), IPv4 from 0.0.0.0 (addresses are static, there is no DHCP), ARP probes, router advertisements, redirects,
//! and answers of a DHCP server. A NIC without addresses has a MAC and no IP: it can send nothing.
//!
//! The taps are listed, not told by their names' prefix, so that the tables of two agents on one machine (a test beside
//! another, a demo beside a test) never shut each other's guests off. A tap's elements come and go in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv6Addr};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::{Cidr, MacAddr};

use crate::network::Allowed;

/// Comments of the elements that every tap with an address has: its link-local address, and `::`, which it has before.
const LINK_LOCAL: &str = "link-local";
const NONE_YET: &str = "none-yet";

/// A version of the rules: another one is written anew. Comments of rules carry it.
const VERSION: &str = "dewpoint-2";

/// Chain and rule, in order. `guard` is where the bridge enters.
const RULES: &[(&str, &str)] = &[
    ("guard", "iifname @taps goto guest"),
    ("guest", "iifname . ether saddr != @macs drop"),
    // Read from the frame itself, where a VLAN tag shows as its own type.
    ("guest", "ether type != { ip, ip6, arp } drop"),
    ("guest", "ether type arp goto guest_arp"),
    ("guest", "ether type ip goto guest_ip4"),
    ("guest", "ether type ip6 goto guest_ip6"),
    ("guest", "drop"),
    (
        "guest_arp",
        "arp htype 1 arp ptype ip arp hlen 6 arp plen 4 iifname . arp saddr ether . arp saddr ip @arps accept",
    ),
    ("guest_arp", "drop"),
    ("guest_ip4", "ether type ip udp sport 67 drop"),
    ("guest_ip4", "iifname . ip saddr @ip4s accept"),
    ("guest_ip4", "drop"),
    ("guest_ip6", "icmpv6 type { nd-router-advert, nd-redirect } drop"),
    ("guest_ip6", "ether type ip6 udp sport 547 drop"),
    ("guest_ip6", "icmpv6 type nd-neighbor-advert goto guest_advert"),
    ("guest_ip6", "ip6 saddr :: goto guest_unspecified"),
    ("guest_ip6", "iifname . ip6 saddr @ip6s accept"),
    ("guest_ip6", "drop"),
    ("guest_advert", "iifname . ip6 saddr @ip6s iifname . @th,64,128 @targets accept"),
    ("guest_advert", "drop"),
    // Duplicate address detection, and the group reports that go with it.
    ("guest_unspecified", "icmpv6 type nd-neighbor-solicit iifname . @th,64,128 @targets accept"),
    ("guest_unspecified", "icmpv6 type mld2-listener-report iifname . ip6 saddr @ip6s accept"),
    ("guest_unspecified", "drop"),
];

/// Sets and the types of their elements.
const SETS: &[(&str, &str)] = &[
    ("taps", "iifname"),
    ("macs", "iifname . ether saddr"),
    ("arps", "iifname . arp saddr ether . arp saddr ip"),
    ("ip4s", "iifname . ip saddr"),
    ("ip6s", "iifname . ip6 saddr"),
    ("targets", "iifname . @th,64,128"),
];

/// The name of a set, if it is one of ours.
pub(super) fn set_named(name: &str) -> Option<&'static str> {
    SETS.iter().map(|(set, _)| *set).find(|set| *set == name)
}

/// The rules' comments by chain, as a whole table has them.
pub(super) fn comments() -> BTreeMap<String, Vec<String>> {
    let mut chains: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (index, (chain, _)) in RULES.iter().enumerate() {
        chains.entry((*chain).to_owned()).or_default().push(comment(index));
    }
    chains
}

/// Table, sets and rules, in place of whatever rules are there; elements stay.
pub(super) fn skeleton(table: &str) -> String {
    let chains: BTreeSet<_> = RULES.iter().map(|(chain, _)| *chain).collect();
    let mut script = format!("add table bridge {table}\n");
    for (set, of) in SETS {
        line(&mut script, format_args!("add set bridge {table} {set} {{ typeof {of}; }}"));
    }
    for chain in &chains {
        let hook = if *chain == "guard" {
            " { type filter hook prerouting priority filter; policy accept; }"
        } else {
            ""
        };
        line(&mut script, format_args!("add chain bridge {table} {chain}{hook}"));
    }
    for chain in &chains {
        line(&mut script, format_args!("flush chain bridge {table} {chain}"));
    }
    for (index, (chain, rule)) in RULES.iter().enumerate() {
        line(
            &mut script,
            format_args!("add rule bridge {table} {chain} {rule} comment \"{}\"", comment(index)),
        );
    }
    script
}

/// An element of one of the sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Element {
    pub set: &'static str,
    pub tap: String,
    /// What follows the tap, each in the form that Rust prints.
    pub values: Vec<String>,
    /// What nftables has no place for: the position and the prefix length of an address.
    pub comment: String,
}

impl Element {
    /// Lines that add it.
    pub(super) fn add(&self, table: &str) -> String {
        let comment =
            if self.comment.is_empty() { String::new() } else { format!(" comment \"{}\"", self.comment) };
        format!("add element bridge {table} {} {{ {}{comment} }}\n", self.set, self.key())
    }

    /// Lines that remove it, also when somebody else already has: adding what is there changes nothing.
    pub(super) fn remove(&self, table: &str) -> String {
        let key = self.key();
        let set = self.set;
        format!(
            "add element bridge {table} {set} {{ {key} }}\ndelete element bridge {table} {set} {{ {key} }}\n"
        )
    }

    fn key(&self) -> String {
        self.values.iter().fold(format!("\"{}\"", self.tap), |key, value| format!("{key} . {value}"))
    }
}

/// The elements of some taps.
///
/// # Errors
/// `INVALID` when an address is there twice.
pub(super) fn elements(rules: &[Allowed]) -> Result<BTreeSet<Element>, Cause> {
    let mut elements = BTreeSet::new();
    for rule in rules {
        let mut addresses: Vec<_> = rule.addresses.iter().map(|cidr| cidr.address).collect();
        addresses.sort_unstable();
        if let Some(twice) = addresses.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Cause::new(
                Reason::Invalid,
                format!("{} has the address {} twice", rule.tap, twice[0]),
            ));
        }
        elements.extend(of_tap(rule));
    }
    Ok(elements)
}

/// The taps whose elements are all there, and none besides; sorted by tap.
pub(super) fn in_force(found: &BTreeSet<Element>) -> Vec<Allowed> {
    let taps: BTreeSet<&str> = found.iter().map(|element| element.tap.as_str()).collect();
    taps.into_iter().filter_map(|tap| tap_in_force(tap, found)).collect()
}

fn tap_in_force(tap: &str, found: &BTreeSet<Element>) -> Option<Allowed> {
    let of_it = || found.iter().filter(|element| element.tap == tap);
    let mac: MacAddr = of_it().find(|element| element.set == "macs")?.values.first()?.parse().ok()?;
    let mut addresses = Vec::new();
    for element in of_it().filter(|element| ["ip4s", "ip6s"].contains(&element.set)) {
        if let Some((position, prefix)) = element.comment.split_once('/') {
            let cidr: Cidr = format!("{}/{prefix}", element.values.first()?).parse().ok()?;
            addresses.push((position.parse::<usize>().ok()?, cidr));
        }
    }
    addresses.sort_unstable();
    let addresses = addresses.into_iter().map(|(_, cidr)| cidr).collect();
    let allowed = Allowed { tap: tap.parse().ok()?, mac, addresses };
    of_tap(&allowed).iter().eq(of_it()).then_some(allowed)
}

fn of_tap(rule: &Allowed) -> BTreeSet<Element> {
    let element = |set, values: Vec<String>, comment: &str| Element {
        set,
        tap: rule.tap.to_string(),
        values,
        comment: comment.to_owned(),
    };
    let mac = rule.mac.to_string();
    let mut elements =
        BTreeSet::from([element("taps", Vec::new(), ""), element("macs", vec![mac.clone()], "")]);
    let add6 = |address: Ipv6Addr, comment: &str| {
        [
            element("ip6s", vec![address.to_string()], comment),
            element("targets", vec![number(u128::from(address))], ""),
        ]
    };
    for (position, cidr) in rule.addresses.iter().enumerate() {
        let comment = format!("{position}/{}", cidr.prefix);
        match cidr.address {
            IpAddr::V4(address) => elements.extend([
                element("ip4s", vec![address.to_string()], &comment),
                element("arps", vec![mac.clone(), address.to_string()], ""),
            ]),
            IpAddr::V6(address) => elements.extend(add6(address, &comment)),
        }
    }
    if rule.addresses.is_empty() {
        return elements;
    }
    elements.insert(element("ip6s", vec![Ipv6Addr::UNSPECIFIED.to_string()], NONE_YET));
    let link_local = link_local(rule.mac);
    if !rule.addresses.iter().any(|cidr| cidr.address == link_local) {
        elements.extend(add6(link_local, LINK_LOCAL));
    }
    elements
}

/// An address as the sets of raw payload have it.
pub(super) fn number(address: u128) -> String {
    format!("{address:#034x}")
}

/// RFC 4291, appendix A.
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

fn comment(index: usize) -> String {
    format!("{VERSION}:{index}")
}

fn line(script: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = writeln!(script, "{text}");
}
