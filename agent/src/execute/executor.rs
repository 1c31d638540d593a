//! Hands accepted events to lanes, and wakes lanes when something happens.
//!
//! Owns: which VMs have a lane, and what waits to be taken in by each. A lane is made for the first unfinished event of a
//! VM and ends with the last, so a lane that is stuck holds up its own VM alone. Bounded by intake: a VM has at most one
//! unfinished event, and what supersedes it.

mod hold;

use std::collections::{BTreeSet, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dewpoint_common::message;
use dewpoint_proto::ids::VmId;
use futures::FutureExt;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot, watch};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::Instrument;

pub use self::hold::LaneHold;
use super::apply::Effects;
use super::history::History;
use super::keep::board::Board;
use super::keep::ears::Ears;
use super::keep::stock;
use super::lane::{Incoming, Lane};
use super::plan::Server;
use super::settings::Settings;
use crate::hypervisor::{DomainEvent, Hypervisor};
use crate::journal::rows::Parked;
use crate::journal::{Journal, JournalError, Journaled, Written};
use crate::network::Shield;
use crate::report::progress::{Progress, ProgressBoard};
use crate::storage::Storage;

/// What the executor is made of.
#[derive(Clone)]
pub struct Parts {
    /// Every step is written here first.
    pub journal: Journal,
    /// Domains, files, anti-spoofing rules.
    pub effects: Effects,
    /// Bounds.
    pub settings: Settings,
    /// Where snapshots are put and images fetched from.
    pub server: watch::Receiver<Server>,
    /// Held by an operator: no new steps.
    pub hold: watch::Receiver<bool>,
    /// Where running events stand.
    pub board: ProgressBoard,
    /// Where the keeper stands.
    pub keeping: Board,
}

/// Carries out events. Cheap to clone.
#[derive(Clone)]
pub struct Executor {
    shared: Arc<Shared>,
    /// Asks the loop for a sign of life; one at a time.
    pulse: mpsc::Sender<oneshot::Sender<()>>,
}

/// What the lanes share.
pub(super) struct Shared {
    pub(super) parts: Parts,
    pub(super) builds: Arc<Semaphore>,
    /// VMs that the keeper starts at once.
    pub(super) starts: Arc<Semaphore>,
    /// Cancelled: finish the step in hand, then stop.
    pub(super) stop: CancellationToken,
    doors: Mutex<HashMap<VmId, Door>>,
    /// Taken by the loop.
    pulses: Mutex<Option<mpsc::Receiver<oneshot::Sender<()>>>>,
    lanes: TaskTracker,
    /// What the keeper goes by, beside the journal.
    pub(super) ears: Ears,
}

/// Where events wait to be taken in by their lane.
#[derive(Default)]
struct Door {
    waiting: Vec<Incoming>,
    /// The keeper is to look at the VM when no event is left.
    look: bool,
    /// Keeps one wake that nobody waits for yet, so none is lost.
    bell: Arc<Notify>,
}

