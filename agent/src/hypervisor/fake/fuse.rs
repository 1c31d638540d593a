//! Cuts an agent off at a point: from then on nothing that it asks for happens, until the fuse is mended.
//!
//! A cut agent is not told: its futures never return, and the test drops it, as SIGKILL would.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use tokio::sync::watch;

/// A fuse, shared by all that an agent acts through.
#[derive(Clone, Debug)]
pub struct Fuse {
    state: Arc<Mutex<State>>,
    burnt: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// Points passed since it was mended.
    passed: usize,
    /// Burns at this point; none: at none.
    at: Option<usize>,
    burnt: bool,
    /// The points passed, by name.
    trace: Vec<String>,
}

impl Default for Fuse {
    fn default() -> Self {
        Self { state: Arc::default(), burnt: watch::Sender::new(false) }
    }
}

impl Fuse {
    /// Burns at the point of that number, counted from 0 and from now on.
    pub fn burn_at(&self, point: usize) {
        let mut state = self.state();
        *state = State { at: Some(point), ..State::default() };
        self.burnt.send_replace(false);
    }

    /// Burns at no point, and lets a new agent act. Whether it had burnt.
    pub fn mend(&self) -> bool {
        let before = std::mem::take(&mut *self.state());
        self.burnt.send_replace(false);
        before.burnt
    }

    /// Returns once it has burnt.
    pub async fn burning(&self) {
        // The sender is ours, so waiting cannot fail.
        let _ = self.burnt.subscribe().wait_for(|burnt| *burnt).await;
    }

    /// The points passed, the one it burnt at included.
    #[must_use]
    pub fn trace(&self) -> Vec<String> {
        self.state().trace.clone()
    }

    /// A point: returns at once, or never.
    pub(crate) async fn point(&self, name: &str) {
        if self.passes(name) {
            return;
        }
        self.dead::<()>().await;
    }

    /// A point at which an effect is on its way already: whether the agent dies here.
    pub(crate) fn point_sent(&self, name: &str) -> bool {
        let was_burnt = self.state().burnt;
        !self.passes(name) && !was_burnt
    }

    /// What a dead agent waits for.
    pub(crate) async fn dead<T>(&self) -> T {
        std::future::pending().await
    }

    fn passes(&self, name: &str) -> bool {
        let mut state = self.state();
        if state.burnt {
            return false;
        }
        state.trace.push(name.to_owned());
        state.burnt = state.at == Some(state.passed);
        state.passed += 1;
        if state.burnt {
            self.burnt.send_replace(true);
        }
        !state.burnt
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
