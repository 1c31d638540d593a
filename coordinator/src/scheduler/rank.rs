//! One pass over all hosts.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use dewpoint_proto::ids::{EventId, HostId};
use dewpoint_proto::time::Millis;

use super::filter::{self, Filter};
use super::weigh::{self, SCALE};
use super::{Ask, Explanation, HostVerdict, HostView, Ranking, Request, RuleName, Rules};
use crate::store::{Candidate, HostCapacity};

/// Candidates handed to the store: as many claims may be lost before it is ranked again.
const CANDIDATES: usize = 16;
/// Hosts that fit and hosts turned away, of each so many are explained.
const EXPLAINED: usize = 10;

/// Filters, then orders. Of a fleet of n hosts, n are looked at, and few are kept.
#[must_use]
pub fn rank(request: &Request, hosts: &[HostView], rules: &Rules, now: Millis) -> Ranking {
    let none = HostCapacity::default();
    let ask = |host| ask(request, host, &none, rules, now);
    let mut turned_away = TurnedAway::default();
    let mut fits: Vec<Fit<'_>> = Vec::with_capacity(hosts.len());
    for host in hosts {
        let ask = ask(host);
        match filter::ALL.iter().find(|filter| !(filter.fits)(&ask)) {
            Some(filter) => turned_away.add(filter, &ask),
            None => fits.push(Fit { ask, score: weigh::score(&ask), tie: tie(request.event, host.id) }),
        }
    }
    if fits.len() > CANDIDATES {
        fits.select_nth_unstable_by_key(CANDIDATES, Fit::order);
        fits.truncate(CANDIDATES);
    }
    fits.sort_unstable_by_key(Fit::order);
    let mut shown: Vec<HostVerdict> = fits.iter().take(EXPLAINED).map(Fit::verdict).collect();
    shown.extend(turned_away.shown);
    let considered = u32::try_from(hosts.len()).unwrap_or(u32::MAX);
    let explanation = Explanation { hosts: shown, rejected: turned_away.counts, considered, decided_at: now };
    Ranking { candidates: fits.iter().map(Fit::candidate).collect(), explanation }
}

fn ask<'a>(
    request: &'a Request,
    host: &'a HostView,
    none: &'a HostCapacity,
    rules: &'a Rules,
    now: Millis,
) -> Ask<'a> {
    let capacity = host.capacity.as_ref().unwrap_or(none);
    Ask { request, host, capacity, most: rules.placement.most(capacity), rules, now }
}

#[derive(Default)]
struct TurnedAway {
    counts: BTreeMap<RuleName, u32>,
    shown: Vec<HostVerdict>,
}

impl TurnedAway {
    fn add(&mut self, filter: &Filter, ask: &Ask<'_>) {
        *self.counts.entry(filter.name.into()).or_default() += 1;
        if self.shown.len() < EXPLAINED {
            self.shown.push(HostVerdict {
                host: ask.host.id,
                hostname: ask.host.hostname.clone(),
                rejected_by: Some(filter.name.into()),
                text: (filter.why)(ask),
                score: 0.0,
                weights: BTreeMap::new(),
            });
        }
    }
}

struct Fit<'a> {
    ask: Ask<'a>,
    score: u32,
    tie: u64,
}

impl Fit<'_> {
    /// Best first. Ids end every tie, so the order of the input does not show.
    fn order(&self) -> (Reverse<u32>, u64, HostId) {
        (Reverse(self.score), self.tie, self.ask.host.id)
    }

    fn candidate(&self) -> Candidate {
        Candidate {
            host: self.ask.host.id,
            most: self.ask.most,
            memory_overhead_bytes: self.ask.rules.placement.memory_overhead_bytes,
        }
    }

    fn verdict(&self) -> HostVerdict {
        HostVerdict {
            host: self.ask.host.id,
            hostname: self.ask.host.hostname.clone(),
            rejected_by: None,
            text: String::new(),
            score: f64::from(self.score) / f64::from(SCALE),
            weights: weigh::ALL
                .iter()
                .map(|weigher| (weigher.name.into(), short(weigher.factor * (weigher.weigh)(&self.ask))))
                .collect(),
        }
    }
}

/// In steps of 1/1024: short when written, and the same when read again.
fn short(weight: f64) -> f64 {
    (weight * 1024.0).round() / 1024.0
}

/// Creates that come together see the same sums: among hosts that are about as good, each takes another.
fn tie(event: EventId, host: HostId) -> u64 {
    let (event, host) = (event.0.as_u64_pair(), host.0.as_u64_pair());
    [event.0, event.1, host.0, host.1].into_iter().fold(0, |hash, part| mix(hash ^ part))
}

/// The finaliser of splitmix64.
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}
