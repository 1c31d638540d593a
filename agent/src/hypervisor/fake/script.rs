//! Which calls go wrong, and how.

use std::collections::{HashMap, HashSet};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use dewpoint_proto::cause::{Cause, Reason};
use tokio::sync::Notify;

/// How a call goes wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An error, and no effect.
    Before(Cause),
    /// An error though it took effect.
    After(Cause),
    /// It never returns.
    Hang,
    /// It overruns its deadline, and takes effect later; until then the domain is busy.
    Late,
}

impl Fault {
    /// An error of libvirt's, and no effect.
    #[must_use]
    pub fn fails() -> Self {
        Self::Before(Cause::new(Reason::HypervisorError, "it failed by script"))
    }

    /// An error of libvirt's though the call took effect.
    #[must_use]
    pub fn lies() -> Self {
        Self::After(Cause::new(Reason::HypervisorError, "it failed by script, after the fact"))
    }

    /// What a caller sees of it.
    #[must_use]
    pub fn cause(&self, name: &str) -> Cause {
        match self {
            Self::Before(cause) | Self::After(cause) => cause.clone(),
            Self::Hang | Self::Late => {
                Cause::new(Reason::CallOverran, format!("{name} overran its deadline"))
            }
        }
    }
}

/// Faults by name of call, and by how often it was made.
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<Mutex<Inner>>, Arc<Notify>);

#[derive(Debug, Default)]
struct Inner {
    faults: HashMap<(String, usize), Fault>,
    always: HashMap<String, Fault>,
    made: HashMap<String, usize>,
    repeats: bool,
    shut: HashSet<String>,
}

impl Script {
    /// The `nth` call of that name from the beginning, counted from 0, goes wrong.
    pub fn on(&self, name: &str, nth: usize, fault: Fault) {
        self.inner().faults.insert((name.to_owned(), nth), fault);
    }

    /// Every call of that name goes wrong.
    pub fn always(&self, name: &str, fault: Fault) {
        self.inner().always.insert(name.to_owned(), fault);
    }

    /// No call goes wrong from now on.
    pub fn heal(&self) {
        let mut inner = self.inner();
        inner.faults.clear();
        inner.always.clear();
    }

    /// Every effect happens twice from now on.
    pub fn repeat_all(&self) {
        self.inner().repeats = true;
    }

    /// Calls of that name are at work from now on until they are let go.
    pub fn shut(&self, name: &str) {
        self.inner().shut.insert(name.to_owned());
    }

    /// They go on.
    pub fn let_go(&self, name: &str) {
        self.inner().shut.remove(name);
        self.1.notify_waiters();
    }

    /// Until calls of that name are let go.
    pub(crate) async fn pass(&self, name: &str) {
        loop {
            let mut let_go = pin!(self.1.notified());
            // Heard from before it is looked, so that nothing is missed between.
            let_go.as_mut().enable();
            if !self.inner().shut.contains(name) {
                return;
            }
            let_go.await;
        }
    }

    /// How often a call was made.
    #[must_use]
    pub fn made(&self, name: &str) -> usize {
        self.inner().made.get(name).copied().unwrap_or(0)
    }

    pub(crate) fn repeats(&self) -> bool {
        self.inner().repeats
    }

    pub(crate) fn next(&self, name: &str) -> Option<Fault> {
        let mut inner = self.inner();
        let count = inner.made.entry(name.to_owned()).or_default();
        let nth = *count;
        *count += 1;
        inner.faults.remove(&(name.to_owned(), nth)).or_else(|| inner.always.get(name).cloned())
    }

    fn inner(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
