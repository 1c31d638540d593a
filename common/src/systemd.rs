//! What systemd is told: that the daemon is ready, that it stops, how it is in one line, and that its main loop turns.
//!
//! The watchdog is fed by beats, and a beat passes whatever must be alive: the main loop, the thread of the database. A
//! beat that does not come back in time is not told, so a daemon that hangs is restarted. Without systemd there is
//! nobody to tell, and beats are only watched.

use std::time::Duration;

pub use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::message;

/// Between beats when systemd does not watch.
const UNWATCHED: Duration = Duration::from_secs(10);

/// Something that shows by a beat that it lives.
pub trait Beat {
    /// Passes whatever must be alive. Gives how the daemon is, in one line.
    ///
    /// # Errors
    /// What does not live.
    fn beat(&self) -> impl Future<Output = Result<String, String>> + Send;
}

/// Tells systemd, when it started us.
pub fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not told");
    }
}

/// It is ready.
pub fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It is on its way out.
pub fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Between beats: half of what systemd allows.
#[must_use]
pub fn between_beats() -> Duration {
    sd_notify::watchdog_enabled().map_or(UNWATCHED, |allowed| allowed / 2).max(Duration::from_millis(1))
}

/// Beats until dropped, and tells of each beat that came back within `every`.
pub async fn watch<B: Beat + Sync>(heart: &B, every: Duration, tell: impl Fn(&[NotifyState<'_>])) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = Said::default();
    loop {
        ticks.tick().await;
        let beat = timeout(every, heart.beat()).await;
        match beat.unwrap_or_else(|_| Err(format!("no answer within {} s", every.as_secs_f32()))) {
            Ok(status) => said.alive(&status, &tell),
            Err(why) => said.stuck(&why, &tell),
        }
    }
}

/// What was told last.
#[derive(Default)]
struct Said {
    status: String,
    is_stuck: bool,
}

impl Said {
    fn alive(&mut self, status: &str, tell: &impl Fn(&[NotifyState<'_>])) {
        if std::mem::take(&mut self.is_stuck) {
            tracing::info!(message_id = message::RECOVERED, "the main loop answers again");
        }
        tell(&[NotifyState::Watchdog]);
        self.status(status, tell);
    }

    fn stuck(&mut self, why: &str, tell: &impl Fn(&[NotifyState<'_>])) {
        if !std::mem::replace(&mut self.is_stuck, true) {
            tracing::error!(
                message_id = message::STUCK,
                advice = "systemd restarts the daemon unless it recovers; VMs run on",
                "the main loop or the database's thread does not answer: {why}"
            );
        }
        self.status(&format!("stuck: {why}"), tell);
    }

    fn status(&mut self, status: &str, tell: &impl Fn(&[NotifyState<'_>])) {
        if self.status != status {
            // Its datagram is lines of assignments.
            let line = status.replace(char::is_control, " ");
            tell(&[NotifyState::Status(&line)]);
            status.clone_into(&mut self.status);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A heart that can be stopped.
    #[derive(Clone, Default)]
    struct Heart {
        hangs: Arc<AtomicBool>,
        told: Arc<Mutex<Vec<String>>>,
    }

    impl Beat for Heart {
        async fn beat(&self) -> Result<String, String> {
            if self.hangs.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            Ok("serving\nREADY=0".to_owned())
        }
    }

    const EVERY: Duration = Duration::from_secs(5);

    impl Heart {
        fn begin(&self) -> tokio::task::JoinHandle<()> {
            let (heart, told) = (self.clone(), Arc::clone(&self.told));
            tokio::spawn(async move {
                let tell = move |states: &[NotifyState<'_>]| {
                    told.lock().unwrap().extend(states.iter().map(ToString::to_string));
                };
                watch(&heart, EVERY, tell).await;
            })
        }

        fn fed(&self) -> usize {
            self.told.lock().unwrap().iter().filter(|line| *line == "WATCHDOG=1").count()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_fed_while_the_heart_beats_and_the_status_is_told_once() {
        let heart = Heart::default();
        let watching = heart.begin();
        tokio::time::sleep(EVERY * 10).await;
        assert!(heart.fed() >= 10, "{:?}", heart.told);
        let told = heart.told.lock().unwrap().clone();
        let status: Vec<_> = told.iter().filter(|line| line.starts_with("STATUS=")).collect();
        assert_eq!(status, ["STATUS=serving READY=0"], "one line, whatever is in it");
        watching.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn it_is_not_fed_while_the_heart_hangs() {
        let heart = Heart::default();
        let watching = heart.begin();
        tokio::time::sleep(EVERY * 3).await;
        heart.hangs.store(true, Ordering::SeqCst);
        // A beat that was under way may still be told.
        tokio::time::sleep(EVERY).await;
        let before = heart.fed();
        tokio::time::sleep(EVERY * 20).await;
        assert_eq!(heart.fed(), before, "not fed");
        let said = heart.told.lock().unwrap().last().cloned().unwrap();
        assert!(said.starts_with("STATUS=stuck: no answer within 5 s"), "{said}");
        heart.hangs.store(false, Ordering::SeqCst);
        tokio::time::sleep(EVERY * 3).await;
        assert!(heart.fed() > before, "fed again");
        watching.abort();
    }
}
