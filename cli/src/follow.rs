//! Stays with one event until it ends, across broken streams and restarts of the coordinator.

use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::EventId;
use dewpoint_proto::wire::event::outcome::End;
use dewpoint_proto::wire::fleet::{EventRecord, WatchEventsRequest};
use tokio::time::timeout;
use tonic::Request;

use crate::failure::{Failure, wait_timed_out};
use crate::fleet::Fleet;
use crate::fleet::watch::{Told, Watch};
use crate::meter::Meter;
use crate::output::Output;
use crate::text::span;
use crate::view::event::{standing, title};

/// The event as it ended; its progress is shown meanwhile.
///
/// # Errors
/// `WAIT_TIMED_OUT` after `bound`, or `UNREACHABLE` when the coordinator was away at that moment; what the coordinator
/// refuses.
pub(crate) async fn until_end(
    fleet: &Fleet,
    id: EventId,
    bound: Duration,
    output: &mut Output<'_>,
) -> Result<EventRecord, Failure> {
    let asked = WatchEventsRequest { event_id: id.to_string(), ..WatchEventsRequest::default() };
    let mut watch =
        Watch::new(fleet, bound, async || fleet.events().watch_events(Request::new(asked.clone())).await);
    let mut meter = Meter::steps(output, &format!("event {id}"));
    let mut away = false;
    let ended = async {
        loop {
            let record = match watch.next().await? {
                Told::Message(message) => message.event.filter(|record| record.event_id == asked.event_id),
                Told::Lost => {
                    away = true;
                    meter.notice(
                        output,
                        "lost the coordinator; the event goes on, trying to reach it again",
                    )?;
                    None
                }
                Told::Back => {
                    away = false;
                    meter.notice(output, "the coordinator is back")?;
                    None
                }
            };
            let Some(record) = record else { continue };
            if is_ended(&record) {
                return Ok(record);
            }
            let step = record.progress.as_ref().map_or("", |progress| &progress.step);
            let step = format!("{} {step}", record.stage);
            meter.at(output, &step, &format!("{}: {}", title(&record), standing(&record)))?;
        }
    };
    match timeout(bound, ended).await {
        Ok(ended) => ended,
        Err(_) => Err(timed_out(id, bound, away).into()),
    }
}

/// Whether it will not change any more. A stage that only a newer coordinator knows ends with its outcome.
pub(crate) fn is_ended(record: &EventRecord) -> bool {
    record.outcome.is_some()
        || matches!(
            record.stage.as_str(),
            "succeeded" | "failed" | "refused" | "expired" | "cancelled" | "unknown"
        )
}

/// Nothing for a success, and for any other end its cause.
pub(crate) fn verdict(record: &EventRecord) -> Result<(), Failure> {
    let cause = match record.outcome.as_ref().and_then(|outcome| outcome.end.clone()) {
        Some(End::Succeeded(_)) => return Ok(()),
        Some(
            End::Failed(cause)
            | End::Refused(cause)
            | End::Expired(cause)
            | End::Cancelled(cause)
            | End::Unknown(cause),
        ) => Cause::from(cause),
        None if record.stage == "succeeded" => return Ok(()),
        None => Cause::new(Reason::Internal, "the coordinator does not say why"),
    };
    let text = format!("{} {}: {}", title(record), record.stage, cause.text);
    Err(Failure::ended(Cause { text, ..cause }.with("event_id", &record.event_id)))
}

fn timed_out(id: EventId, bound: Duration, away: bool) -> Cause {
    let advice = format!("it goes on: follow it with `dewpoint event watch {id}`");
    let cause = if away {
        Cause::new(Reason::Unreachable, format!("the coordinator was away when {} were over", span(bound)))
    } else {
        wait_timed_out(format!("event {id} has not ended within {}", span(bound)))
    };
    cause.advise(advice).with("event_id", id)
}
