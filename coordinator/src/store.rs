//! What must be true, kept: events, VMs and their claims, hosts and their queues, images, networks.
//!
//! Owns: every row. One method per transition, a value in, an outcome out, durable on return; implementations are
//! interchangeable, and pass one contract suite unchanged. Whatever belongs together happens in one transaction or not
//! at all. Never: chooses (that is the scheduler's), reads the clock, or infers (a claim goes by proof alone).

mod account;
pub mod audit;
pub(crate) mod causes;
#[cfg(test)]
pub(crate) mod contract;
pub mod error;
#[cfg(test)]
pub(crate) mod failing;
pub mod matching;
pub mod page;
pub mod record;
pub mod sqlite;
pub mod transition;

use std::net::IpAddr;

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{EventId, HostId, Seq, VmId};
use dewpoint_proto::names::NetworkName;
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::VmState;

pub use account::*;
pub use audit::{About, Act, AuditEntry, AuditRecord, Word};
pub use error::StoreError;
use matching::OurLog;
pub use page::{Page, Paged};
pub use record::*;
pub use transition::*;

/// What a method of the store comes to.
pub type StoreResult<T> = Result<T, StoreError>;

/// The transitions and the questions. Every write for a host is conditional on its term: `TermLost` otherwise.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// Admits a create: idempotent by event id, then claims the first candidate that still fits, with leases, seq and
    /// generation, in one transaction.
    async fn admit_create(&self, create: CreateAdmission) -> StoreResult<Admission>;
    /// Admits any other kind: idempotent by event id, refused `VM_BUSY` while another is unfinished unless it
    /// supersedes; what was never assigned is ended here.
    async fn admit_change(&self, change: ChangeAdmission) -> StoreResult<Admission>;
    /// Tries a pending event again.
    async fn place_again(&self, place: PlaceAgain) -> StoreResult<Placed>;
    /// Ends pending events that were not begun by their deadline.
    async fn expire_pending(&self, now: Millis) -> StoreResult<Recorded>;
    /// Ends an event by the word of a person who answers for its host; claim and leases stand.
    async fn force_event(&self, forcing: Forcing) -> StoreResult<Settled<Box<EventRecord>>>;
    /// Moves events that ended before `before`, and that their hosts acknowledged, out of the way of those under way;
    /// how many, which is bounded: ask again while it is not 0.
    async fn move_finished(&self, before: Millis, at: Millis) -> StoreResult<u32>;
    /// Removes the bodies of events that were moved before `before`; how many, which is bounded as well.
    async fn forget_bodies(&self, before: Millis) -> StoreResult<u32>;

    /// Takes a host's queue under a new term, registering a host never seen, and matches its log with ours.
    async fn claim_host(&self, hello: Hello, at: Millis) -> StoreResult<HostClaim>;
    /// All up to `seq` are journaled on the host.
    async fn accepted_up_to(&self, under: Under, seq: Seq) -> StoreResult<Vec<Changed>>;
    /// These have begun.
    async fn record_running(&self, under: Under, events: Vec<EventId>) -> StoreResult<Vec<Changed>>;
    /// Stores a report, once: stage, VM, claim and addresses on proof that it is gone, a snapshot's image.
    async fn record_report(&self, under: Under, report: HostReport) -> StoreResult<Recorded>;
    /// Takes VM states of an inventory or heartbeat; those older than what is known are passed over.
    async fn observe_vms(&self, under: Under, states: Vec<VmState>) -> StoreResult<Observed>;
    /// Keeps what a heartbeat brings.
    async fn record_heartbeat(&self, under: Under, facts: HostFacts) -> StoreResult<()>;

    /// A cordoned host gets no new VMs.
    async fn set_cordon(&self, host: HostId, cordon: Switch, word: Word) -> StoreResult<HostSettled>;
    /// A held host is delivered nothing. The number of hosts it concerns.
    async fn set_hold(&self, scope: HoldScope, hold: Switch, word: Word) -> StoreResult<Settled<u32>>;
    /// A person says that this database may place again: hosts that are ahead of it go on from their own last seq.
    async fn end_recovery(&self, word: Word) -> StoreResult<Settlement>;
    /// Sets how many VMs may be destroyed in a minute, 0 for any number; none: as configured.
    async fn set_destroy_limit(&self, limit: Option<u32>, word: Word) -> StoreResult<()>;
    /// Keeps what a person did, where no transition above does so by itself.
    async fn record_act(&self, entry: AuditEntry) -> StoreResult<()>;
    /// Ends a recovery by itself: no host is ahead any more. What it was recovering from.
    async fn settle_recovery(&self) -> StoreResult<Option<Cause>>;
    /// Takes what a host knows, and this database does not, into the rows: it is recovering no longer.
    async fn take_over(&self, account: TakeOver) -> StoreResult<Settled<TakenOver>>;
    /// A person says how a diverged host goes on; refused when it is not as it was planned on.
    async fn reconcile(&self, reconciliation: Reconciliation) -> StoreResult<Settled<Settlement>>;
    /// A person says that a host will not come back; refused while it has VMs whose disks may be there.
    async fn retire_host(&self, retirement: Retirement) -> StoreResult<Settled<Settlement>>;
    /// A person says that a host takes the place of another.
    async fn replace_host(&self, replacement: Replacement) -> StoreResult<HostSettled>;
    /// Counts claims from the VMs' rows and corrects the sums kept with the hosts.
    async fn recount_claims(&self) -> StoreResult<Vec<Miscount>>;

    /// Puts an image into the catalogue, or another name to one that is there.
    async fn add_image(&self, image: ImageAddition) -> StoreResult<Settled<ImageRecord>>;
    /// Removes a name, or the whole image; refused while an unfinished event needs it.
    async fn remove_image(&self, image: ImageSelector) -> StoreResult<Settled<ImageRemoved>>;
    /// Adds a network; the same one again changes nothing.
    async fn add_network(&self, network: NetworkSpec) -> StoreResult<Settled<NetworkRecord>>;
    /// Removes a network that no VM has an address or a NIC of.
    async fn remove_network(&self, name: NetworkName) -> StoreResult<Settled<()>>;

    /// Through whoever writes, and back: an answer in time, whatever it is.
    async fn beat(&self) -> StoreResult<()>;

    /// What the rows say of a host's log; `at`: the place in its queue that is compared.
    async fn log_of(&self, host: HostId, at: Seq) -> StoreResult<Option<OurLog>>;
    /// A VM's create, while its bytes are kept.
    async fn create_of(&self, vm: VmId) -> StoreResult<Option<Body>>;
    /// Entries of a host's queue after `after`, at most `limit`, in order without gaps.
    async fn deliverable(&self, host: HostId, after: Seq, limit: u32) -> StoreResult<Vec<QueueEntry>>;
    /// One event, with its explanation.
    async fn event(&self, id: EventId) -> StoreResult<Option<EventRecord>>;
    /// The request digest of an event, for idempotency before anything is chosen.
    async fn seen(&self, id: EventId) -> StoreResult<Option<(RequestDigest, EventRecord)>>;
    /// Newest first.
    async fn events(&self, filter: EventFilter, page: Page) -> StoreResult<Paged<EventRecord>>;
    /// Pending creates, oldest first, at most `limit`.
    async fn pending(&self, limit: u32) -> StoreResult<Vec<PendingCreate>>;
    /// One VM.
    async fn vm(&self, id: VmId) -> StoreResult<Option<VmRecord>>;
    /// By name.
    async fn vms(&self, filter: VmFilter, page: Page) -> StoreResult<Paged<VmRecord>>;
    /// One host.
    async fn host(&self, id: HostId) -> StoreResult<Option<HostRecord>>;
    /// Hosts of that name, at most two.
    async fn hosts_named(&self, hostname: &str) -> StoreResult<Vec<HostRecord>>;
    /// By hostname.
    async fn hosts(&self, page: Page) -> StoreResult<Paged<HostRecord>>;
    /// What holds for all.
    async fn fleet(&self) -> StoreResult<FleetRecord>;
    /// What people did, newest first.
    async fn audit(&self, about: About, page: Page) -> StoreResult<Paged<AuditRecord>>;
    /// One image.
    async fn image(&self, image: ImageSelector) -> StoreResult<Option<ImageRecord>>;
    /// By digest.
    async fn images(&self, page: Page) -> StoreResult<Paged<ImageRecord>>;
    /// One network.
    async fn network(&self, name: &NetworkName) -> StoreResult<Option<NetworkRecord>>;
    /// By name.
    async fn networks(&self, page: Page) -> StoreResult<Paged<NetworkRecord>>;
    /// The addresses of a network that are given out.
    async fn addresses(&self, network: &NetworkName) -> StoreResult<Vec<IpAddr>>;
}
