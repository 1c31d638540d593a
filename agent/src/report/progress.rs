//! Where running events stand: the newest of each, for whoever shows it. Lossy on purpose.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use dewpoint_proto::ids::EventId;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::event as wire;
use tokio::sync::watch;

/// Where an event stands; shown, never decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which event.
    pub event: EventId,
    /// The step's name.
    pub step: String,
    /// Steps done so far.
    pub steps_done: u32,
    /// Of a job, bytes: how much of how much; 0 of 0: not known.
    pub bytes: (u64, u64),
    /// What is being waited for; empty: nothing.
    pub waiting_for: String,
    /// By when that is given up, or tried again; none: it is not known. Told on this host alone.
    pub until: Option<Millis>,
}

impl From<Progress> for wire::Progress {
    fn from(progress: Progress) -> Self {
        Self {
            event_id: progress.event.to_string(),
            step: progress.step,
            steps_done: progress.steps_done,
            done_bytes: progress.bytes.0,
            total_bytes: progress.bytes.1,
            waiting_for: progress.waiting_for,
        }
    }
}

/// The newest progress of each running event. Cheap to clone; as large as the number of lanes.
#[derive(Clone, Debug)]
pub struct ProgressBoard {
    newest: Arc<Mutex<BTreeMap<EventId, Progress>>>,
    changed: watch::Sender<()>,
}

impl Default for ProgressBoard {
    fn default() -> Self {
        Self { newest: Arc::default(), changed: watch::Sender::new(()) }
    }
}

impl ProgressBoard {
    /// Says where an event stands.
    pub fn set(&self, progress: Progress) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).insert(progress.event, progress);
        self.changed.send_replace(());
    }

    /// The event ended.
    pub fn clear(&self, event: EventId) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).remove(&event);
        self.changed.send_replace(());
    }

    /// All of it.
    #[must_use]
    pub fn all(&self) -> BTreeMap<EventId, Progress> {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Marked changed by every `set` and `clear`.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
