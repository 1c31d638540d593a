//! Keeps finished events out of the way, and their bodies no longer than needed. An old database is brought there the
//! same way: in small steps beside all other work, with a word in the log now and then.

use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::time::Millis;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::Inner;

/// Between looks.
const EVERY: Duration = Duration::from_secs(10);
/// How long an event stays among those under way after its end: who watches it reads it there.
const STAYS: Duration = Duration::from_secs(30);
/// How long bodies are kept, as on the hosts.
const BODIES: Duration = Duration::from_secs(30 * 86_400);
/// Between two steps of one look: callers go first.
const PAUSE: Duration = Duration::from_millis(5);
/// Between words in the log about one look.
const TELL: Duration = Duration::from_secs(5);

/// Runs until the coordinator stops.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = inner.stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        if let Err(cause) = inner.tidy().await {
            tracing::warn!(reason = %cause.reason, "finished events could not be moved: {cause}");
        }
    }
}

impl Inner {
    async fn tidy(&self) -> Result<(), Cause> {
        let mut told = Instant::now();
        let mut total: u64 = 0;
        let mut long = false;
        loop {
            let now = self.now();
            let moved = self.store.move_finished(ago(now, STAYS), now).await?;
            let forgotten = self.store.forget_bodies(ago(now, BODIES)).await?;
            total += u64::from(moved);
            if moved == 0 && forgotten == 0 {
                break;
            }
            if told.elapsed() >= TELL {
                told = Instant::now();
                long = true;
                tracing::info!(moved = total, "moving finished events out of the way");
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                () = sleep(PAUSE) => {}
            }
        }
        if long {
            tracing::info!(moved = total, "finished events are out of the way");
        }
        Ok(())
    }
}

fn ago(now: Millis, span: Duration) -> Millis {
    Millis(now.0.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
}
