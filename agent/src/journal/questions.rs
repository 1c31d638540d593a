//! What the journal is asked by the running agent. In the queue of its thread, so that an answer holds all that was
//! answered before.

use dewpoint_proto::ids::{EventId, ReportSeq, VmId};

use super::job::Access;
use super::rows::{EntryRow, EventFilter, EventRow, Page, Recovery, ReportRow, Tail, VmRow};
use super::{Journal, JournalError, adopt, query, whole};

impl Journal {
    /// What a start has to go on with.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn unfinished(&self) -> Result<Recovery, JournalError> {
        self.ask(Access::Read, |tx| query::recovery(tx.db)).await
    }

    /// One VM; `None`: never heard of.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn vm(&self, vm: VmId) -> Result<Option<VmRow>, JournalError> {
        self.ask(Access::Read, move |tx| query::vm(tx.db, vm)).await
    }

    /// Every VM that is there or being built; tombstones are not among them.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn vms(&self) -> Result<Vec<VmRow>, JournalError> {
        self.ask(Access::Read, |tx| query::vms(tx.db)).await
    }

    /// Whether this is a new journal, and the host's VMs were not looked at yet.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn awaits_adoption(&self) -> Result<bool, JournalError> {
        self.ask(Access::Read, |tx| adopt::is_awaited(tx.db)).await
    }

    /// Writes the log into `agent.db` itself, so that the file alone is the whole journal. False: somebody reads it now, and
    /// a part stays in the log.
    ///
    /// # Errors
    /// When it cannot be written: the log keeps what it has.
    pub async fn checkpoint(&self) -> Result<bool, JournalError> {
        self.ask(Access::Read, |tx| whole::checkpoint(tx.db)).await
    }

    /// Where the journal ends.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn tail(&self) -> Result<Tail, JournalError> {
        self.ask(Access::Read, |tx| query::tail(tx.db)).await
    }

    /// Reports after this one, acknowledged or not, the oldest first; at most `limit`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn reports_after(&self, after: ReportSeq, limit: u32) -> Result<Vec<ReportRow>, JournalError> {
        self.ask(Access::Read, move |tx| query::reports_after(tx.db, after, limit)).await
    }

    /// Events, the newest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn events(&self, filter: EventFilter, page: Page) -> Result<Vec<EventRow>, JournalError> {
        self.ask(Access::Read, move |tx| query::events(tx.db, &filter, page)).await
    }

    /// One event with its entries, the oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn event(&self, event: EventId) -> Result<Option<(EventRow, Vec<EntryRow>)>, JournalError> {
        self.ask(Access::Read, move |tx| query::event(tx.db, event)).await
    }
}
