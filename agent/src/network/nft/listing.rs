//! What `nft -j list table` says. Written by anyone with the right to: parsed, and what is not understood is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use dewpoint_proto::spec::MacAddr;
use serde::Deserialize;
use serde_json::Value;

use super::ruleset::{self, Element};

/// Our table, as found.
#[derive(Debug, Default)]
pub(super) struct Listing {
    elements: BTreeSet<Element>,
    /// Comments of rules, by chain, in order.
    rules: BTreeMap<String, Vec<String>>,
    hooked: bool,
}

#[derive(Deserialize)]
struct Document {
    nftables: Vec<Object>,
}

/// One of the many kinds of object.
#[derive(Deserialize)]
struct Object {
    set: Option<Set>,
    chain: Option<Chain>,
    rule: Option<Rule>,
}

#[derive(Deserialize)]
struct Set {
    name: String,
    #[serde(default)]
    elem: Vec<Value>,
}

#[derive(Deserialize)]
struct Chain {
    name: String,
    hook: Option<String>,
}

#[derive(Deserialize)]
struct Rule {
    chain: String,
    #[serde(default)]
    comment: String,
}

impl Listing {
    /// Else what is not understood.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        let document: Document = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        let mut listing = Self::default();
        for object in document.nftables {
            if let Some(set) = object.set
                && let Some(name) = ruleset::set_named(&set.name)
            {
                for elem in &set.elem {
                    listing.elements.insert(
                        element(name, elem).ok_or_else(|| format!("its set {name} has an element {elem}"))?,
                    );
                }
            }
            if let Some(chain) = object.chain {
                listing.hooked |= chain.name == "guard" && chain.hook.as_deref() == Some("prerouting");
            }
            if let Some(rule) = object.rule {
                listing.rules.entry(rule.chain).or_default().push(rule.comment);
            }
        }
        Ok(listing)
    }

    /// Whether all our rules are there, hooked into the bridge, and none besides.
    pub(super) fn is_whole(&self) -> bool {
        self.hooked && self.rules == ruleset::comments()
    }

    /// Whether there is any rule at all.
    pub(super) fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// The elements of the taps whose names begin so.
    pub(super) fn of(&self, taps: &str) -> BTreeSet<Element> {
        self.elements.iter().filter(|element| element.tap.starts_with(taps)).cloned().collect()
    }
}

/// `{"concat": [tap, ...]}` or the tap alone, or the same as `val` of an `elem` with a comment.
fn element(set: &'static str, value: &Value) -> Option<Element> {
    let (value, comment) = match value.get("elem") {
        Some(elem) => (elem.get("val")?, elem.get("comment").and_then(Value::as_str).unwrap_or_default()),
        None => (value, ""),
    };
    let (tap, rest) = match value.get("concat") {
        Some(parts) => parts.as_array()?.split_first()?,
        None if set == "taps" => (value, [].as_slice()),
        None => return None,
    };
    let values = rest.iter().map(|part| normal(set, part)).collect::<Option<_>>()?;
    Some(Element { set, tap: tap.as_str()?.to_owned(), values, comment: comment.to_owned() })
}

/// A value in the form that Rust prints.
fn normal(set: &str, value: &Value) -> Option<String> {
    if set == "targets" {
        let number = match value {
            Value::Number(number) => u128::from(number.as_u64()?),
            other => u128::from_str_radix(other.as_str()?.strip_prefix("0x")?, 16).ok()?,
        };
        return Some(ruleset::number(number));
    }
    let text = value.as_str()?;
    let address = || text.parse::<Ipv4Addr>().map(|a| a.to_string()).ok();
    let address6 = || text.parse::<Ipv6Addr>().map(|a| a.to_string()).ok();
    let mac = || text.parse::<MacAddr>().map(|mac| mac.to_string()).ok();
    address().or_else(address6).or_else(mac)
}
