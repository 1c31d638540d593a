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
//! Every request waits in one bounded queue. The thread takes what has gathered, runs it in one transaction, commits
//! with one fsync, and answers only then. A request that fails leaves nothing behind and
//! takes no other with it. When the disk is full, a reserve is given up so that running events can still end; new
//! ones are withheld until there is room again.

pub mod admission;
mod admit;
mod adopt;
mod append;
pub mod aside;
pub mod check;
mod columns;
pub mod entry;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod job;
pub mod kept;
pub mod moment;
mod offered;
pub mod orphan;
mod query;
mod questions;
mod reader;
pub mod reconcile;
mod reserve;
pub mod rows;
mod schema;
pub mod stage;
mod thread;
mod whole;
mod witness;

use std::cell::OnceCell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{Epoch, ReportSeq, RunId, Term, VmId};
use dewpoint_proto::time::Millis;
use tokio::sync::{broadcast, mpsc, watch};

pub use admission::{Admission, Delivery, Journaled, Judge, Origin, Payload};
use check::{Depth, Expects};
use entry::Entry;
pub use error::{JournalError, OpenError};
use job::{Access, Job, Task, Then, Tx};
use kept::Kept;
use moment::{BootId, Moment};
pub use offered::Offered;
pub use reader::Reader;
pub(crate) use reader::connect as connect_read_only;
use reserve::Reserve;
pub use rows::{
    Change, EntryRow, EventFilter, EventRow, Page, Recovery, ReportRow, Session, Tail, Unfinished, VmRow,
    Written,
};
pub use schema::SCHEMA;
use stage::Stage;
use thread::{Outlets, Writer};
use witness::Witness;

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
    /// Whether a host without a journal would be a new one.
    pub expects: Expects,
    /// How long an event's bytes are kept after its end.
    pub keep_bodies: Duration,
    /// How long a finished event is kept; its id and digest stay for good.
    pub keep_events: Duration,
}

impl Settings {
    /// With the retention of the design: bodies 3 days, events 30.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, boot: BootId, judge: Judge) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        Self { clock, boot, judge, expects: Expects::Nothing, keep_bodies: 3 * DAY, keep_events: 30 * DAY }
    }
}

/// The journal. Cheap to clone; every call waits for the disk. A call whose future is dropped may have been written
/// all the same. The thread ends with the last handle.
#[derive(Clone)]
pub struct Journal(Arc<Shared>);

struct Shared {
    inbox: mpsc::Sender<Box<dyn Job>>,
    epoch: Epoch,
    settings: Settings,
    changes: broadcast::Sender<Change>,
    reports: watch::Receiver<ReportSeq>,
    withheld: watch::Receiver<Option<Cause>>,
    doubt: watch::Receiver<Option<Cause>>,
}

/// What only tests make smaller.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    reserve_bytes: u64,
    most_pages: Option<u32>,
}

