//! Groups for a thread that commits many requests with one fsync.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

/// Little beside an fsync, enough for callers to be woken and to ask again.
const MOMENT: Duration = Duration::from_micros(300);
/// After groups smaller than this nobody is waited for: a lone caller would pay a moment to spare a few fsyncs.
const MANY: usize = 8;

/// Takes requests from a queue in groups.
///
/// A group is open while it runs: what comes meanwhile joins it, so callers prepare while the thread works, and share
/// one commit. Callers that were answered together ask again together, but the thread may be faster than they are.
/// Hence: while fewer came than the last time, a moment is waited for the rest. Where few ask, nobody waits.
#[derive(Debug)]
pub struct Gather<T> {
    inbox: Receiver<T>,
    most: usize,
    group: Vec<T>,
    /// How many the last group was.
    last: usize,
    /// Nobody is waited for after this; none: nobody was yet.
    until: Option<Instant>,
}

impl<T> Gather<T> {
    /// Groups of at most `most`.
    #[must_use]
    pub fn new(inbox: Receiver<T>, most: usize) -> Self {
        Self { inbox, most, group: Vec::with_capacity(most), last: 0, until: None }
    }

    /// Blocks until there is something for the next group. False: the queue is closed and empty.
    pub fn begin(&mut self) -> bool {
        self.group.clear();
        self.until = None;
        self.inbox.blocking_recv_many(&mut self.group, self.most) > 0
    }

    /// What has gathered so far.
    #[must_use]
    pub fn so_far(&self) -> &[T] {
        &self.group
    }

    /// The group's `n`-th request, to be asked for in order. None: the group is whole.
    pub fn at(&mut self, n: usize) -> Option<&mut T> {
        while n >= self.group.len() && self.group.len() < self.most {
            match self.inbox.try_recv() {
                Ok(request) => self.group.push(request),
                Err(TryRecvError::Empty) if self.waits() => std::thread::yield_now(),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
        self.group.get_mut(n)
    }

    /// The whole group, in order, to be answered.
    pub fn whole(&mut self) -> impl Iterator<Item = T> {
        self.last = self.group.len();
        self.group.drain(..)
    }

    fn waits(&mut self) -> bool {
        if self.last < MANY || self.group.len() >= self.last {
            return false;
        }
        let now = Instant::now();
        now < *self.until.get_or_insert(now + MOMENT)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn whole(gather: &mut Gather<usize>) -> Vec<usize> {
        assert!(gather.begin());
        let mut n = 0;
        while gather.at(n).is_some() {
            n += 1;
        }
        gather.whole().collect()
    }

    #[test]
    fn after_many_the_rest_is_waited_for_and_after_few_it_is_not() {
        let (sender, inbox) = mpsc::channel(64);
        let mut gather = Gather::new(inbox, 64);
        for (sent, then_waits) in [(MANY, true), (40, true), (MANY - 1, false), (1, false)] {
            (0..sent).for_each(|n| sender.try_send(n).unwrap());
            assert_eq!(whole(&mut gather).len(), sent);
            sender.try_send(0).unwrap();
            assert!(gather.begin());
            assert_eq!(gather.waits(), then_waits, "after {sent}");
            gather.until = Some(Instant::now());
            assert!(!gather.waits(), "a moment, no longer");
        }
    }

    #[test]
    fn what_comes_while_a_group_runs_joins_it_up_to_the_bound() {
        let (sender, inbox) = mpsc::channel(8);
        let mut gather = Gather::new(inbox, 3);
        sender.try_send(0).unwrap();
        assert!(gather.begin());
        assert_eq!((gather.so_far().len(), gather.at(0).copied()), (1, Some(0)));
        (1..5).for_each(|n| sender.try_send(n).unwrap());
        assert_eq!(
            (gather.at(1).copied(), gather.at(2).copied(), gather.at(3).copied()),
            (Some(1), Some(2), None)
        );
        assert_eq!(gather.at(0).copied(), Some(0), "a group can be run again");
        assert!(gather.whole().eq(0..3));
        assert_eq!(whole(&mut gather), [3, 4]);
    }

    #[test]
    fn ends_with_the_queue_and_waits_for_nobody_then() {
        let (sender, inbox) = mpsc::channel(32);
        let mut gather = Gather::new(inbox, 32);
        (0..2 * MANY).for_each(|n| sender.try_send(n).unwrap());
        assert_eq!(whole(&mut gather).len(), 2 * MANY);
        sender.try_send(7).unwrap();
        drop(sender);
        assert_eq!(whole(&mut gather), [7], "fewer than before, and no more come");
        assert!(!gather.begin());
    }
}