impl Executor {
    /// Begins nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let (pulse, pulses) = mpsc::channel(1);
        let shared = Shared {
            builds: Arc::new(Semaphore::new(parts.settings.builds.max(1))),
            starts: Arc::new(Semaphore::new(parts.settings.keep.starts.max(1))),
            parts,
            stop: CancellationToken::new(),
            doors: Mutex::default(),
            pulses: Mutex::new(Some(pulses)),
            lanes: TaskTracker::new(),
            ears: Ears::default(),
        };
        Self { shared: Arc::new(shared), pulse }
    }

    /// Goes on with what was unfinished when the agent stopped. Frozen guests are thawed first: that is the first step of
    /// their events' plans, and the only one that a hold lets through. A journal that is not believed is left as it is. Returns what this version cannot go on with.
    /// Called once, before the journal admits anything: what is admitted comes through [`Self::run`].
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn recover(&self) -> Result<Vec<Parked>, JournalError> {
        if let Some(doubt) = self.shared.parts.journal.doubt() {
            tracing::error!(reason = %doubt.reason, advice = doubt.advice, "nothing is gone on with: {doubt}");
            return Ok(Vec::new());
        }
        let recovery = self.shared.parts.journal.unfinished().await?;
        // A lane gets its events at once: a destroy that was accepted before the crash lets nothing before it go on.
        let mut lanes: HashMap<VmId, Vec<Incoming>> = HashMap::new();
        for event in recovery.events {
            let (event_id, vm_id) = (event.proof.id(), event.proof.vm());
            let kind = event.proof.event().kind.name();
            tracing::info!(%event_id, %vm_id, %kind, stage = event.stage.name(), "going on after a restart");
            lanes.entry(vm_id).or_default().push(Incoming::Old(Box::new(event)));
        }
        for (vm, events) in lanes {
            self.shared.open(vm, events);
        }
        Ok(recovery.parked)
    }

    /// Takes accepted events and wakes lanes, until `stop`; then every lane finishes the step in hand, and it returns.
    /// Jobs are dropped: they resume at the next start.
    pub async fn run(&self, mut admitted: mpsc::Receiver<Journaled>, stop: CancellationToken) {
        let mut events = Some(self.shared.parts.effects.hypervisor.events());
        let mut pulses = self.shared.pulses.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut hold = self.shared.parts.hold.clone();
        let mut server = self.shared.parts.server.clone();
        self.shared.lanes.spawn(stock::run(Arc::clone(&self.shared)));
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                Some(event) = admitted.recv() => {
                    accepted(&event);
                    self.shared.open(event.vm(), vec![Incoming::New(event)]);
                }
                happened = next_event(&mut events) => match happened {
                    Ok(DomainEvent::Changed(vm, word)) => self.shared.hear(vm, word),
                    Ok(DomainEvent::Resync) | Err(RecvError::Lagged(_)) => self.shared.was_deaf(),
                    // The hypervisor has ended, so there is nothing more to come; sweeps look all the same.
                    Err(RecvError::Closed) => events = None,
                },
                Some(pulse) = asked(&mut pulses) => {
                    // Whoever asked may have lost patience.
                    let _ = pulse.send(());
                }
                Ok(()) = hold.changed() => self.shared.ring_all(),
                Ok(()) = server.changed() => self.shared.ring_all(),
            }
        }
        self.shared.stop.cancel();
        self.shared.lanes.close();
        self.shared.lanes.wait().await;
    }

    /// Through the loop of [`Self::run`] and back: what a beat proves. False: it has ended.
    pub async fn beat(&self) -> bool {
        let (pulse, felt) = oneshot::channel();
        self.pulse.send(pulse).await.is_ok() && felt.await.is_ok()
    }

    /// VMs that have a lane: with unfinished events, or that the keeper looks at or is about to start.
    #[must_use]
    pub fn busy(&self) -> Vec<VmId> {
        self.shared.doors().keys().copied().collect()
    }
}

async fn asked(pulses: &mut Option<mpsc::Receiver<oneshot::Sender<()>>>) -> Option<oneshot::Sender<()>> {
    match pulses {
        Some(pulses) => pulses.recv().await,
        None => std::future::pending().await,
    }
}

fn accepted(proof: &Journaled) {
    let (event_id, vm_id, kind) = (proof.id(), proof.vm(), proof.event().kind.name());
    tracing::info!(message_id = message::EVENT_ACCEPTED, %event_id, %vm_id, %kind,
        seq = proof.origin().seq().map(|seq| seq.0), generation = proof.generation().0, "accepted");
}

/// The next thing that happened; never, once the hypervisor has ended.
pub(super) async fn next_event(
    events: &mut Option<broadcast::Receiver<DomainEvent>>,
) -> Result<DomainEvent, RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

impl Shared {
    /// Hands events to the VM's lane; with none, the keeper has a look at it there.
    fn open(self: &Arc<Self>, vm: VmId, incoming: Vec<Incoming>) {
        let mut doors = self.doors();
        let new = !doors.contains_key(&vm);
        let door = doors.entry(vm).or_default();
        door.look |= incoming.is_empty();
        door.waiting.extend(incoming);
        door.bell.notify_one();
        if new {
            self.spawn_lane(vm);
        }
    }

    fn spawn_lane(self: &Arc<Self>, vm: VmId) {
        let lane = AssertUnwindSafe(Lane::new(vm, Arc::clone(self)).run()).catch_unwind();
        let watched = async move {
            if lane.await.is_err() {
                // A bug. The VM's events stay in the journal for the next start; no other lane is touched.
                tracing::error!("the VM's lane panicked, and goes on when the agent is started again");
            }
        };
        self.lanes.spawn(watched.instrument(tracing::info_span!("lane", vm_id = %vm)));
    }

