//! The thread that owns the connection: gathers requests, runs them in one transaction, commits with one fsync, and
//! answers only then.
//!
//! What comes while a group runs joins it.
//!
//! A request that fails must leave nothing behind and take no other with it. Savepoints do that, and cost a fifth of the
//! thread's time; requests seldom fail. So a group runs without them first, and once more with them when one of it failed.

use std::cell::OnceCell;
use std::time::Duration;

use dewpoint_common::gather::Gather;
use dewpoint_common::message;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{JournalId, ReportSeq};
use rusqlite::Connection;
use tokio::sync::{broadcast, mpsc, watch};

use super::error::JournalError;
use super::job::{Access, Effects, Job, Tx};
use super::moment::Moment;
use super::reserve::Reserve;
use super::rows::Change;
use super::witness::{self, Told};
use super::{Settings, schema};

/// Requests that one fsync may carry. As many as the queue holds: whoever waits there waits for this one.
pub(super) const GROUP: usize = 128;

/// A probe writes when nothing was written for so long: an idle journal's disk may have turned read-only.
const PROVE_EVERY: Duration = Duration::from_secs(30);

/// Where the thread tells what it did.
pub(super) struct Outlets {
    pub(super) changes: broadcast::Sender<Change>,
    pub(super) reports: watch::Sender<ReportSeq>,
    pub(super) withheld: watch::Sender<Option<Cause>>,
    pub(super) doubt: watch::Sender<Option<Cause>>,
}

/// The thread's own state.
pub(super) struct Writer {
    pub(super) db: Connection,
    pub(super) reserve: Reserve,
    pub(super) settings: Settings,
    pub(super) outlets: Outlets,
    /// Damaged pages that a request met: new events are withheld from then on, until a person has looked.
    pub(super) damage: OnceCell<Cause>,
    /// Since boot.
    pub(super) written_at: Duration,
    pub(super) told: Told,
}

/// What keeps the requests of a group apart.
#[derive(Clone, Copy)]
enum Apart {
    /// None may fail.
    Nothing,
    /// One that fails is undone alone.
    Savepoints,
}

/// Requests that share a commit.
type Group = Gather<Box<dyn Job>>;

/// What a transaction is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum BegunBy {
    Write,
    /// It writes what proves that the disk takes it.
    Probe,
}

/// Why a group was not committed.
enum Stopped {
    /// One of its requests failed, for reasons of its own; it keeps its answer.
    Request,
    /// The disk, or SQLite itself.
    Group(JournalError),
}

impl From<JournalError> for Stopped {
    fn from(error: JournalError) -> Self {
        Self::Group(error)
    }
}

impl Stopped {
    fn into_error(self) -> JournalError {
        match self {
            Self::Group(error) => error,
            // With savepoints none stops a group.
            Self::Request => JournalError::Closed,
        }
    }
}

impl Writer {
    /// Until the last handle is dropped.
    pub(super) fn run(mut self, inbox: mpsc::Receiver<Box<dyn Job>>) {
        let mut gather = Gather::new(inbox, GROUP);
        while gather.begin() {
            self.serve(&mut gather);
        }
    }

    fn serve(&mut self, group: &mut Group) {
        let written = self.begun_by(group).map(|begun_by| self.write(group, begun_by));
        let reads = self.settle(group, written);
        for mut job in reads {
            let mut nothing = Effects::default();
            let read = job.run(&mut tx(&self.db, &self.settings, &mut nothing));
            if self.met_damage(read.as_ref().err()) {
                self.note(&Ok(Effects::default()));
            }
            job.settle(Ok(()));
        }
    }

    /// What makes a group a transaction; none: it only asks.
    fn begun_by(&self, group: &Group) -> Option<BegunBy> {
        let jobs = group.so_far();
        if jobs.iter().any(|job| job.access().writes()) {
            return Some(BegunBy::Write);
        }
        let proves = jobs.iter().any(|job| job.access() == Access::Probe) && self.needs_proof();
        proves.then_some(BegunBy::Probe)
    }

