//! Pushes a host's queue, in order, within its window; tells the agent of hold. A diverged host is told instead what a
//! person decided of it.
//!
//! Woken by levels: the queue changed, the host accepted or takes more. What is in flight is sent again only in a new
//! session, when the host had withheld it, or when acceptance did not come in time.

use std::sync::atomic::Ordering;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::Seq;
use dewpoint_proto::wire::agent::{Deliver, Hold, to_agent::Message};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Shared;
use super::session::{End, Log, Session};
use super::window::{Taken, Window};
use crate::events::Order;
use crate::store::QueueEntry;

/// Returns with the session's end only.
pub(super) async fn run(shared: &Shared, session: &Session) -> End {
    let mut delivery = Delivery {
        shared,
        session,
        queue: shared.events.queue_of(session.host),
        taken: session.taken.subscribe(),
        window: Window::after(session.taken.borrow().accepted),
        held: session.hold_told,
        ordered: "",
        waiting_since: Instant::now(),
    };
    loop {
        if let Err(end) = delivery.step().await {
            return end;
        }
    }
}

struct Delivery<'a> {
    shared: &'a Shared,
    session: &'a Session,
    queue: watch::Receiver<u64>,
    taken: watch::Receiver<Taken>,
    window: Window,
    /// What the agent was told last.
    held: bool,
    /// The order that a diverged host was told last.
    ordered: &'static str,
    /// When something was last accepted, or first sent after all was.
    waiting_since: Instant,
}

/// What ended a wait.
enum Wake {
    /// The queue, or a hold.
    Queue,
    /// The host accepted, or takes more or less.
    Taken,
    /// Acceptance is overdue.
    Overdue,
    /// Nothing: look anyway.
    Sweep,
    /// Whoever fills the queue is gone.
    Ended,
}

/// After a store that failed to answer.
const RETRY: Duration = Duration::from_secs(1);

impl Delivery<'_> {
    async fn step(&mut self) -> Result<(), End> {
        // Seen before each look, so that what comes during it wakes us again.
        self.queue.borrow_and_update();
        if self.session.log == Log::Matched && self.shared.events.is_retired(self.session.host) {
            return Err(End::Settled);
        }
        self.tell_hold().await?;
        let pushed = self.push().await?;
        let wait = if pushed.is_some() { self.shared.settings.sweep } else { RETRY };
        match self.wait(wait).await {
            Wake::Ended => return Err(End::Stopped),
            Wake::Queue => {}
            Wake::Taken => {
                let before = self.window.taken().accepted;
                self.window.take(*self.taken.borrow_and_update());
                if self.window.taken().accepted > before {
                    self.waiting_since = Instant::now();
                }
            }
            Wake::Overdue => {
                self.waiting_since = Instant::now();
                self.shared.metrics.resends.one();
                tracing::warn!(accepted = %self.window.taken().accepted, sent = %self.window.sent(),
                    "acceptance is overdue: sending again");
                self.window.rewind();
            }
            Wake::Sweep if pushed.is_some() => {
                let found = self.push().await?.unwrap_or(0);
                if found > 0 {
                    self.shared.metrics.swept.more(found);
                    tracing::warn!(found, "a sweep found undelivered events: a wake-up was lost");
                }
            }
            Wake::Sweep => {}
        }
        Ok(())
    }

    /// Sends what there is and the window has room for; returns how many, or none when the store did not answer.
    async fn push(&mut self) -> Result<Option<u64>, End> {
        let mut pushed = 0;
        if self.session.log == Log::Diverged {
            return self.order().await;
        }
        // Nothing is behind the newest; what is queued from here on wakes us.
        if self.window.room() > 0
            && let Some(entry) = self.shared.events.newest(self.session.host, self.window.sent())
        {
            self.send(entry).await?;
            return Ok(Some(1));
        }
        while self.window.room() > 0 {
            let room = self.window.room();
            let look = self.shared.events.deliverable(self.session.host, self.window.sent(), room);
            let entries = match look.await {
                Ok(entries) => entries,
                Err(cause) => {
                    tracing::warn!(reason = %cause.reason, "the queue cannot be read, trying again: {}", cause.text);
                    return Ok(None);
                }
            };
            let all_there_is = entries.len() < room as usize;
            for entry in entries {
                self.send(entry).await?;
                pushed += 1;
            }
            if all_there_is {
                break;
            }
        }
        Ok(Some(pushed))
    }

    /// What a diverged host is told, when it is another than before; nothing is delivered.
    async fn order(&mut self) -> Result<Option<u64>, End> {
        match self.shared.events.order(self.session.host).await {
            Ok(Order::Settled) => Err(End::Settled),
            Ok(Order::Say { name, messages }) if name != self.ordered => {
                for message in messages {
                    self.session.outbound.send(message).await?;
                }
                self.ordered = name;
                Ok(Some(0))
            }
            Ok(Order::Say { .. } | Order::Nothing) => Ok(Some(0)),
            Err(cause) => {
                tracing::warn!(reason = %cause.reason, "what a diverged host is to be told cannot be read: {cause}");
                Ok(None)
            }
        }
    }

    async fn send(&mut self, entry: QueueEntry) -> Result<(), End> {
        let QueueEntry { seq, generation, body } = entry;
        if seq != self.window.sent().next() {
            let gap = format!("the queue goes from {} to {seq}", self.window.sent());
            return Err(Cause::new(Reason::Internal, gap).advise("report this bug with the log").into());
        }
        tracing::debug!(%seq, event_id = %body.event().id, vm_id = %body.event().vm, "delivering");
        // Raised before the message can be answered.
        self.session.highest_sent.fetch_max(seq.0, Ordering::AcqRel);
        let message = Deliver {
            seq: seq.0,
            term: self.session.term.0,
            generation: generation.0,
            event: body.bytes().clone(),
        };
        self.session.outbound.send(Message::Deliver(message)).await?;
        if !self.window.waits() {
            self.waiting_since = Instant::now();
        }
        self.window.send(seq);
        self.shared.metrics.delivered.one();
        Ok(())
    }

    async fn tell_hold(&mut self) -> Result<(), End> {
        let reason = self.shared.events.held(self.session.host);
        let hold = reason.is_some();
        if self.held == hold {
            return Ok(());
        }
        self.held = hold;
        self.session.outbound.send(Message::Hold(Hold { hold, reason: reason.unwrap_or_default() })).await
    }

    async fn wait(&mut self, sweep: Duration) -> Wake {
        let overdue = self.waiting_since + self.shared.settings.patience;
        let waits = self.window.waits() && self.window.taken().limit > 0;
        tokio::select! {
            biased;
            changed = self.queue.changed() => if changed.is_ok() { Wake::Queue } else { Wake::Ended },
            // The session holds the sender, so this never fails.
            _ = self.taken.changed() => Wake::Taken,
            () = sleep_until(overdue), if waits => Wake::Overdue,
            () = sleep(sweep) => Wake::Sweep,
        }
    }
}

/// Whether an acceptance is of something that was sent.
pub(super) fn was_sent(session: &Session, seq: Seq) -> bool {
    seq.0 <= session.highest_sent.load(Ordering::Acquire)
}
