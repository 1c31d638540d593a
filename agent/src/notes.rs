//! What may be lost: every call to libvirt and every change of a VM's state that was seen, for `why`.
//!
//! Owns `notes.db`, beside the journal, and the one thread that writes it. Never: holds up whoever records something,
//! stops the agent, or takes room from a journal that has none left.
//!
//! ```text
//! record ──▶ bounded queue ──▶ thread ──▶ notes.db    written in groups, no fsync
//!              └─ full: dropped and counted
//! ```
//!
//! A database that is damaged is begun anew; one that cannot be used is left off. Either is said once.

mod reader;
mod recorder;
mod rows;
mod schema;
mod thread;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::VmId;
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::Power;
use tokio::sync::{broadcast, mpsc, watch};

pub use reader::{MOST, NotesReader};
pub use recorder::Recorded;
pub use rows::{CallEnd, CallNote, CallRow, Lost, Sight, StartRow, StateRow};
use rows::{Note, StateNote};
use thread::Writer;

use crate::hypervisor::DomainEvent;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Rows of calls.
    pub calls: u32,
    /// Rows of states.
    pub states: u32,
    /// How long each is kept.
    pub keep: Duration,
    /// Records that may wait for the thread; past that they are dropped and counted.
    pub queue: usize,
    /// Pages of 4 KiB of the whole file.
    pub pages: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            calls: 100_000,
            states: 50_000,
            keep: Duration::from_secs(14 * 24 * 3600),
            queue: 1024,
            pages: 64 * 256,
        }
    }
}

/// Where things are recorded. Cheap to clone; the thread ends with the last handle.
#[derive(Clone, Default)]
pub struct Notes(Option<Arc<Shared>>);

struct Shared {
    inbox: mpsc::Sender<Note>,
    dropped: Arc<AtomicU64>,
    /// Each VM as it was seen last: only changes are recorded.
    known: Mutex<HashMap<VmId, Sight>>,
}

impl Notes {
    /// Opens or makes `notes.db` and starts its thread. Without it the agent runs all the same, and records nothing.
    ///
    /// `withheld`: why the journal takes no events; nothing is written then, as its disk has no room.
    #[must_use]
    pub fn open(path: &Path, withheld: watch::Receiver<Option<Cause>>, bounds: Bounds) -> Self {
        let begun = schema::open_or_replace(path, bounds.pages).and_then(|db| {
            let known = reader::last_seen(&db).map_err(|error| error.to_string())?;
            let (inbox, notes) = mpsc::channel(bounds.queue);
            let dropped = Arc::new(AtomicU64::new(0));
            let writer = Writer::new(db, path, bounds, Arc::clone(&dropped), withheld);
            let thread = std::thread::Builder::new().name("notes".into()).spawn(move || writer.run(notes));
            thread.map_err(|error| error.to_string())?;
            Ok(Self(Some(Arc::new(Shared { inbox, dropped, known: Mutex::new(known) }))))
        });
        begun.unwrap_or_else(|why| {
            tracing::warn!(path = %path.display(), "no calls and no states are recorded for `why`: {why}");
            Self(None)
        })
    }

    /// Records nothing.
    #[must_use]
    pub fn none() -> Self {
        Self(None)
    }

    /// An agent has started.
    pub fn started(&self, at: Millis, version: &'static str) {
        self.record(Note::Start { at, version });
    }

    /// A call was made.
    pub fn call(&self, note: CallNote) {
        self.record(Note::Call(note));
    }

    /// A VM of ours was looked at. Recorded when it is not as it was.
    pub fn saw(&self, vm: VmId, sight: Sight, at: Millis) {
        let Some(shared) = &self.0 else { return };
        let mut known = shared.known();
        let was = known.get(&vm);
        if was == Some(&sight) {
            return;
        }
        let note = StateNote { vm, at, was: was.map(|was| was.power), now: sight.clone() };
        // What was not recorded is news again the next time.
        if shared.send(Note::State(note)) {
            known.insert(vm, sight);
        }
    }

    /// libvirt answered that a VM is not there. Recorded when it was.
    pub fn missed(&self, vm: VmId, at: Millis) {
        let Some(shared) = &self.0 else { return };
        let mut known = shared.known();
        let Some(was) = known.get(&vm) else { return };
        let now = Sight { power: Power::Absent, detail: String::new(), run: None };
        let note = StateNote { vm, at, was: Some(was.power), now };
        if shared.send(Note::State(note)) {
            known.remove(&vm);
        }
    }

    /// Of all VMs that were there: those that a complete list does not name are not.
    pub fn missed_but(&self, listed: impl Fn(VmId) -> bool, at: Millis) {
        let Some(shared) = &self.0 else { return };
        let gone: Vec<VmId> = shared.known().keys().copied().filter(|vm| !listed(*vm)).collect();
        gone.into_iter().for_each(|vm| self.missed(vm, at));
    }

    /// Records what libvirt tells of VMs of ours, until there is nothing more to come.
    pub async fn listen(self, mut events: broadcast::Receiver<DomainEvent>) {
        loop {
            match events.recv().await {
                Ok(DomainEvent::Changed(vm, words)) => self.told(vm, words, Millis::now()),
                // What was missed is seen by the next look.
                Ok(DomainEvent::Resync) | Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return std::future::pending().await,
            }
        }
    }

    /// libvirt told of a VM, in its own words. Recorded when it is a VM of ours and says how the VM is.
    fn told(&self, vm: VmId, words: String, at: Millis) {
        let Some(shared) = &self.0 else { return };
        if says_how_it_is(&words) && shared.known().contains_key(&vm) {
            self.record(Note::Told { vm, at, words });
        }
    }

    fn record(&self, note: Note) {
        if let Some(shared) = &self.0 {
            shared.send(note);
        }
    }
}

impl Shared {
    /// Never waits. False: there was no room.
    fn send(&self, note: Note) -> bool {
        let sent = self.inbox.try_send(note).is_ok();
        if !sent {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }

    fn known(&self) -> MutexGuard<'_, HashMap<VmId, Sight>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Not what comes by the dozen and says nothing of the guest: metadata, agent, definitions of our own.
fn says_how_it_is(words: &str) -> bool {
    let kind = words.split('/').next().unwrap_or_default();
    matches!(
        kind,
        "started"
            | "stopped"
            | "suspended"
            | "resumed"
            | "shutdown"
            | "crashed"
            | "pmsuspended"
            | "undefined"
            | "reboot"
            | "io-error"
            | "control-error"
    )
}

#[cfg(test)]
mod tests;
