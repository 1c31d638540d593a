//! Pending events: tried again when something was freed, ended at their deadline. A recovery ends here, too, when all
//! hosts have told.
//!
//! A slow sweep tries them also unasked, and counts what it places: a push was lost then, which is a bug to look at.

use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::Kind;

use super::admit::{no_capacity, placement_of};
use super::{Inner, say};
use crate::store::{PendingCreate, PlaceAgain, Placed};

/// How late a pending event may expire.
const DEADLINES: Duration = Duration::from_secs(2);
/// Between sweeps.
const SWEEP: Duration = Duration::from_secs(60);
/// Pending events tried at once, oldest first; what is beyond waits for the next time.
const TRIED_MOST: u32 = 500;

enum Wake {
    Stop,
    Room,
    Deadlines,
    Sweep,
}

/// Runs until the coordinator stops.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut deadlines = tokio::time::interval(DEADLINES);
    let mut sweep = tokio::time::interval_at(tokio::time::Instant::now() + SWEEP, SWEEP);
    for timer in [&mut deadlines, &mut sweep] {
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    }
    loop {
        // Every arm only waits: nothing is lost when another one wins.
        let wake = tokio::select! {
            biased;
            () = inner.stop.cancelled() => Wake::Stop,
            () = inner.room.notified() => Wake::Room,
            _ = sweep.tick() => Wake::Sweep,
            _ = deadlines.tick() => Wake::Deadlines,
        };
        let done = match wake {
            Wake::Stop => return,
            Wake::Room => inner.place_pending().await.map(drop),
            Wake::Deadlines => inner.deadlines().await,
            Wake::Sweep => inner.sweep().await,
        };
        if let Err(cause) = done {
            tracing::warn!(reason = %cause.reason, "pending events could not be looked at: {}", cause.text);
        }
    }
}

impl Inner {
    async fn deadlines(&self) -> Result<(), Cause> {
        self.settle_recovery().await?;
        self.expire_pending().await
    }

    async fn sweep(&self) -> Result<(), Cause> {
        if let Some(moved_ms) = self.time.moved() {
            tracing::warn!(
                moved_ms,
                "the wall clock was moved: this coordinator goes by the one of its start until it is started again"
            );
        }
        self.take_every_host().await?;
        let placed = self.place_pending().await?;
        if placed > 0 {
            tracing::warn!(placed, "the sweep placed events that nothing had woken");
        }
        Ok(())
    }

    /// Tries all that wait; how many got a host.
    async fn place_pending(&self) -> Result<u32, Cause> {
        let mut placed = 0;
        for waiting in self.store.pending(TRIED_MOST).await? {
            placed += u32::from(self.place_one(&waiting).await?);
        }
        Ok(placed)
    }

    async fn place_one(&self, waiting: &PendingCreate) -> Result<bool, Cause> {
        let event = &waiting.record;
        let Some(Kind::Create(create)) = event.body.as_ref().map(|body| &body.event().kind) else {
            return Ok(false);
        };
        let ranking = self.rank(&placement_of(event.id, &create.spec, &create.source, waiting.only_host));
        let place = PlaceAgain {
            event: event.id,
            candidates: ranking.candidates,
            pending: no_capacity(&ranking.explanation),
            explanation: ranking.explanation,
            at: self.now(),
        };
        match self.store.place_again(place).await? {
            Placed::Assigned(record) => {
                self.assigned(&record);
                Ok(true)
            }
            Placed::StillPending | Placed::NotPending => Ok(false),
        }
    }

    async fn expire_pending(&self) -> Result<(), Cause> {
        if self.store.pending(1).await?.is_empty() {
            return Ok(());
        }
        let recorded = self.store.expire_pending(self.now()).await?;
        say::expired(&recorded.changed);
        self.settled(recorded);
        Ok(())
    }
}
