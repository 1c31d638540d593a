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
/// Callers that were answered together ask again together. The first of them to be woken would have a commit to itself
/// while the others gather behind it, so groups would be half as large as they could be. Hence: while fewer came than
/// the last time, wait a moment for the rest. Where few ask, nobody waits.
#[derive(Debug, Default)]
pub struct Gather {
    last: usize,
}

impl Gather {
    /// Blocks until there is something, then fills `group` with what gathers, at most `most`. False: the queue is
    /// closed and empty.
    pub fn next<T>(&mut self, inbox: &mut Receiver<T>, group: &mut Vec<T>, most: usize) -> bool {
        if inbox.blocking_recv_many(group, most) == 0 {
            return false;
        }
        let expected = self.expected(most);
        let until = Instant::now() + MOMENT;
        while group.len() < expected && Instant::now() < until {
            match inbox.try_recv() {
                Ok(request) => group.push(request),
                Err(TryRecvError::Empty) => std::thread::yield_now(),
                Err(TryRecvError::Disconnected) => break,
            }
        }
        self.last = group.len();
        true
    }

    /// So many are waited for, a moment at most.
    fn expected(&self, most: usize) -> usize {
        if self.last < MANY { 0 } else { self.last.min(most) }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn after_many_the_rest_is_waited_for_and_after_few_it_is_not() {
        let (sender, mut inbox) = mpsc::channel(64);
        let mut gather = Gather::default();
        assert_eq!(gather.expected(64), 0);
        for (sent, next) in [(MANY, MANY), (40, 40), (MANY - 1, 0), (1, 0)] {
            (0..sent).for_each(|n| sender.try_send(n).unwrap());
            let mut group = Vec::new();
            assert!(gather.next(&mut inbox, &mut group, 64));
            assert_eq!((group.len(), gather.expected(64)), (sent, next));
        }
        gather.last = 40;
        assert_eq!(gather.expected(16), 16);
    }

    #[test]
    fn takes_all_that_is_there_up_to_the_bound_and_ends_with_the_queue() {
        let (sender, mut inbox) = mpsc::channel(32);
        let mut gather = Gather::default();
        (0..2 * MANY - 1).for_each(|n| sender.try_send(n).unwrap());
        let mut group = Vec::new();
        assert!(gather.next(&mut inbox, &mut group, MANY));
        assert!(group.iter().copied().eq(0..MANY));
        group.clear();
        drop(sender);
        assert!(gather.next(&mut inbox, &mut group, MANY));
        assert!(group.iter().copied().eq(MANY..2 * MANY - 1), "fewer than before, and no more come");
        group.clear();
        assert!(!gather.next(&mut inbox, &mut group, 3));
    }
}
