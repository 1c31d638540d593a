//! What is on the fake host, and what happened there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use dewpoint_proto::ids::{EventId, RunId, VmId};
use dewpoint_proto::spec::{ImageDigest, VmSpec};
use tokio::sync::broadcast;

use super::domain::FakeDomain;
use super::fuse::Fuse;
use super::script::Script;
use crate::hypervisor::DomainEvent;
use crate::network::Allowed;

/// A fake host. Cheap to clone; outlives agents.
#[derive(Clone, Debug)]
pub struct World {
    state: Arc<Mutex<State>>,
    fuse: Fuse,
    script: Script,
    events: broadcast::Sender<DomainEvent>,
}

/// What is on the host.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Domains, foreign ones included.
    pub domains: BTreeMap<VmId, FakeDomain>,
    /// VM folders.
    pub folders: BTreeMap<VmId, Folder>,
    /// Whole images of the cache, and what is in each.
    pub images: BTreeMap<ImageDigest, Content>,
    /// Images on the image server.
    pub server: BTreeMap<ImageDigest, Content>,
    /// Anti-spoofing rules.
    pub rules: BTreeMap<VmId, Vec<Allowed>>,
    /// Disks in the recycle folder.
    pub recycled: BTreeMap<EventId, VmId>,
    /// Every power-on, in order: of which VM, by which run, from which disk.
    pub runs: Vec<(VmId, RunId, EventId)>,
    /// How guests behave; a VM that is not named obeys at once.
    pub guests: BTreeMap<VmId, Guest>,
    /// How guest agents thaw; a VM that is not named does at once.
    pub thawing: BTreeMap<VmId, Thawing>,
    /// Something that should not have been asked of a host; a test that finds any has failed.
    pub wrongs: Vec<String>,
    pub(super) told: Vec<DomainEvent>,
}

/// One VM's folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Folder {
    /// Disks, and what is in each.
    pub disks: BTreeMap<EventId, Content>,
    /// Seeds.
    pub seeds: BTreeSet<EventId>,
    /// Snapshots: what is in each, and whether it is sealed.
    pub snapshots: BTreeMap<EventId, (Content, bool)>,
    /// Half-made files.
    pub parts: BTreeSet<String>,
    /// What the VM is made of, by which event.
    pub made_of: Option<(EventId, VmSpec)>,
}

/// What is in a disk or an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// All of an image.
    Image(ImageDigest),
    /// All of the disk that an event made, as it was then.
    DiskOf(EventId),
    /// Not all of anything: whoever boots it, or serves it, is wrong.
    Torn,
}

/// What a guest does when it is asked to go down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guest {
    /// It is off at once.
    #[default]
    Obeys,
    /// It is off after it was looked at so often.
    TakesLooks(u32),
    /// It stays.
    Ignores,
}

/// What a guest agent does when it was sent a freeze.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thawing {
    /// It freezes, and leaves so many thaws unanswered.
    After(u32),
    /// It freezes, and answers nothing any more.
    Never,
}

impl Default for World {
    fn default() -> Self {
        Self {
            state: Arc::default(),
            fuse: Fuse::default(),
            script: Script::default(),
            events: broadcast::Sender::new(256),
        }
    }
}

impl World {
    /// Cuts agents off.
    #[must_use]
    pub fn fuse(&self) -> &Fuse {
        &self.fuse
    }

    /// Makes calls fail.
    #[must_use]
    pub fn script(&self) -> &Script {
        &self.script
    }

    /// Looks at the host, or changes it behind the agent's back. Then tells whoever listens to domain events.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let (value, told) = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            (change(&mut state), std::mem::take(&mut state.told))
        };
        for event in told {
            // Nobody listens while the agent is dead.
            let _ = self.events.send(event);
        }
        value
    }

    /// A copy of all that is there.
    #[must_use]
    pub fn state(&self) -> State {
        self.change(|state| state.clone())
    }

    pub(super) fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.events.subscribe()
    }
}
