//! The life of an event: admitted, assigned, delivered, reported.
//!
//! Owns: every write to the store; the view of the fleet that placement works on; what watchers are told. A write is
//! durable before anything here says so. Never: ends an event that a host may have begun, or asks a host for anything.
//!
//! - `admit`: from a request to an admitted event. `read`: questions and watches. `catalogue`: images and networks.
//! - `people`: what people decide, with who and why. `reconcile`: hosts whose logs do not match, retired, replaced.
//! - `hosts`: what the router brings. `sweep`: pending events tried again, deadlines.
//! - `history`: finished events are moved out of the way.
//! - [`stage`]: where an event stands, and the one function that says what may follow.

mod account;
mod admit;
mod catalogue;
mod digest;
mod fleet;
mod history;
mod hosts;
mod known_images;
pub mod liveness;
mod network;
mod people;
mod pools;
mod read;
mod reconcile;
pub mod request;
mod say;
pub mod stage;
mod sweep;
mod told;
mod waiting;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{EventId, HostId};
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::VmState;
use dewpoint_proto::wire::event::Progress;
use tokio::sync::{Notify, broadcast};
use tokio_util::sync::CancellationToken;

use crate::clock::{SystemClock, Time};
use crate::scheduler::Rules;
use crate::store::{Changed, EventRecord, HostFacts, HostRecord, Page, Store};
use fleet::Fleet;
use known_images::KnownImages;
use liveness::Liveness;
use pools::Pools;
use reconcile::Accounts;
use watch::Change;

pub use reconcile::plan::{Plan, PlannedEvent, PlannedVm, Standing};
pub use reconcile::{Order, Retired};

/// What events go by.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EventsConfig {
    /// Placement and liveness.
    pub rules: Rules,
    /// VMs that may be destroyed in a minute, unless a person set another number; 0: any number.
    pub destroys_a_minute: u32,
}

/// A host with what only the running coordinator knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStatus {
    /// Its row, with the newest heartbeat and capacity.
    pub record: HostRecord,
    /// As of now.
    pub liveness: Liveness,
    /// Its agent reports and touches nothing, as it said last.
    pub observe_only: bool,
}

/// One item of a watch: the snapshot's items, then the mark, then each change. A watcher that fell behind gets a fresh
/// snapshot, ended by the mark again.
#[derive(Clone, Debug, PartialEq)]
pub enum Watched<T> {
    /// As it is now.
    Item(T),
    /// The snapshot is whole.
    SnapshotComplete,
}

/// An event with its progress, when its host tells it.
#[derive(Clone, Debug, PartialEq)]
pub struct EventStatus {
    /// Its row; an accepted event whose progress tells of a step is shown as running.
    pub record: EventRecord,
    /// Since the coordinator started, by its host; gone when it ended.
    pub progress: Option<Progress>,
    /// What it waits for, in words; none: it has ended.
    pub waiting_for: Option<String>,
}

/// What a heartbeat brings.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HostHeartbeat {
    /// Capacity and what is wrong.
    pub facts: HostFacts,
    /// VMs whose state changed.
    pub changed: Vec<VmState>,
    /// Events begun since the last one.
    pub running: Vec<EventId>,
    /// The host's agent reports and touches nothing.
    pub observe_only: bool,
}

/// The handle: cheap to clone, for the API and the router.
#[derive(Clone)]
pub struct Events {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    rules: Rules,
    destroys_a_minute: u32,
    fleet: RwLock<Fleet>,
    pools: Mutex<Pools>,
    images: KnownImages,
    /// The newest of each running event, by the host that told it; bounded for each.
    progress: Mutex<HashMap<HostId, HashMap<EventId, Progress>>>,
    /// What diverged hosts told that they have.
    accounts: Accounts,
    changes: broadcast::Sender<Change>,
    /// Something was freed, or a host came: pending events may fit.
    room: Notify,
    time: Time,
    stop: CancellationToken,
}

impl Events {
    /// Reads the fleet, recounts the claims, and starts the sweeps; they end with `stop`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn start(
        store: Arc<dyn Store>,
        config: EventsConfig,
        stop: CancellationToken,
    ) -> Result<Self, Cause> {
        Self::start_at(store, config, Time::of(Box::<SystemClock>::default()), stop).await
    }

    /// With other clocks than the machine's.
    pub(crate) async fn start_at(
        store: Arc<dyn Store>,
        config: EventsConfig,
        time: Time,
        stop: CancellationToken,
    ) -> Result<Self, Cause> {
        for miscount in store.recount_claims().await? {
            tracing::warn!(host_id = %miscount.host, kept = ?miscount.kept, counted = ?miscount.counted,
                "the claims of a host were miscounted, and are corrected");
        }
        if let Some(cause) = store.fleet().await?.recovering {
            tracing::warn!(reason = %cause.reason, advice = cause.advice, "nothing is placed: {cause}");
        }
        let fleet = read::whole_fleet(store.as_ref(), time.now()).await?;
        let inner = Arc::new(Inner {
            store,
            rules: config.rules,
            destroys_a_minute: config.destroys_a_minute,
            fleet: RwLock::new(fleet),
            pools: Mutex::default(),
            images: KnownImages::default(),
            progress: Mutex::default(),
            accounts: Accounts::default(),
            changes: broadcast::channel(watch::BEHIND_MOST).0,
            room: Notify::new(),
            time,
            stop,
        });
        tokio::spawn(sweep::run(Arc::clone(&inner)));
        tokio::spawn(history::run(Arc::clone(&inner)));
        Ok(Self { inner })
    }

    /// The coordinator's time, which agents take for its clock.
    #[must_use]
    pub fn now(&self) -> Millis {
        self.inner.now()
    }
}

impl Events {
    /// Through the thread that writes the store, and back: what a beat proves.
    ///
    /// # Errors
    /// When it does not answer, or nothing can be written.
    pub async fn beat(&self) -> Result<(), Cause> {
        Ok(self.inner.store.beat().await?)
    }
}

impl Inner {
    /// A panic in another thread left the view readable: it is only a view.
    fn fleet(&self) -> RwLockReadGuard<'_, Fleet> {
        self.fleet.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn fleet_mut(&self) -> RwLockWriteGuard<'_, Fleet> {
        self.fleet.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn pools(&self) -> MutexGuard<'_, Pools> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, HashMap<HostId, HashMap<EventId, Progress>>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells watchers; with none there is nobody to tell.
    fn tell(&self, changed: impl IntoIterator<Item = Changed>) {
        for changed in changed {
            let _ = self.changes.send(Change::Event(changed));
        }
    }

    fn now(&self) -> Millis {
        self.time.now()
    }
}

/// First page size when all of something is read.
fn every() -> Page {
    Page::first(crate::store::page::PAGE_MOST)
}

#[cfg(test)]
mod tests;
