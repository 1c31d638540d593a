//! The thread that writes. Requests that wait together are committed together: a savepoint each, one fsync for all.

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

/// What the thread runs: writes within its savepoint, and hands back how to answer once the commit is known.
type Job = Box<dyn FnOnce(&Connection) -> Answer + Send>;

struct Answer {
    /// The savepoint is released, not rolled back.
    keep: bool,
    send: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
}

/// The handle of the writer thread, which ends when the last handle is dropped.
pub(super) struct Writer {
    queue: mpsc::Sender<Job>,
}

impl Writer {
    pub(super) fn start(connection: Connection) -> StoreResult<Self> {
        let (queue, inbox) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || serve(&connection, inbox))
            .map_err(|e| StoreError::Failed { doing: "start the writer thread", text: e.to_string() })?;
        Ok(Self { queue })
    }

    /// For callers: at the bound the newest is turned away.
    pub(super) async fn offer<T: Send + 'static>(
        &self,
        doing: &'static str,
        run: impl FnOnce(&Connection) -> StoreResult<Effect<T>> + Send + 'static,
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
        run: impl FnOnce(&Connection) -> StoreResult<Effect<T>> + Send + 'static,
    ) -> StoreResult<T> {
        let (job, answer) = job(doing, run);
        match tokio::time::timeout(PATIENCE, self.queue.send(job)).await {
            Err(_) => Err(StoreError::Busy { waiting: QUEUE }),
            Ok(Err(_)) => Err(stopped(doing)),
            Ok(Ok(())) => answered(answer).await,
        }
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
    run: impl FnOnce(&Connection) -> StoreResult<Effect<T>> + Send + 'static,
) -> (Job, oneshot::Receiver<StoreResult<T>>) {
    let (tell, answer) = oneshot::channel();
    let job: Job = Box::new(move |db| {
        let (keep, outcome) = match run(db) {
            Ok(Effect::Keep(outcome)) => (true, Ok(outcome)),
            Ok(Effect::Undo(outcome)) => (false, Ok(outcome)),
            Err(error) => {
                tracing::debug!(doing, %error, "a transition was taken back");
                (false, Err(error))
            }
        };
        // A caller that went away needs no answer; what it asked is done all the same.
        let send = Box::new(move |committed: Result<(), StoreError>| {
            let _ = tell.send(committed.and(outcome));
        });
        Answer { keep, send }
    });
    (job, answer)
}

fn serve(db: &Connection, mut inbox: mpsc::Receiver<Job>) {
    let mut group = Vec::with_capacity(GROUP);
    let mut gather = Gather::default();
    while gather.next(&mut inbox, &mut group, GROUP) {
        let mut answers = Vec::with_capacity(group.len());
        let committed = commit(db, group.drain(..), &mut answers);
        if let Err(error) = &committed {
            tracing::error!(%error, requests = answers.len(), "a group of writes was not committed");
            if !db.is_autocommit() && db.execute_batch("ROLLBACK").is_err() {
                // The next BEGIN fails, and says so to its callers.
                tracing::error!("the group could not be rolled back");
            }
        }
        answers.into_iter().for_each(|answer| (answer.send)(committed.clone()));
    }
}

/// One group, one transaction. Jobs after a failure of the group itself are dropped: their callers hear `Unanswered`,
/// though nothing was done; asking again is right.
fn commit(db: &Connection, group: impl Iterator<Item = Job>, answers: &mut Vec<Answer>) -> StoreResult<()> {
    let run = |sql: &'static str, doing: &'static str| {
        db.prepare_cached(sql).and_then(|mut statement| statement.execute([])).map_err(|e| failed(doing, &e))
    };
    run("BEGIN IMMEDIATE", "begin a group of writes")?;
    for job in group {
        run("SAVEPOINT request", "begin a write")?;
        let answer = job(db);
        let keep = answer.keep;
        answers.push(answer);
        // After SQLITE_FULL, IOERR and the like the whole transaction may be rolled back already.
        if db.is_autocommit() {
            return Err(StoreError::Failed {
                doing: "write",
                text: "the transaction was rolled back".into(),
            });
        }
        if !keep {
            run("ROLLBACK TO request", "take back a write")?;
        }
        run("RELEASE request", "end a write")?;
    }
    run("COMMIT", "commit a group of writes")?;
    Ok(())
}
