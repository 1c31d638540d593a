//! A watch that outlives its connection, and its coordinator.
//!
//! Every stream of ours starts with a snapshot, so coming back loses nothing but what happened and was undone
//! meanwhile. Never: answers for the coordinator. While it is away, the caller is told so, once, and once when it is back.

use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};
use tonic::{Response, Status, Streaming};

use super::backoff::Backoff;
use super::{DEADLINE, Fleet, is_lost};
use crate::failure::Failure;
use dewpoint_proto::cause::Reason;
use dewpoint_proto::status::from_status;

/// How long a coordinator may be away when nothing else bounds the watch.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// What a watch tells.
pub(crate) enum Told<T> {
    /// A message.
    Message(T),
    /// The stream broke; trying again.
    Lost,
    /// The stream is there again; its snapshot follows.
    Back,
}

/// A stream that is opened again whenever it breaks, for as long as `patience` lasts each time.
pub(crate) struct Watch<'a, T, Open> {
    fleet: &'a Fleet,
    open: Open,
    patience: Duration,
    stream: Option<Streaming<T>>,
    backoff: Backoff,
    /// Kept before the next opening.
    pause: Option<Duration>,
    /// Since when there has been no message, after that was told.
    lost: Option<Instant>,
    /// The first message after a loss, while its being back is told.
    held: Option<T>,
}

impl<'a, T, Open> Watch<'a, T, Open>
where
    Open: AsyncFnMut() -> Result<Response<Streaming<T>>, Status>,
{
    /// Not opened yet.
    pub(crate) fn new(fleet: &'a Fleet, patience: Duration, open: Open) -> Self {
        let backoff = Backoff::default();
        Self { fleet, open, patience, stream: None, backoff, pause: None, lost: None, held: None }
    }

    /// Waits for the next thing to tell. Dropped before it is done, it loses no message.
    ///
    /// # Errors
    /// What the coordinator refuses; `UNREACHABLE` when it was away for longer than the patience.
    pub(crate) async fn next(&mut self) -> Result<Told<T>, Failure> {
        if let Some(message) = self.held.take() {
            return Ok(Told::Message(message));
        }
        loop {
            let broke = match &mut self.stream {
                Some(stream) => match stream.message().await {
                    Ok(Some(message)) => return Ok(self.received(message)),
                    Ok(None) => Status::unavailable("the watch ended"),
                    Err(status) => status,
                },
                None => match self.opened().await {
                    Ok(stream) => {
                        self.stream = Some(stream);
                        continue;
                    }
                    Err(status) => status,
                },
            };
            self.stream = None;
            if let Some(told) = self.broken(&broke)? {
                return Ok(told);
            }
        }
    }

    async fn opened(&mut self) -> Result<Streaming<T>, Status> {
        if let Some(pause) = self.pause.take() {
            sleep(pause).await;
        }
        let opened = timeout(DEADLINE, (self.open)()).await;
        opened.unwrap_or_else(|_| Err(Status::unavailable("no answer in time"))).map(Response::into_inner)
    }

    /// Only a message proves that the coordinator is back: a stream that opens and breaks at once is not.
    fn received(&mut self, message: T) -> Told<T> {
        self.backoff.reset();
        match self.lost.take() {
            Some(_) => {
                self.held = Some(message);
                Told::Back
            }
            None => Told::Message(message),
        }
    }

    fn broken(&mut self, status: &Status) -> Result<Option<Told<T>>, Failure> {
        let waited = self.lost.map(|since| since.elapsed());
        if !passes(status) || waited.is_some_and(|waited| waited >= self.patience) {
            return Err(self.fleet.failed(status));
        }
        let left = self.patience.saturating_sub(waited.unwrap_or_default());
        self.pause = Some(self.backoff.next().min(left));
        if waited.is_some() {
            return Ok(None);
        }
        self.lost = Some(Instant::now());
        Ok(Some(Told::Lost))
    }
}

/// Whether the same watch may do better in a moment.
fn passes(status: &Status) -> bool {
    // TOO_BUSY: a watch that fell behind was dropped; its next snapshot is as good.
    is_lost(status)
        || matches!(from_status(status).reason, Reason::TooBusy | Reason::JournalError | Reason::Unreachable)
}
