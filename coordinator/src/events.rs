//! The life of an event: admitted, assigned, delivered, reported.
//!
//! Owns: every write to the store; the view of the fleet that placement works on; what watchers are told. A write is
//! durable before anything here says so. Never: ends an event that a host may have begun, or asks a host for anything.

pub mod liveness;
pub mod request;
pub mod stage;
mod watch;

use std::sync::Arc;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{EventId, HostId, ReportSeq, Seq, Term, VmId};
use dewpoint_proto::names::NetworkName;
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::VmState;
use dewpoint_proto::wire::event::Progress;
use futures::stream::BoxStream;
use tokio::sync::watch as level;
use tokio_util::sync::CancellationToken;

use crate::scheduler::Policy;
use crate::store::{
    EventFilter, EventRecord, FleetRecord, Hello, HoldScope, HostClaim, HostFacts, HostRecord, HostReport,
    ImageAddition, ImageRecord, ImageRemoved, ImageSelector, NetworkRecord, NetworkSpec, Page, Paged,
    QueueEntry, Store, Switch, VmFilter, VmRecord,
};
use liveness::Liveness;
use request::{CancelEvent, ChangeVm, CreateVm, HostSelector, VmSelector};

/// What placement and liveness go by.
#[derive(Clone, Debug, Default)]
pub struct EventsConfig {
    /// Ratios and reserves.
    pub placement: Policy,
    /// When a host is late, and when lost.
    pub liveness: liveness::LivenessPolicy,
}

/// A host with what only the running coordinator knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStatus {
    /// Its row, with the newest heartbeat and capacity.
    pub record: HostRecord,
    /// As of now.
    pub liveness: Liveness,
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
    /// Its row.
    pub record: EventRecord,
    /// Since the coordinator started, by its host; gone when it ended.
    pub progress: Option<Progress>,
}

/// The handle: cheap to clone, for the API and the router.
#[derive(Clone)]
pub struct Events {
    store: Arc<dyn Store>,
}

/// For callers.
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
        let _ = (config, stop);
        Ok(Self { store })
    }

    /// Answers once the event is `assigned`, or `pending` when waiting was asked.
    ///
    /// # Errors
    /// `INVALID`, `TOO_LARGE`, `EVENT_ID_REUSED`, `VM_EXISTS`, `IMAGE_NOT_FOUND`, `NETWORK_NOT_FOUND`, `NO_ADDRESS`,
    /// `NO_CAPACITY`, `HOST_NOT_FOUND`, `TOO_BUSY`, `JOURNAL_ERROR`.
    pub async fn create(&self, request: CreateVm) -> Result<EventRecord, Cause> {
        let _ = request;
        unimplemented!()
    }

    /// Answers once the event is `assigned`.
    ///
    /// # Errors
    /// As [`Events::create`], and `VM_NOT_FOUND`, `NAME_AMBIGUOUS`, `VM_BUSY`.
    pub async fn change(&self, request: ChangeVm) -> Result<EventRecord, Cause> {
        let _ = request;
        unimplemented!()
    }

    /// Answers once the cancel is `assigned`, or done when its target was `pending`.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`, `TOO_LATE`, `VM_BUSY`, `EVENT_ID_REUSED`.
    pub async fn cancel(&self, request: CancelEvent) -> Result<EventRecord, Cause> {
        let _ = request;
        unimplemented!()
    }

    /// One event, with its explanation and progress.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`.
    pub async fn event(&self, id: EventId) -> Result<EventStatus, Cause> {
        let _ = id;
        unimplemented!()
    }

    /// Newest first.
    ///
    /// # Errors
    /// `INVALID` for a wrong page token.
    pub async fn events(&self, filter: EventFilter, page: Page) -> Result<Paged<EventStatus>, Cause> {
        let _ = (filter, page);
        unimplemented!()
    }

    /// A snapshot, then every change, progress included.
    #[must_use]
    pub fn watch_events(
        &self,
        filter: EventFilter,
    ) -> BoxStream<'static, Result<Watched<EventStatus>, Cause>> {
        let _ = filter;
        unimplemented!()
    }

    /// One VM.
    ///
    /// # Errors
    /// `VM_NOT_FOUND`, `NAME_AMBIGUOUS`.
    pub async fn vm(&self, vm: VmSelector) -> Result<VmRecord, Cause> {
        let _ = vm;
        unimplemented!()
    }

    /// By name.
    ///
    /// # Errors
    /// `INVALID` for a wrong page token.
    pub async fn vms(&self, filter: VmFilter, page: Page) -> Result<Paged<VmRecord>, Cause> {
        let _ = (filter, page);
        unimplemented!()
    }

    /// A snapshot, then every change.
    #[must_use]
    pub fn watch_vms(&self, filter: VmFilter) -> BoxStream<'static, Result<Watched<VmRecord>, Cause>> {
        let _ = filter;
        unimplemented!()
    }

    /// One host.
    ///
    /// # Errors
    /// `HOST_NOT_FOUND`, `NAME_AMBIGUOUS`.
    pub async fn host(&self, host: HostSelector) -> Result<HostStatus, Cause> {
        let _ = host;
        unimplemented!()
    }

    /// By hostname.
    ///
    /// # Errors
    /// `INVALID` for a wrong page token.
    pub async fn hosts(&self, page: Page) -> Result<Paged<HostStatus>, Cause> {
        let _ = page;
        unimplemented!()
    }

    /// A cordoned host gets no new VMs.
    ///
    /// # Errors
    /// `HOST_NOT_FOUND`.
    pub async fn cordon(&self, host: HostSelector, cordon: Switch) -> Result<HostStatus, Cause> {
        let _ = (host, cordon);
        unimplemented!()
    }

    /// A held host, or fleet, is delivered nothing. The number of hosts it concerns.
    ///
    /// # Errors
    /// `HOST_NOT_FOUND`.
    pub async fn hold(&self, scope: HoldScope, hold: Switch) -> Result<u32, Cause> {
        let _ = (scope, hold);
        unimplemented!()
    }

    /// What holds for the whole fleet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn fleet(&self) -> Result<FleetRecord, Cause> {
        Ok(self.store.fleet().await?)
    }

    /// A person says that this database may place again.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn end_recovery(&self) -> Result<(), Cause> {
        unimplemented!()
    }

    /// Puts an image, whose file is stored and checked, into the catalogue.
    ///
    /// # Errors
    /// `IMAGE_NAME_TAKEN`.
    pub async fn add_image(&self, image: ImageAddition) -> Result<ImageRecord, Cause> {
        let _ = image;
        unimplemented!()
    }

    /// One image.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`.
    pub async fn image(&self, image: ImageSelector) -> Result<ImageRecord, Cause> {
        let _ = image;
        unimplemented!()
    }

    /// By digest.
    ///
    /// # Errors
    /// `INVALID` for a wrong page token.
    pub async fn images(&self, page: Page) -> Result<Paged<ImageRecord>, Cause> {
        let _ = page;
        unimplemented!()
    }

    /// Removes a tag (and with the last one the image), or an image with its tags.
    ///
    /// # Errors
    /// `IMAGE_NOT_FOUND`, `IMAGE_IN_USE`.
    pub async fn remove_image(&self, image: ImageSelector) -> Result<ImageRemoved, Cause> {
        let _ = image;
        unimplemented!()
    }

    /// Adds a network; the same one again changes nothing.
    ///
    /// # Errors
    /// `NETWORK_EXISTS`, `INVALID`.
    pub async fn add_network(&self, network: NetworkSpec) -> Result<NetworkRecord, Cause> {
        let _ = network;
        unimplemented!()
    }

    /// One network.
    ///
    /// # Errors
    /// `NETWORK_NOT_FOUND`.
    pub async fn network(&self, name: &NetworkName) -> Result<NetworkRecord, Cause> {
        let _ = name;
        unimplemented!()
    }

    /// By name.
    ///
    /// # Errors
    /// `INVALID` for a wrong page token.
    pub async fn networks(&self, page: Page) -> Result<Paged<NetworkRecord>, Cause> {
        let _ = page;
        unimplemented!()
    }

    /// Removes a network that no VM uses.
    ///
    /// # Errors
    /// `NETWORK_NOT_FOUND`, `NETWORK_IN_USE`.
    pub async fn remove_network(&self, name: NetworkName) -> Result<(), Cause> {
        let _ = name;
        unimplemented!()
    }
}

