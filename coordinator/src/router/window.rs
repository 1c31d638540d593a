//! What is in flight to one host. Pure.

use dewpoint_proto::ids::Seq;
use dewpoint_proto::limits;

/// What the host has said about what it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Taken {
    /// All up to this one are accepted, and stored as such.
    pub(super) accepted: Seq,
    /// How many more unaccepted events the host takes.
    pub(super) limit: u32,
}

/// Which entries of a queue were sent in this session, and how many more may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Window {
    taken: Taken,
    sent: Seq,
}

impl Window {
    /// Of a session that goes on after `accepted`; the host has not said yet how much it takes.
    pub(super) fn after(accepted: Seq) -> Self {
        Self { taken: Taken { accepted, limit: limits::DELIVERY_WINDOW }, sent: accepted }
    }

    /// What the host has said so far.
    pub(super) fn taken(&self) -> Taken {
        self.taken
    }

    /// The last one sent: the next follows it.
    pub(super) fn sent(&self) -> Seq {
        self.sent
    }

    /// How many may be sent now.
    pub(super) fn room(&self) -> u32 {
        let in_flight = u32::try_from(self.sent.0.saturating_sub(self.taken.accepted.0)).unwrap_or(u32::MAX);
        self.taken.limit.min(limits::DELIVERY_WINDOW).saturating_sub(in_flight)
    }

    /// Whether something was sent and not accepted.
    pub(super) fn waits(&self) -> bool {
        self.sent > self.taken.accepted
    }

    /// One more was sent.
    pub(super) fn send(&mut self, seq: Seq) {
        self.sent = seq;
    }

    /// The host said more. One that took nothing and takes again has withheld what was in flight: it is sent again.
    pub(super) fn take(&mut self, taken: Taken) {
        let withheld = self.taken.limit == 0 && taken.limit > 0;
        self.taken = Taken { accepted: taken.accepted.max(self.taken.accepted), limit: taken.limit };
        self.sent = self.sent.max(self.taken.accepted);
        if withheld {
            self.rewind();
        }
    }

    /// Forgets what was sent and not accepted, so that it is sent again.
    pub(super) fn rewind(&mut self) {
        self.sent = self.taken.accepted;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(accepted: u64, limit: u32) -> Taken {
        Taken { accepted: Seq(accepted), limit }
    }

    #[test]
    fn room_shrinks_with_what_is_in_flight_and_grows_with_what_is_accepted() {
        let mut window = Window::after(Seq(5));
        assert_eq!((window.room(), window.waits()), (limits::DELIVERY_WINDOW, false));
        window.send(Seq(6));
        window.send(Seq(7));
        assert_eq!((window.room(), window.waits()), (limits::DELIVERY_WINDOW - 2, true));
        window.take(taken(7, 3));
        assert_eq!((window.room(), window.waits()), (3, false));
        window.take(taken(7, u32::MAX));
        assert_eq!(window.room(), limits::DELIVERY_WINDOW, "the host cannot raise our bound");
    }

    #[test]
    fn a_host_that_withheld_gets_it_again_when_it_takes_again() {
        let mut window = Window::after(Seq(0));
        window.send(Seq(1));
        window.send(Seq(2));
        window.take(taken(1, 0));
        assert_eq!((window.room(), window.sent()), (0, Seq(2)));
        window.take(taken(1, 8));
        assert_eq!((window.room(), window.sent()), (8, Seq(1)));
    }

    #[test]
    fn acceptance_never_goes_back() {
        let mut window = Window::after(Seq(4));
        window.send(Seq(6));
        window.take(taken(2, 32));
        assert_eq!(window.taken().accepted, Seq(4));
        window.rewind();
        window.take(taken(6, 32));
        assert_eq!((window.sent(), window.waits()), (Seq(6), false), "accepted after it was given up");
    }
}
