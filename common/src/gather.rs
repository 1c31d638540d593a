//! Groups for a thread that commits many requests with one fsync.

use std::time::{Duration, Instant};

use tokio::sync::mpsc::Receiver;
use tokio::sync::mpsc::error::TryRecvError;

/// Little beside an fsync, enough for callers to be woken and to ask again.
const MOMENT: Duration = Duration::from_micros(300);

/// Takes requests from a queue in groups.
///
/// Callers that were answered together ask again together. The first of them to be woken would have a commit to itself
/// while the others gather behind it, so groups would be half as large as they could be. Hence: while fewer came than
/// the last time, wait a moment for the rest. A lone caller never waits.
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
        let until = Instant::now() + MOMENT;
        while group.len() < self.last.min(most) && Instant::now() < until {
            match inbox.try_recv() {
                Ok(request) => group.push(request),
                Err(TryRecvError::Empty) => std::thread::yield_now(),
                Err(TryRecvError::Disconnected) => break,
            }
        }
        self.last = group.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    #[test]
    fn takes_all_that_is_there_up_to_the_bound_and_ends_with_the_queue() {
        let (sender, mut inbox) = mpsc::channel(8);
        let mut gather = Gather::default();
        (0..5).for_each(|n| sender.try_send(n).unwrap());
        let mut group = Vec::new();
        assert!(gather.next(&mut inbox, &mut group, 3));
        assert_eq!(group, [0, 1, 2]);
        group.clear();
        drop(sender);
        assert!(gather.next(&mut inbox, &mut group, 3));
        assert_eq!(group, [3, 4], "fewer than before: the rest is waited for, but not for ever");
        group.clear();
        assert!(!gather.next(&mut inbox, &mut group, 3));
    }
}
