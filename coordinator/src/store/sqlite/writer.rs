//! The thread that writes. Requests that wait together are committed together, with one fsync; what comes while a group
//! runs joins it.
//!
//! A request that is taken back must leave nothing behind and take no other with it. Savepoints do that, and cost a good
//! part of the thread's time; requests that are taken back have seldom written anything. So a group runs without
//! savepoints first, and once more with them when one of it is to be taken back after it wrote.

use std::time::Duration;

use dewpoint_common::gather::Gather;
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::codec::failed;
use crate::store::{StoreError, StoreResult};

/// Requests waiting, at most. At the absolute rate we aim for (2,000 a second) that is two seconds of work.
const QUEUE: usize = 4096;
/// Requests in one commit, at most: bounds how long the first of a group waits for the last.
const GROUP: usize = 256;
/// For a place in the queue, and then for the answer. A disk that takes longer is broken.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a transition leaves behind.
pub(super) enum Effect<T> {
    /// What it wrote stays.
    Keep(T),
    /// Whatever it wrote is taken back; the answer stands.
    Undo(T),
}

/// What the thread runs. It may run twice: what the first run wrote is rolled back before the second.
trait Job: Send {
    /// Runs, and keeps how to answer once the commit is known.
    fn run(&mut self, db: &Connection) -> Kept;
    /// Answers: with the outcome, or with the failure of its group.
    fn settle(self: Box<Self>, committed: Result<(), StoreError>);
}

/// Whether what a job wrote stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    Yes,
    No,
}

struct Task<T, F> {
    doing: &'static str,
    run: F,
    outcome: Option<StoreResult<T>>,
    tell: oneshot::Sender<StoreResult<T>>,
}

impl<T, F> Job for Task<T, F>
where
    T: Send + 'static,
    F: FnMut(&Connection) -> StoreResult<Effect<T>> + Send + 'static,
{
    fn run(&mut self, db: &Connection) -> Kept {
        let (kept, outcome) = match (self.run)(db) {
            Ok(Effect::Keep(outcome)) => (Kept::Yes, Ok(outcome)),
            Ok(Effect::Undo(outcome)) => (Kept::No, Ok(outcome)),
            Err(error) => {
                tracing::debug!(doing = self.doing, %error, "a transition was taken back");
                (Kept::No, Err(error))
            }
        };
        self.outcome = Some(outcome);
        kept
    }

    fn settle(self: Box<Self>, committed: Result<(), StoreError>) {
        // A group that failed may have stopped before this job: nothing was done, and asking again is right.
        let outcome = self.outcome.unwrap_or(Err(StoreError::Unanswered));
        // A caller that went away needs no answer; what it asked is done all the same.
        let _ = self.tell.send(committed.and(outcome));
    }
}

/// The handle of the writer thread, which ends when the last handle is dropped.
pub(super) struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> StoreResult<Self> {
        let (queue, inbox) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || serve(&connection, Gather::new(inbox, GROUP)))
            .map_err(|e| StoreError::Failed { doing: "start the writer thread", text: e.to_string() })?;
        Ok(Self { queue })
    }

    /// For callers: at the bound the newest is turned away.
    pub(super) async fn offer<T: Send + 'static>(
        &self,
        doing: &'static str,
        run: impl FnMut(&Connection) -> StoreResult<Effect<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let (job, answer) = job(doing, run);
        self.queue.try_send(job).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => StoreError::Busy { waiting: QUEUE },
            mpsc::error::TrySendError::Closed(_) => stopped(doing),
        })?;
        answered(answer).await
    }

    /// For hosts and sweeps, of which there are boundedly many: waits for a place.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        doing: &'static str,
        run: impl FnMut(&Connection) -> StoreResult<Effect<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let (job, answer) = job(doing, run);
        match tokio::time::timeout(PATIENCE, self.queue.send(job)).await {
            Err(_) => Err(StoreError::Busy { waiting: QUEUE }),
            Ok(Err(_)) => Err(stopped(doing)),
            Ok(Ok(())) => answered(answer).await,
        }
    }
}

