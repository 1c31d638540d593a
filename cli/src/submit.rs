//! Makes one event, exactly once.
//!
//! The event's id is always made here, before anything is sent. When the answer is lost, the same request with the
//! same id is sent again, and the coordinator answers with the same event. When it stays lost, the error names the id.

use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::EventId;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::fleet::{EventOptions as WireOptions, EventRecord};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Response, Status};

use crate::args::EventOptions;
use crate::failure::Failure;
use crate::fleet::backoff::Backoff;
use crate::fleet::{DEADLINE, Fleet, is_lost};
use crate::follow;
use crate::output::Output;
use crate::view::event::{EventView, brief};

/// How long a lost answer is asked for again. A coordinator restarts well within.
const RESEND: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(3600);

/// What of the options is fixed before the first try, so that every further one is the same request.
pub(crate) struct Submission {
    id: EventId,
    options: WireOptions,
    /// How long to stay with the event; none: not at all.
    wait: Option<Duration>,
}

impl Submission {
    /// Fixes id and deadline now.
    pub(crate) fn new(options: &EventOptions, bound: Option<Duration>) -> Self {
        let id = options.event_id.unwrap_or_else(EventId::fresh);
        let wire = WireOptions {
            event_id: id.to_string(),
            not_after_ms: options.not_after.map_or(0, |at| at.at(Millis::now()).0),
            retry_of: options.retry_of.map(|id| id.to_string()).unwrap_or_default(),
            note: options.note.clone().unwrap_or_default(),
        };
        Self { id, options: wire, wait: options.wait.then(|| bound.unwrap_or(WAIT)) }
    }

    /// Sends it, shows what came of it, and with `--wait` stays until it ends.
    ///
    /// # Errors
    /// What the coordinator refuses; `UNREACHABLE` naming the id; with `--wait` the event's own end.
    pub(crate) async fn carry_out(
        self,
        fleet: &Fleet,
        output: &mut Output<'_>,
        send: impl AsyncFn(WireOptions) -> Result<Response<EventRecord>, Status>,
    ) -> Result<(), Failure> {
        let record = self.sent(fleet, output, send).await?;
        let Some(bound) = self.wait else {
            return output.show(&EventView::from(&record), |paint| brief(&record, paint));
        };
        output.progress(&format!("event {}", record.event_id))?;
        let ended = follow::until_end(fleet, self.id, bound, output).await?;
        output.show(&EventView::from(&ended), |paint| brief(&ended, paint))?;
        follow::verdict(&ended)
    }

    async fn sent(
        &self,
        fleet: &Fleet,
        output: &mut Output<'_>,
        send: impl AsyncFn(WireOptions) -> Result<Response<EventRecord>, Status>,
    ) -> Result<EventRecord, Failure> {
        let until = Instant::now() + RESEND;
        let mut backoff = Backoff::default();
        loop {
            let answer = timeout(DEADLINE, send(self.options.clone())).await;
            let status = match answer.unwrap_or_else(|_| Err(Status::unavailable("no answer in time"))) {
                Ok(response) => return self.same(response.into_inner()),
                Err(status) => status,
            };
            if !is_lost(&status) {
                return Err(fleet.failed(&status));
            }
            if Instant::now() >= until {
                return Err(self.unanswered(fleet.failed(&status)));
            }
            output.notice("the coordinator's answer was lost; asking again with the same event id")?;
            sleep(backoff.next()).await;
        }
    }

    /// The record is of the event that was sent.
    fn same(&self, record: EventRecord) -> Result<EventRecord, Failure> {
        if record.event_id == self.id.to_string() {
            return Ok(record);
        }
        Err(Failure::internal(format!("the coordinator answered for event `{}`", record.event_id)))
    }

    fn unanswered(&self, failure: Failure) -> Failure {
        let advise = |cause: Cause| {
            cause
                .advise(format!(
                    "it may have been taken: see `dewpoint event show {0}`, or repeat it with --event-id {0}",
                    self.id
                ))
                .with("event_id", self.id)
        };
        match failure {
            Failure::Cause(cause, exit) => Failure::Cause(Box::new(advise(*cause)), exit),
            other => other,
        }
    }
}