    /// Tells what was written and answers for it; what only asks is left, and sees it.
    fn settle(
        &mut self,
        group: &mut Group,
        written: Option<Result<Effects, JournalError>>,
    ) -> Vec<Box<dyn Job>> {
        let mut reads = Vec::new();
        let status =
            written.as_ref().map_or(Ok(()), |outcome| outcome.as_ref().map(|_| ()).map_err(Clone::clone));
        let renamed =
            written.as_ref().and_then(|outcome| outcome.as_ref().ok()).map(|effects| effects.journal);
        if let Some(Ok(effects)) = written {
            self.tell(effects);
        }
        for job in group.whole() {
            if job.access().writes() {
                job.settle(status.clone());
            } else {
                reads.push(job);
            }
        }
        if let Some(renamed) = renamed {
            self.witness(renamed);
        }
        reads
    }

    /// Whether it is news that the database is damaged.
    fn met_damage(&self, error: Option<&JournalError>) -> bool {
        let Some(error @ JournalError::Corrupt(_)) = error else { return false };
        let news = self.damage.set(Cause::from(error.clone())).is_ok();
        if news {
            tracing::error!(%error, "the journal is damaged: new events are withheld, what runs goes on");
        }
        news
    }

    /// Whether it is to be seen if the disk takes a write.
    fn needs_proof(&self) -> bool {
        let quiet = self.settings.clock.since_boot().saturating_sub(self.written_at);
        self.is_withheld() || quiet >= PROVE_EVERY
    }

    fn is_withheld(&self) -> bool {
        self.outlets.withheld.borrow().is_some()
    }

    fn write(&mut self, group: &mut Group, begun_by: BegunBy) -> Result<Effects, JournalError> {
        self.reserve.refill();
        let mut outcome = self.transact(group, begun_by);
        if matches!(outcome, Err(JournalError::Full(_))) && self.reserve.spend() {
            tracing::warn!(
                "the journal's disk is full: its reserve is given up, so that running events can end"
            );
            outcome = self.transact(group, begun_by);
        }
        if outcome.is_ok() {
            self.written_at = self.settings.clock.since_boot();
        }
        self.met_damage(outcome.as_ref().err());
        self.note(&outcome);
        outcome
    }

    fn transact(&mut self, group: &mut Group, begun_by: BegunBy) -> Result<Effects, JournalError> {
        let outcome = match self.try_transact(group, begun_by, Apart::Nothing) {
            Err(Stopped::Request) => self.try_transact(group, begun_by, Apart::Savepoints),
            outcome => outcome,
        };
        outcome.map_err(Stopped::into_error)
    }

    fn try_transact(
        &mut self,
        group: &mut Group,
        begun_by: BegunBy,
        apart: Apart,
    ) -> Result<Effects, Stopped> {
        let outcome = self.in_transaction(group, begun_by, apart);
        if outcome.is_err() && !self.db.is_autocommit() {
            // Some failures have rolled back already; this one has not.
            if let Err(error) = self.db.execute_batch("ROLLBACK") {
                tracing::error!(%error, "the journal cannot roll back");
            }
        }
        outcome
    }

    fn in_transaction(&self, group: &mut Group, begun_by: BegunBy, apart: Apart) -> Result<Effects, Stopped> {
        let mut effects = Effects::default();
        self.sql("BEGIN IMMEDIATE")?;
        self.put(witness::WRITES, self.told.writes + 1)?;
        if self.is_withheld() || begun_by == BegunBy::Probe {
            self.put("probe", self.settings.clock.wall().0)?;
        }
        let mut n = 0;
        while let Some(job) = group.at(n) {
            n += 1;
            match (self.hindrance(job.access()), apart) {
                _ if !job.access().writes() => {}
                (Some(cause), _) => job.fail(JournalError::Withheld(cause)),
                (None, Apart::Nothing) => self.run_bare(job.as_mut(), &mut effects)?,
                (None, Apart::Savepoints) => self.run_in_savepoint(job.as_mut(), &mut effects)?,
            }
        }
        self.sql("COMMIT")?;
        Ok(effects)
    }

