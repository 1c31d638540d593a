//! Writes what is true of events to disk before anyone acts on it.
//!
//! Owns `agent.db` and the one thread that writes it. Never: calls libvirt, touches disks, decides what to do.
//!
//! ```text
//! admit ──▶ accepted ──▶ running ──▶ finished ──▶ reported
//!    │          └──────────┴▶ undoing ──▲
//!    └─▶ refused (finished at once)
//! ```
//!
//! Every request waits in one bounded queue. The thread takes what has gathered, runs each request in a savepoint of
//! one transaction, commits with one fsync, and answers only then. A request that fails leaves nothing behind and
//! takes no other with it. When the disk is full, a reserve is given up so that running events can still end; new
//! ones are withheld until there is room again.

pub mod admission;
pub mod entry;
mod error;
pub mod moment;
pub mod rows;
pub mod stage;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{Epoch, EventId, ReportSeq, RunId, Term, VmId};
use dewpoint_proto::time::Millis;
use tokio::sync::{broadcast, mpsc, watch};

pub use admission::{Admission, Delivery, Journaled, Judge, Origin, Payload};
use entry::Entry;
pub use error::{JournalError, OpenError};
use moment::{BootId, Moment};
pub use rows::{
    Change, EntryRow, EventFilter, EventRow, Page, Recovery, ReportRow, Session, Tail, Unfinished, VmRow,
    Written,
};
use stage::Stage;

use crate::clock::Clock;

/// Accepted events on their way to the executor. Bounded; a full one closes the delivery window.
pub type Admitted = mpsc::Sender<Journaled>;

/// What the journal is opened with.
#[derive(Clone)]
pub struct Settings {
    /// The host's clocks.
    pub clock: Arc<dyn Clock>,
    /// The present boot.
    pub boot: BootId,
    /// Intake's rules.
    pub judge: Judge,
    /// How long an event's bytes are kept after its end.
    pub keep_bodies: Duration,
    /// How long a finished event is kept; its id and digest stay for good.
    pub keep_events: Duration,
}

/// The journal. Cheap to clone; every call waits for the disk.
#[derive(Clone)]
pub struct Journal {
    epoch: Epoch,
}

#[expect(unused_variables, reason = "the signatures land first")]
impl Journal {
    /// Opens or makes `agent.db`, migrates it, raises the start count, and starts the thread. The caller holds the
    /// data folder's lock.
    ///
    /// # Errors
    /// [`OpenError`]; a newer schema is left as it is.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, OpenError> {
        unimplemented!()
    }

    /// Which run of the agent this is.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The present instant, by the clocks that deadlines are judged by.
    #[must_use]
    pub fn now(&self) -> Moment {
        unimplemented!()
    }

    /// Journals a delivery: accepted or refused, both with all that belongs to them.
    ///
    /// # Errors
    /// Anything else than an [`Admission`] must not be acknowledged: `Withheld`, `OutOfOrder`, `SeqTaken`, `Write`.
    pub async fn admit(&self, delivery: Delivery) -> Result<Admission, JournalError> {
        unimplemented!()
    }

    /// Writes entries of one event, all or none. `Finished` writes outcome, report and VM with it; the first
    /// `StepStarted` begins the event.
    ///
    /// # Errors
    /// `Illegal` when [`Stage::after`] says so; `Write` and `Withheld` when the disk does.
    pub async fn append(&self, event: &Journaled, entries: Vec<Entry>) -> Result<Stage, JournalError> {
        unimplemented!()
    }

    /// What a start has to go on with.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn unfinished(&self) -> Result<Recovery, JournalError> {
        unimplemented!()
    }

    /// One VM; `None`: never heard of.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn vm(&self, vm: VmId) -> Result<Option<VmRow>, JournalError> {
        unimplemented!()
    }

    /// Every VM that is there or being built; tombstones are not among them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn vms(&self) -> Result<Vec<VmRow>, JournalError> {
        unimplemented!()
    }

    /// Notes a run that no event caused: a start by policy after a host boot.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn note_run(&self, vm: VmId, run: RunId) -> Result<(), JournalError> {
        unimplemented!()
    }

    /// Where the journal ends.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn tail(&self) -> Result<Tail, JournalError> {
        unimplemented!()
    }

    /// Notes what a Welcome said, and gives back what is noted now. A term below the highest ever is not noted.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn welcomed(&self, term: Term, theirs: Millis, hold: bool) -> Result<Session, JournalError> {
        unimplemented!()
    }

    /// Notes that an operator holds the host, or no longer does.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn set_hold(&self, hold: bool) -> Result<(), JournalError> {
        unimplemented!()
    }

    /// Unacknowledged reports after this one, the oldest first; at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn reports_after(&self, after: ReportSeq, limit: u32) -> Result<Vec<ReportRow>, JournalError> {
        unimplemented!()
    }

    /// Notes that the coordinator has every report up to this one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn acknowledge(&self, up_to: ReportSeq) -> Result<(), JournalError> {
        unimplemented!()
    }

    /// Events, the newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn events(&self, filter: EventFilter, page: Page) -> Result<Vec<EventRow>, JournalError> {
        unimplemented!()
    }

    /// One event with its entries, the oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn event(&self, event: EventId) -> Result<Option<(EventRow, Vec<EntryRow>)>, JournalError> {
        unimplemented!()
    }

    /// Drops what has been kept long enough.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn prune(&self) -> Result<(), JournalError> {
        unimplemented!()
    }

    /// Through the queue, the thread and back: what a heartbeat proves.
    ///
    /// # Errors
    /// `Withheld`, when new events are.
    pub async fn ping(&self) -> Result<(), JournalError> {
        unimplemented!()
    }

    /// Every change from now on; a receiver that lags reads the rows again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        unimplemented!()
    }

    /// The number of the newest report.
    #[must_use]
    pub fn reports(&self) -> watch::Receiver<ReportSeq> {
        unimplemented!()
    }

    /// Why new events are withheld; none: they are not.
    #[must_use]
    pub fn withheld(&self) -> watch::Receiver<Option<Cause>> {
        unimplemented!()
    }
}