    /// Asks the keeper for a look at a VM, once no event is at work on it.
    pub(super) fn look_at(self: &Arc<Self>, vm: VmId) {
        self.open(vm, Vec::new());
    }

    /// What came for a lane since it last looked.
    pub(super) fn take_in(&self, vm: VmId) -> Vec<Incoming> {
        self.doors().get_mut(&vm).map(|door| std::mem::take(&mut door.waiting)).unwrap_or_default()
    }

    /// Ends a lane that has nothing left, unless something came meanwhile.
    pub(super) fn close(&self, vm: VmId) -> bool {
        let mut doors = self.doors();
        let idle = doors.get(&vm).is_none_or(|door| door.waiting.is_empty() && !door.look);
        if idle {
            doors.remove(&vm);
        }
        idle
    }

    /// Until the lane is woken, `until` has come (since the host booted), or `at_most` has passed.
    pub(super) async fn sleep(&self, vm: VmId, until: Option<Duration>, at_most: Duration) {
        let left = until.map_or(at_most, |until| until.saturating_sub(self.now()).min(at_most));
        let bell = self.bell(vm);
        tokio::select! {
            () = bell.notified() => {}
            () = sleep(left) => {}
            () = self.stop.cancelled() => {}
        }
    }

    /// Until a cancel or a destroy came for the lane, or the agent drains.
    pub(super) async fn interrupted(&self, vm: VmId) {
        let bell = self.bell(vm);
        while !self.stop.is_cancelled() && self.doors().get(&vm).is_none_or(|door| door.waiting.is_empty()) {
            tokio::select! {
                () = bell.notified() => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// A look begins. False: nothing is to be judged yet.
    pub(super) fn begins_a_look(&self, vm: VmId) -> bool {
        if let Some(door) = self.doors().get_mut(&vm) {
            door.look = false;
        }
        self.ears.may_judge()
    }

    /// Whether an event has come for the VM.
    pub(super) fn is_called(&self, vm: VmId) -> bool {
        self.doors().get(&vm).is_some_and(|door| !door.waiting.is_empty())
    }

    /// All domains were listed, and these VMs are the host's.
    pub(super) fn stock_taken(&self, known: BTreeSet<VmId>) {
        let doors = self.doors();
        self.ears.stock_taken(known, |vm| doors.contains_key(vm));
    }

    /// libvirt says something of a domain: kept before anyone looks at it.
    fn hear(self: &Arc<Self>, vm: VmId, word: String) {
        let has_lane = self.doors().contains_key(&vm);
        if self.ears.hear(vm, word, has_lane, self.now()) { self.look_at(vm) } else { self.ring(vm) }
    }

    fn was_deaf(&self) {
        self.ears.were_deaf();
        self.ring_all();
    }

    /// Since the host booted.
    pub(super) fn now(&self) -> Duration {
        Duration::from_millis(self.parts.journal.now().since_boot_ms)
    }

    /// Held by an operator.
    pub(super) fn held(&self) -> bool {
        *self.parts.hold.borrow()
    }

    pub(super) fn show(&self, progress: Progress) {
        self.parts.board.set(progress);
    }

    pub(super) fn effects(&self) -> (&dyn Hypervisor, &dyn Storage, &dyn Shield) {
        let Effects { hypervisor, storage, shield } = &self.parts.effects;
        (hypervisor.as_ref(), storage.as_ref(), shield.as_ref())
    }

    /// The history of an event from before the agent started.
    pub(super) fn history_of(&self, written: &[Written]) -> History {
        let boot = self.parts.journal.now().boot;
        let mut history = History::default();
        for Written { entry, at } in written {
            let since_boot = (at.boot == boot).then(|| Duration::from_millis(at.since_boot_ms));
            history.record(entry, since_boot);
        }
        history
    }

    fn ring(&self, vm: VmId) {
        if let Some(door) = self.doors().get(&vm) {
            door.bell.notify_one();
        }
    }

    fn ring_all(&self) {
        for door in self.doors().values() {
            door.bell.notify_one();
        }
    }

    fn bell(&self, vm: VmId) -> Arc<Notify> {
        self.doors().get(&vm).map(|door| Arc::clone(&door.bell)).unwrap_or_default()
    }

    fn doors(&self) -> MutexGuard<'_, HashMap<VmId, Door>> {
        self.doors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