    /// Why a request is withheld.
    fn hindrance(&self, access: Access) -> Option<Cause> {
        match access {
            Access::Admit if !self.reserve.is_kept() => Some(disk_full()),
            Access::Admit => self.outlets.doubt.borrow().clone().or_else(|| self.damage.get().cloned()),
            Access::Read | Access::Probe | Access::Write => None,
        }
    }

    fn put(&self, key: &str, value: impl ToString) -> Result<(), JournalError> {
        Ok(schema::put(&self.db, key, &value.to_string())?)
    }

    fn run_bare(&self, job: &mut dyn Job, effects: &mut Effects) -> Result<(), Stopped> {
        job.run(&mut tx(&self.db, &self.settings, effects)).map_err(|error| self.stopped(error))
    }

    /// An error of the request's own undoes it alone; one of the disk's ends the group.
    fn run_in_savepoint(&self, job: &mut dyn Job, effects: &mut Effects) -> Result<(), JournalError> {
        let (told, report, journal) = (effects.changes.len(), effects.report, effects.journal);
        self.sql("SAVEPOINT request")?;
        if let Err(error) = job.run(&mut tx(&self.db, &self.settings, effects)) {
            self.met_damage(Some(&error));
            if let Stopped::Group(error) = self.stopped(error) {
                return Err(error);
            }
            self.sql("ROLLBACK TO request")?;
            effects.changes.truncate(told);
            effects.report = report;
            effects.journal = journal;
        }
        self.sql("RELEASE request")
    }

    fn stopped(&self, error: JournalError) -> Stopped {
        if error.is_the_disk() || self.db.is_autocommit() { Stopped::Group(error) } else { Stopped::Request }
    }

    fn sql(&self, sql: &str) -> Result<(), JournalError> {
        self.db.prepare_cached(sql)?.execute([])?;
        Ok(())
    }

    /// Whether new events are withheld from now on.
    fn note(&self, outcome: &Result<Effects, JournalError>) {
        let why = match outcome {
            _ if self.damage.get().is_some() => self.damage.get().cloned(),
            Ok(_) if self.reserve.is_kept() => None,
            Ok(_) | Err(JournalError::Full(_)) => Some(disk_full()),
            Err(error) => Some(Cause::from(error.clone())),
        };
        self.outlets.withheld.send_if_modified(|now| {
            let changed = *now != why;
            if changed {
                say(why.as_ref());
            }
            *now = why;
            changed
        });
    }

    /// One more group is on disk. A journal that is not believed leaves its witness as it is.
    fn witness(&mut self, renamed: Option<JournalId>) {
        self.told.committed(renamed, self.outlets.doubt.borrow().is_none());
    }

    /// Before anyone is answered: whoever is, finds it so.
    fn tell(&self, effects: Effects) {
        if effects.journal.is_some() {
            self.outlets.doubt.send_replace(None);
        }
        for change in effects.changes {
            // Nobody listening is fine.
            let _ = self.outlets.changes.send(change);
        }
        if let Some(newest) = effects.report {
            self.outlets.reports.send_replace(newest);
        }
    }
}

fn say(withheld: Option<&Cause>) {
    match withheld {
        Some(cause) => tracing::error!(message_id = message::JOURNAL_WITHHELD, reason = %cause.reason,
            advice = cause.advice, "new events are withheld: {}", cause.text),
        None => tracing::info!(message_id = message::JOURNAL_TAKES, "new events are taken again"),
    }
}

fn tx<'a>(db: &'a Connection, settings: &Settings, effects: &'a mut Effects) -> Tx<'a> {
    let now = Moment::now(settings.clock.as_ref(), settings.boot);
    Tx { db, now, judge: settings.judge, effects }
}

fn disk_full() -> Cause {
    Cause::new(
        Reason::JournalError,
        "the disk of the agent's data folder is full; no new event can be journaled",
    )
    .advise("free space there; the agent goes on by itself")
}
