//! What was heard of VMs, and what was last seen of their configurations, until it is noted. Waits for nothing: while
//! libvirt is slow to answer, what it tells tells most.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

#[cfg(test)]
mod tests;

use dewpoint_proto::ids::VmId;

use crate::journal::kept::ConfigSeen;

/// What is kept of what was heard of one VM. More than happens in one run between two looks.
const WORDS: usize = 16;
/// After an event of ours has ended, libvirt may still tell of what it did.
const ECHO: Duration = Duration::from_secs(1);

/// As large as the number of VMs; before the first complete list, of all domains.
#[derive(Debug, Default)]
pub(in crate::execute) struct Ears(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The VMs that there are, once all domains were listed: before that nothing is judged.
    known: Option<BTreeSet<VmId>>,
    heard: HashMap<VmId, Heard>,
}

/// What was heard of a VM since its last look.
#[derive(Debug, Default)]
struct Heard {
    words: VecDeque<String>,
    /// Until then what is told of its configuration is our own doing; since the host booted.
    echo: Duration,
    /// Its configuration, as it was looked at last.
    config: Option<ConfigSeen>,
    /// How often its configuration was said to have been written.
    writes: u64,
}

/// When a look at a configuration began: what was written since makes it worthless.
#[derive(Clone, Copy, Debug)]
pub(super) struct LookBegun(u64);

impl Ears {
    /// All domains were listed: what was heard of others than these, and than those with a lane, is forgotten.
    pub(in crate::execute) fn stock_taken(&self, known: BTreeSet<VmId>, has_lane: impl Fn(&VmId) -> bool) {
        let mut inner = self.inner();
        inner.heard.retain(|vm, _| known.contains(vm) || has_lane(vm));
        inner.known = Some(known);
    }

    /// All domains were listed once, so that VMs may be judged.
    pub(in crate::execute) fn may_judge(&self) -> bool {
        self.inner().known.is_some()
    }

    /// Keeps what libvirt says of a domain. True: its VM is to be looked at.
    pub(in crate::execute) fn hear(&self, vm: VmId, word: String, has_lane: bool, now: Duration) -> bool {
        let mut inner = self.inner();
        if !has_lane && inner.known.as_ref().is_some_and(|known| !known.contains(&vm)) {
            return false;
        }
        inner.heard.entry(vm).or_default().put(word, now);
        inner.known.is_some()
    }

    /// Something may have been missed: what is left of what was heard would be a half-truth.
    pub(in crate::execute) fn were_deaf(&self) {
        self.inner().heard.clear();
    }

    /// What was heard of a VM and is not noted yet; the oldest first.
    pub(in crate::execute) fn heard(&self, vm: VmId) -> Vec<String> {
        self.inner().heard.get(&vm).map(|heard| heard.words.iter().cloned().collect()).unwrap_or_default()
    }

    /// So much of what was heard of a VM, the oldest, is noted.
    pub(in crate::execute) fn noted(&self, vm: VmId, count: usize) {
        if let Some(heard) = self.inner().heard.get_mut(&vm) {
            heard.noted(count);
        }
    }

    /// An event of the VM has ended.
    pub(in crate::execute) fn after_event(&self, vm: VmId, now: Duration) {
        self.inner().heard.entry(vm).or_default().after_event(now);
    }

    /// A VM's configuration is about to be looked at.
    pub(super) fn looks_at_config(&self, vm: VmId) -> LookBegun {
        LookBegun(self.inner().heard.get(&vm).map_or(0, |heard| heard.writes))
    }

    /// It was. Kept unless it was written meanwhile: what was looked at may be what was there before, and would be told as a
    /// second edit once the new one is looked at.
    pub(super) fn saw_config(&self, vm: VmId, seen: ConfigSeen, begun: LookBegun) {
        let mut inner = self.inner();
        let heard = inner.heard.entry(vm).or_default();
        if heard.writes == begun.0 {
            heard.config = Some(seen);
        }
    }

    /// A VM's configuration, as it was looked at last.
    pub(in crate::execute) fn config_of(&self, vm: VmId) -> Option<ConfigSeen> {
        self.inner().heard.get(&vm)?.config.clone()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Heard {
    fn put(&mut self, word: String, now: Duration) {
        if is_of_config(&word) {
            self.config = None;
            self.writes += 1;
            if now < self.echo {
                return;
            }
        }
        if self.words.len() == WORDS {
            self.words.pop_front();
        }
        self.words.push_back(word);
    }

    /// How the present run ended is kept: the end itself may not be seen yet.
    fn noted(&mut self, count: usize) {
        let later = self.words.split_off(count.min(self.words.len()));
        let start = self.words.iter().rposition(|word| word.starts_with("started/")).unwrap_or(0);
        self.words.drain(..start);
        self.words.retain(|word| {
            ["started/", "shutdown/", "stopped/", "crashed/"].iter().any(|end| word.starts_with(end))
        });
        self.words.extend(later);
    }

    /// What was heard of the event's own doings is not news. How the VM went off since it was started is.
    fn after_event(&mut self, now: Duration) {
        self.words.retain(|word| !is_of_config(word) && word != "reboot");
        self.echo = now + ECHO;
    }
}

/// Whether libvirt says that a configuration was written.
pub(super) fn is_of_config(word: &str) -> bool {
    word.starts_with("defined/")
}