impl Writer {
    /// Through the queue and the thread. That it answers is what is asked: what it answers is for others to deal with.
    pub(super) async fn beat(&self) -> StoreResult<()> {
        let began = tokio::time::Instant::now();
        let answer = self.write("beat", |_| Ok(Effect::Keep(()))).await;
        if self.queue.is_closed() {
            return Err(stopped("beat"));
        }
        if began.elapsed() < PATIENCE { Ok(()) } else { answer }
    }
}

fn stopped(doing: &'static str) -> StoreError {
    StoreError::Failed { doing, text: "the writer thread has ended".to_owned() }
}

async fn answered<T>(answer: oneshot::Receiver<StoreResult<T>>) -> StoreResult<T> {
    match tokio::time::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(StoreError::Unanswered),
    }
}

fn job<T: Send + 'static>(
    doing: &'static str,
    run: impl FnMut(&Connection) -> StoreResult<Effect<T>> + Send + 'static,
) -> (Box<dyn Job>, oneshot::Receiver<StoreResult<T>>) {
    let (tell, answer) = oneshot::channel();
    (Box::new(Task { doing, run, outcome: None, tell }), answer)
}

type Group = Gather<Box<dyn Job>>;

fn serve(db: &Connection, mut group: Group) {
    while group.begin() {
        let committed = commit(db, &mut group);
        if let Err(error) = &committed {
            let requests = group.so_far().len();
            tracing::error!(%error, requests, "a group of writes was not committed");
        }
        group.whole().for_each(|job| job.settle(committed.clone()));
    }
}

/// What keeps the requests of a group apart.
#[derive(Clone, Copy)]
enum Apart {
    /// None is taken back after it wrote.
    Nothing,
    /// One that is taken back is so alone.
    Savepoints,
}

/// How a transaction ended.
enum Ended {
    Committed,
    /// Rolled back: a job without a savepoint is to be taken back.
    TakenBack,
}

/// One group, one transaction.
fn commit(db: &Connection, group: &mut Group) -> StoreResult<()> {
    match transact(db, group, Apart::Nothing)? {
        Ended::Committed => Ok(()),
        Ended::TakenBack => transact(db, group, Apart::Savepoints).map(|_| ()),
    }
}

fn transact(db: &Connection, group: &mut Group, apart: Apart) -> StoreResult<Ended> {
    let ended = run_all(db, group, apart);
    if !db.is_autocommit() && db.execute_batch("ROLLBACK").is_err() {
        // The next BEGIN fails, and says so to its callers.
        tracing::error!("a group of writes could not be rolled back");
    }
    ended
}

fn run_all(db: &Connection, group: &mut Group, apart: Apart) -> StoreResult<Ended> {
    sql(db, "BEGIN IMMEDIATE", "begin a group of writes")?;
    let mut n = 0;
    while let Some(job) = group.at(n) {
        n += 1;
        let written = db.total_changes();
        match apart {
            Apart::Nothing if job.run(db) == Kept::No && db.total_changes() != written => {
                return Ok(Ended::TakenBack);
            }
            Apart::Nothing => {}
            Apart::Savepoints => run_in_savepoint(db, job.as_mut())?,
        }
        // After SQLITE_FULL, IOERR and the like the whole transaction may be rolled back already.
        if db.is_autocommit() {
            return Err(StoreError::Failed {
                doing: "write",
                text: "the transaction was rolled back".into(),
            });
        }
    }
    sql(db, "COMMIT", "commit a group of writes")?;
    Ok(Ended::Committed)
}

fn run_in_savepoint(db: &Connection, job: &mut dyn Job) -> StoreResult<()> {
    sql(db, "SAVEPOINT request", "begin a write")?;
    let kept = job.run(db);
    if db.is_autocommit() {
        return Ok(());
    }
    if kept == Kept::No {
        sql(db, "ROLLBACK TO request", "take back a write")?;
    }
    sql(db, "RELEASE request", "end a write")
}

fn sql(db: &Connection, sql: &str, doing: &'static str) -> StoreResult<()> {
    let run = db.prepare_cached(sql).and_then(|mut statement| statement.execute([]));
    run.map(|_| ()).map_err(|error| failed(doing, &error))
}
