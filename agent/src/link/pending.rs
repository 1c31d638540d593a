//! Deliveries that are not acknowledged yet, by seq: what came out of order waits here, and what the journal withheld
//! is tried again from here. Pure.

use std::collections::BTreeMap;

use dewpoint_proto::ids::Seq;
use dewpoint_proto::limits;

use crate::journal::Delivery;

/// The most deliveries that wait.
pub(super) const MOST: usize = limits::DELIVERY_WINDOW as usize;

/// Deliveries that are not acknowledged yet.
#[derive(Debug)]
pub(super) struct Pending {
    /// Acknowledged up to this one.
    accepted: Seq,
    /// The next one for the journal: all between are with it.
    next: Seq,
    waiting: BTreeMap<Seq, Delivery>,
}

impl Pending {
    /// After what the journal has.
    pub(super) fn after(accepted: Seq) -> Self {
        Self { accepted, next: accepted.next(), waiting: BTreeMap::new() }
    }

    /// Acknowledged up to this one.
    pub(super) fn accepted(&self) -> Seq {
        self.accepted
    }

    /// Takes a delivery in. One beyond the bound is passed over: the coordinator sends it again.
    pub(super) fn put(&mut self, seq: Seq, delivery: Delivery) -> Put {
        if seq <= self.accepted {
            return Put::Again(Box::new(delivery));
        }
        if seq.0 - self.accepted.0 > MOST as u64 {
            return Put::Beyond;
        }
        self.waiting.entry(seq).or_insert(delivery);
        Put::Waits
    }

    /// The next one for the journal, if it is here.
    pub(super) fn next(&mut self) -> Option<(Seq, Delivery)> {
        let seq = self.next;
        let delivery = self.waiting.get(&seq)?.clone();
        self.next = seq.next();
        Some((seq, delivery))
    }

    /// Whether the next one is here.
    pub(super) fn has_next(&self) -> bool {
        self.waiting.contains_key(&self.next)
    }

    /// The journal has this one, and all before it.
    pub(super) fn accept(&mut self, seq: Seq) {
        self.accepted = self.accepted.max(seq);
        self.next = self.next.max(self.accepted.next());
        self.waiting = self.waiting.split_off(&self.accepted.next());
    }

    /// The journal did not take this one: it and what follows are tried again.
    pub(super) fn rewind(&mut self, seq: Seq) {
        self.next = self.next.min(seq).max(self.accepted.next());
    }
}

/// What became of a delivery.
#[derive(Debug)]
pub(super) enum Put {
    /// Waits for the journal.
    Waits,
    /// Acknowledged before; to be compared with what was journaled.
    Again(Box<Delivery>),
    /// Beyond the bound.
    Beyond,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::journal::fixture::{create, delivery, vm};

    fn put(pending: &mut Pending, seq: u64) -> Put {
        pending.put(Seq(seq), delivery(seq, vm(1), create()))
    }

    proptest! {
        /// In whatever order, and however often: the journal sees 1, 2, 3, ...
        #[test]
        fn the_journal_sees_them_in_order(order in prop::collection::vec(1..20_u64, 0..80)) {
            let mut pending = Pending::after(Seq(0));
            let mut seen = Vec::new();
            for seq in order {
                put(&mut pending, seq);
                while let Some((seq, _)) = pending.next() {
                    seen.push(seq.0);
                    pending.accept(seq);
                }
            }
            let expected: Vec<_> = (1..=seen.len() as u64).collect();
            prop_assert_eq!(seen, expected);
        }
    }

    #[test]
    fn what_was_withheld_is_tried_again() {
        let mut pending = Pending::after(Seq(4));
        for seq in 5..8 {
            put(&mut pending, seq);
        }
        while pending.next().is_some() {}
        pending.accept(Seq(5));
        pending.rewind(Seq(7));
        pending.rewind(Seq(6));
        assert_eq!(pending.next().unwrap().0, Seq(6));
        assert_eq!(pending.next().unwrap().0, Seq(7));
        assert!(pending.next().is_none());
    }

    #[test]
    fn no_more_wait_than_the_window() {
        let mut pending = Pending::after(Seq(10));
        assert!(matches!(put(&mut pending, 10), Put::Again(_)));
        assert!(matches!(put(&mut pending, 11 + MOST as u64), Put::Beyond));
        assert!(matches!(put(&mut pending, 10 + MOST as u64), Put::Waits));
    }
}