impl Journal {
    /// Looks whether `agent.db` can be used, reading only; then opens or makes it, migrates it, raises the start count, and starts the thread. The caller holds the
    /// data folder's lock.
    ///
    /// # Errors
    /// [`OpenError`]; what is damaged or of a newer schema is left as it is.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, OpenError> {
        Self::open_within(path, settings, Bounds { reserve_bytes: reserve::RESERVE_BYTES, most_pages: None })
    }

    fn open_within(path: &Path, settings: Settings, bounds: Bounds) -> Result<Self, OpenError> {
        let sqlite = |source| OpenError::Sqlite { path: path.to_owned(), source };
        let (db, epoch) = match open_database(path, settings.expects) {
            // Even the log's index takes some room.
            Err(error) if error.may_be_full() && reserve::give_up(path) => {
                tracing::error!(%error, "the journal's disk may be full: its reserve is given up to open it");
                open_database(path, settings.expects)
            }
            opened => opened,
        }?;
        let damaged = |error: JournalError| match error {
            JournalError::Full(why) | JournalError::Disk(why) => {
                OpenError::Io { path: path.to_owned(), source: std::io::Error::other(why) }
            }
            other => OpenError::Damaged { path: path.to_owned(), why: other.to_string() },
        };
        let now = Moment::now(settings.clock.as_ref(), settings.boot);
        match kept::note_boot(&db, now) {
            Err(JournalError::Full(_)) if reserve::give_up(path) => kept::note_boot(&db, now),
            noted => noted,
        }
        .map_err(damaged)?;
        if let Some(pages) = bounds.most_pages {
            db.pragma_update(None, "max_page_count", pages).map_err(sqlite)?;
        }
        let newest = query::last_report(&db).map_err(damaged)?;
        let witness = Witness::beside(path);
        let why = witness.doubt(&db).map_err(sqlite)?;
        let writes = witness::writes_of(&db).map_err(sqlite)?;
        let (inbox, requests) = mpsc::channel(thread::GROUP);
        let (changes, _) = broadcast::channel(1024);
        let (report, reports) = watch::channel(newest);
        let (withhold, withheld) = watch::channel(None);
        let (doubts, doubt) = watch::channel(why);
        let outlets =
            Outlets { changes: changes.clone(), reports: report, withheld: withhold, doubt: doubts };
        let reserve = Reserve::beside(path, bounds.reserve_bytes);
        let written_at = settings.clock.since_boot();
        let told = witness::Told { journal: epoch.journal, writes, witness };
        let (settings_too, damage) = (settings.clone(), OnceCell::new());
        let writer = Writer { db, reserve, settings: settings_too, outlets, damage, written_at, told };
        std::thread::Builder::new()
            .name("journal".into())
            .spawn(move || writer.run(requests))
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        Ok(Self(Arc::new(Shared { inbox, epoch, settings, changes, reports, withheld, doubt })))
    }

    async fn ask<T, F>(&self, access: Access, work: F) -> Result<T, JournalError>
    where
        T: Send + 'static,
        F: FnMut(&mut Tx<'_>) -> Result<T, JournalError> + Send + 'static,
    {
        let (job, answer) = Task::job(access, work, None);
        self.0.inbox.send(job).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// Which run of the agent this is.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.0.epoch
    }

    /// The present instant, by the clocks that deadlines are judged by.
    #[must_use]
    pub fn now(&self) -> Moment {
        Moment::now(self.0.settings.clock.as_ref(), self.0.settings.boot)
    }

    /// Journals a delivery: accepted or refused, both with all that belongs to them. Whoever drops this future before
    /// its answer leaves an accepted event to the next start; [`Self::offer`] does not.
    ///
    /// # Errors
    /// Anything else than an [`Admission`] must not be acknowledged: `Withheld`, `OutOfOrder`, `SeqTaken`, `Write`.
    pub async fn admit(&self, delivery: Delivery) -> Result<Admission, JournalError> {
        self.enqueue(delivery, None).await?.answer().await
    }

    /// Puts a delivery into the journal's queue, behind all that is in it, and does not wait for the disk. If it is
    /// accepted it goes to its place at the executor by itself: an event that is on disk is executed, even when
    /// whoever brought it has gone before the answer.
    ///
    /// # Errors
    /// `Closed`.
    pub async fn offer(
        &self,
        delivery: Delivery,
        place: mpsc::OwnedPermit<Journaled>,
    ) -> Result<Offered, JournalError> {
        let hand_on = |admission: &Admission| {
            if let Admission::New(proof) = admission {
                place.send(proof.clone());
            }
        };
        self.enqueue(delivery, Some(Box::new(hand_on))).await
    }

    async fn enqueue(
        &self,
        delivery: Delivery,
        then: Option<Then<Admission>>,
    ) -> Result<Offered, JournalError> {
        let ((event, vm), seq) = (delivery.payload.named(), delivery.origin.seq());
        // Encoded here: the journal's thread is what all wait for.
        let spec = admit::spec_of(&delivery);
        let (job, answer) =
            Task::job(Access::Admit, move |tx| admit::admit(tx, &delivery, spec.as_deref()), then);
        self.0.inbox.send(job).await.map_err(|_| JournalError::Closed)?;
        Ok(Offered { event, vm, seq, answer })
    }

    /// Writes entries of one event, all or none. `Finished` writes outcome, report and VM with it; the first
    /// `StepStarted` begins the event.
    ///
    /// # Errors
    /// `Illegal` when [`Stage::after`] says so; `Write` and `Withheld` when the disk does.
    pub async fn append(&self, event: &Journaled, entries: Vec<Entry>) -> Result<Stage, JournalError> {
        let event = event.id();
        self.ask(Access::Write, move |tx| append::append(tx, event, &entries)).await
    }

    /// Takes VMs over from their marks into a new journal; in another, nothing. The number taken over.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn adopt(&self, vms: Vec<VmRow>) -> Result<usize, JournalError> {
        self.ask(Access::Write, move |tx| adopt::adopt(tx, &vms)).await
    }

    /// Notes what happened to a VM without an event, and what is done about it; with the run that is begun, if one is.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn keep(&self, vm: VmId, kept: Kept, run: Option<RunId>) -> Result<(), JournalError> {
        self.ask(Access::Write, move |tx| kept::write(tx.db, vm, &kept, run)).await
    }

    /// Notes what a Welcome said, and gives back what is noted now. A term below the highest ever is not noted.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn welcomed(&self, term: Term, theirs: Millis, hold: bool) -> Result<Session, JournalError> {
        self.ask(Access::Write, move |tx| append::welcomed(tx, term, theirs, hold)).await
    }

    /// Notes that an operator holds the host, or no longer does.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn set_hold(&self, hold: bool) -> Result<(), JournalError> {
        self.ask(Access::Write, move |tx| append::set_hold(tx, hold)).await
    }

    /// Notes that the coordinator has every report up to this one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn acknowledge(&self, up_to: ReportSeq) -> Result<(), JournalError> {
        self.ask(Access::Write, move |tx| append::acknowledge(tx, up_to)).await
    }

    /// Drops what has been kept long enough. `unmoved`: now, by a clock that nobody moves.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn prune(&self, unmoved: Millis) -> Result<(), JournalError> {
        let settings = self.0.settings.clone();
        self.ask(Access::Write, move |tx| append::prune(tx, &settings, unmoved)).await
    }

    /// Through the queue, the thread and back: what a heartbeat proves.
    ///
    /// # Errors
    /// `Withheld`, when new events are.
    pub async fn ping(&self) -> Result<(), JournalError> {
        self.ask(Access::Probe, |_| Ok(())).await?;
        match self.0.withheld.borrow().clone() {
            None => Ok(()),
            Some(cause) => Err(JournalError::Withheld(cause)),
        }
    }

    /// Every change from now on; a receiver that lags reads the rows again.
    #[must_use]
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.0.changes.subscribe()
    }

    /// The number of the newest report.
    #[must_use]
    pub fn reports(&self) -> watch::Receiver<ReportSeq> {
        self.0.reports.clone()
    }

    /// Why new events are withheld; none: they are not.
    #[must_use]
    pub fn withheld(&self) -> watch::Receiver<Option<Cause>> {
        self.0.withheld.clone()
    }
}

fn open_database(path: &Path, expects: Expects) -> Result<(rusqlite::Connection, Epoch), OpenError> {
    check::check(path, expects, Depth::Quick)?;
    schema::open(path)
}

#[cfg(test)]
mod tests;
