//! Requests to the journal's thread: what one does, and its answer on the way back.

use dewpoint_proto::ids::{JournalId, ReportSeq};
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::admission::Judge;
use super::error::JournalError;
use super::moment::Moment;
use super::rows::Change;

/// What a request does to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Reads what is committed.
    Read,
    /// Proves that the thread answers; tries the disk again when it failed before.
    Probe,
    /// Writes for events that are here already.
    Write,
    /// Takes a new event: withheld while the reserve is spent.
    Admit,
}

impl Access {
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Write | Self::Admit)
    }
}

/// What a request sees while it runs.
pub(super) struct Tx<'a> {
    pub(super) db: &'a Connection,
    pub(super) now: Moment,
    pub(super) judge: Judge,
    pub(super) effects: &'a mut Effects,
}

/// What is told to others once the group is on disk.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) changes: Vec<Change>,
    pub(super) report: Option<ReportSeq>,
    /// It goes on under this id.
    pub(super) journal: Option<JournalId>,
}

/// A request with its answer, once it has run.
pub(super) trait Job: Send {
    fn access(&self) -> Access;
    /// Runs it and keeps the answer; may be called again after a group that failed.
    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), JournalError>;
    /// Keeps this as its answer.
    fn fail(&mut self, error: JournalError);
    /// Sends the answer, or the group's failure.
    fn settle(self: Box<Self>, group: Result<(), JournalError>);
}

/// What is done with an answer as soon as it is on disk, whether anyone still waits for it or not.
pub(super) type Then<T> = Box<dyn FnOnce(&T) + Send>;

/// A [`Job`] made of a closure.
pub(super) struct Task<T, F> {
    access: Access,
    work: F,
    then: Option<Then<T>>,
    answer: Option<Result<T, JournalError>>,
    reply: oneshot::Sender<Result<T, JournalError>>,
}

impl<T, F> Task<T, F>
where
    T: Send + 'static,
    F: FnMut(&mut Tx<'_>) -> Result<T, JournalError> + Send + 'static,
{
    /// The job, and where its answer will come.
    pub(super) fn job(
        access: Access,
        work: F,
        then: Option<Then<T>>,
    ) -> (Box<dyn Job>, oneshot::Receiver<Result<T, JournalError>>) {
        let (reply, answer) = oneshot::channel();
        (Box::new(Self { access, work, then, answer: None, reply }), answer)
    }
}

impl<T, F> Job for Task<T, F>
where
    T: Send + 'static,
    F: FnMut(&mut Tx<'_>) -> Result<T, JournalError> + Send + 'static,
{
    fn access(&self) -> Access {
        self.access
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Result<(), JournalError> {
        let answer = (self.work)(tx);
        let status = answer.as_ref().map(|_| ()).map_err(Clone::clone);
        self.answer = Some(answer);
        status
    }

    fn fail(&mut self, error: JournalError) {
        self.answer = Some(Err(error));
    }

    fn settle(self: Box<Self>, group: Result<(), JournalError>) {
        let answer = match (group, self.answer) {
            (Ok(()), Some(answer)) => answer,
            (Ok(()), None) => Err(JournalError::Closed),
            (Err(error), _) => Err(error),
        };
        if let (Ok(answer), Some(then)) = (&answer, self.then) {
            then(answer);
        }
        // Whoever asked may have gone; what was written stays written.
        let _ = self.reply.send(answer);
    }
}