/// For the router. Every write is under the host's term: `TERM_LOST` means close the session.
impl Events {
    /// Takes the host's queue under a new term and matches the logs. The host counts as heard.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn claim_host(&self, hello: Hello) -> Result<HostClaim, Cause> {
        let _ = hello;
        unimplemented!()
    }

    /// Entries of a host's queue after `after`, at most `limit`, in order without gaps. Empty for a held host or fleet.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn deliverable(&self, host: HostId, after: Seq, limit: u32) -> Result<Vec<QueueEntry>, Cause> {
        let _ = (host, after, limit);
        unimplemented!()
    }

    /// Changes whenever the host's queue may have something new, or its hold or the fleet's was switched. Look at
    /// [`Events::deliverable`] and [`Events::held`] after each change, and once before the first.
    #[must_use]
    pub fn queue_of(&self, host: HostId) -> level::Receiver<u64> {
        let _ = host;
        unimplemented!()
    }

    /// Why the host is delivered nothing: its own hold, or the fleet's.
    #[must_use]
    pub fn held(&self, host: HostId) -> Option<String> {
        let _ = host;
        unimplemented!()
    }

    /// All up to `seq` are journaled on the host.
    ///
    /// # Errors
    /// `TERM_LOST`.
    pub async fn accepted(&self, host: HostId, term: Term, seq: Seq) -> Result<(), Cause> {
        let _ = (host, term, seq);
        unimplemented!()
    }

    /// Stores a report; acknowledge all up to the answer.
    ///
    /// # Errors
    /// `TERM_LOST`, or when the store cannot be written: not acknowledged then.
    pub async fn report(&self, host: HostId, term: Term, report: HostReport) -> Result<ReportSeq, Cause> {
        let _ = (host, term, report);
        unimplemented!()
    }

    /// Takes what a heartbeat brings: in memory always, stored when it matters.
    ///
    /// # Errors
    /// `TERM_LOST`.
    pub async fn heartbeat(&self, host: HostId, term: Term, heartbeat: HostHeartbeat) -> Result<(), Cause> {
        let _ = (host, term, heartbeat);
        unimplemented!()
    }

    /// Takes VM states of an inventory.
    ///
    /// # Errors
    /// `TERM_LOST`.
    pub async fn observe(&self, host: HostId, term: Term, states: Vec<VmState>) -> Result<(), Cause> {
        let _ = (host, term, states);
        unimplemented!()
    }

    /// Passes progress on to watchers; kept in memory alone.
    pub fn progress(&self, host: HostId, progress: Progress) {
        let _ = (host, progress);
    }
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
}

fn _later(_: Body, _: VmId, _: Millis) {}
