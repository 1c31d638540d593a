//! What the keeper waits for and what was changed behind the agent's back, for whoever shows it; and the coordinator's
//! words on movable VMs. Lost with the agent: all of it is found again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{Generation, VmId};
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::Life;
use tokio::sync::watch;
use tokio::time::Instant;

use super::decide::Word;
use crate::journal::VmRow;

/// A word of the coordinator's counts for so long: whoever asks goes on asking, and a start follows the word at once.
const A_WORD_COUNTS: Duration = Duration::from_secs(60);

/// How the keeper stands with a VM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// What it waits for, or why it leaves the VM as it is.
    pub keeping: String,
    /// When the VM is started at the earliest.
    pub restart_at: Option<Millis>,
    /// The coordinator is asked about the VM of this generation.
    pub asks: Option<Generation>,
}

/// The board. Cheap to clone; as large as the number of VMs.
#[derive(Clone, Debug)]
pub struct Board {
    inner: Arc<Mutex<Inner>>,
    given: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    standings: BTreeMap<VmId, Standing>,
    attention: BTreeMap<VmId, Cause>,
    words: BTreeMap<VmId, (Instant, Word)>,
}

impl Default for Board {
    fn default() -> Self {
        Self { inner: Arc::default(), given: watch::Sender::new(()) }
    }
}

impl Board {
    /// What is told of a VM beside its power.
    #[must_use]
    pub fn life(&self, row: &VmRow) -> Life {
        let inner = self.inner();
        let standing = inner.standings.get(&row.vm);
        Life {
            incident: row.kept.incident.clone(),
            keeping: standing.map(|standing| standing.keeping.clone()).unwrap_or_default(),
            restarts: row.kept.restarts,
            restart_at: standing.and_then(|standing| standing.restart_at),
            attention: inner.attention.get(&row.vm).cloned(),
        }
    }

    /// Says how the keeper stands with a VM. True: that is news.
    pub(in crate::execute) fn set(&self, vm: VmId, standing: Standing) -> bool {
        let is_news = |old: &Standing| old.keeping != standing.keeping;
        let mut inner = self.inner();
        let news = inner.standings.get(&vm).is_none_or(is_news);
        inner.standings.insert(vm, standing);
        news
    }

    /// The VM is as wanted, or an event is at work on it.
    pub(in crate::execute) fn clear(&self, vm: VmId) {
        let mut inner = self.inner();
        inner.standings.remove(&vm);
        inner.words.remove(&vm);
    }

    /// How the keeper stands with every VM that it says something of.
    #[must_use]
    pub fn standings(&self) -> Vec<(VmId, Standing)> {
        self.inner().standings.iter().map(|(vm, standing)| (*vm, standing.clone())).collect()
    }

    /// Whether something is said of a VM: it may be over.
    pub(in crate::execute) fn says_of(&self, vm: VmId) -> bool {
        self.inner().standings.contains_key(&vm)
    }

    /// Says what was changed behind the agent's back, as all VMs were just seen; logs what is new, and what is over.
    pub(in crate::execute) fn attend(&self, now: BTreeMap<VmId, Cause>) {
        let mut inner = self.inner();
        let before = std::mem::take(&mut inner.attention);
        for (vm, cause) in now.iter().filter(|(vm, cause)| before.get(*vm) != Some(*cause)) {
            tracing::warn!(vm_id = %vm, reason = %cause.reason, advice = cause.advice, "changed by somebody else: {cause}");
        }
        for vm in before.keys().filter(|vm| !now.contains_key(*vm)) {
            tracing::info!(vm_id = %vm, "as it was made again, or gone");
        }
        inner.attention = now;
    }

    /// Movable VMs that wait for the coordinator's word.
    #[must_use]
    pub fn asking(&self) -> Vec<(VmId, Generation)> {
        let inner = self.inner();
        inner.standings.iter().filter_map(|(vm, standing)| Some((*vm, standing.asks?))).collect()
    }

    /// The coordinator's word on a VM; one that nobody asked for is passed over.
    pub fn given(&self, vm: VmId, word: Word) {
        let mut inner = self.inner();
        if inner.standings.get(&vm).is_some_and(|standing| standing.asks.is_some()) {
            inner.words.insert(vm, (Instant::now(), word));
            self.given.send_replace(());
        }
    }

    /// VMs that a word was given on.
    pub(in crate::execute) fn spoken_of(&self) -> Vec<VmId> {
        self.inner().words.keys().copied().collect()
    }

    /// The word on a VM, unless it was given too long ago.
    pub(in crate::execute) fn word(&self, vm: VmId) -> Word {
        let inner = self.inner();
        let fresh = inner.words.get(&vm).filter(|(at, _)| at.elapsed() < A_WORD_COUNTS);
        fresh.map_or(Word::None, |(_, word)| word.clone())
    }

    /// Marked changed by every word.
    pub(in crate::execute) fn words(&self) -> watch::Receiver<()> {
        self.given.subscribe()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
