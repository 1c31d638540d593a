//! `dewpoint event watch`: changes as they come, a line each.

use std::ops::ControlFlow;

use dewpoint_proto::ids::EventId;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::fleet::{EventRecord, WatchEventsRequest, WatchEventsResponse};
use serde_json::json;
use tonic::Request;

use crate::args::values::{HostRef, Span, VmRef};
use crate::commands::tail::{Said, tail};
use crate::failure::{Failure, wait_timed_out};
use crate::fleet::Fleet;
use crate::fleet::watch::{PATIENCE, Watch};
use crate::follow::{is_ended, verdict};
use crate::output::{Format, Output};
use crate::text::{Tone, span, time_of_day, visible};
use crate::view::event::{EventView, standing, title};

/// Which events to follow, and for how long.
#[derive(Debug, clap::Args)]
pub(crate) struct Watching {
    /// The event's id: followed until it ends
    id: Option<EventId>,
    /// Of this VM: its name or id
    #[arg(long, value_name = "VM", conflicts_with = "id")]
    vm: Option<VmRef>,
    /// On this host: its hostname or id
    #[arg(long, value_name = "HOST", conflicts_with = "id")]
    host: Option<HostRef>,
    /// Stop after so long; one event that has not ended by then is an error
    #[arg(long, value_name = "DURATION")]
    timeout: Option<Span>,
}

/// Follows until the one event ends, the time is over, or the command is interrupted.
pub(super) async fn carry_out(
    fleet: &Fleet,
    watching: Watching,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let asked = WatchEventsRequest {
        event_id: watching.id.map(|id| id.to_string()).unwrap_or_default(),
        vm: watching.vm.as_ref().map(ToString::to_string).unwrap_or_default(),
        host_id: fleet.host_id(watching.host.as_ref()).await?,
    };
    let bound = watching.timeout.map(|span| span.0);
    let watch = Watch::new(fleet, bound.unwrap_or(PATIENCE), async || {
        fleet.events().watch_events(Request::new(asked.clone())).await
    });
    let mut said = Said::default();
    let mut ended = None;
    let mut before = (watching.id.is_none() && output.format == Format::Text).then(Vec::new);
    let over = tail(watch, bound, output, |message, output| {
        if let Some(found) = before.as_mut().filter(|_| !message.snapshot_complete) {
            found.extend(message.event);
            return Ok(ControlFlow::Continue(()));
        }
        said_before(before.take().unwrap_or_default(), &mut said, output)?;
        tell(&message, &mut said, output)?;
        ended = message.event.filter(|event| watching.id.is_some() && is_ended(event));
        Ok(if ended.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })
    .await?;
    match (ended, watching.id, bound) {
        (Some(event), ..) => verdict(&event),
        (None, Some(id), Some(bound)) if !over => {
            Err(wait_timed_out(format!("event {id} has not ended within {}", span(bound)))
                .advise("it goes on: watch it again")
                .with("event_id", id)
                .into())
        }
        _ => Ok(()),
    }
}

/// What there was when people began to watch: only what has not ended is news to them, and the newest comes last.
fn said_before(mut found: Vec<EventRecord>, said: &mut Said, output: &mut Output<'_>) -> Result<(), Failure> {
    found.sort_by_key(|event| event.accepted_at_ms);
    for event in found {
        if is_ended(&event) {
            said.is_news(&event.event_id, &news(&event));
        } else {
            tell(
                &WatchEventsResponse { event: Some(event), ..WatchEventsResponse::default() },
                said,
                output,
            )?;
        }
    }
    Ok(())
}

fn tell(message: &WatchEventsResponse, said: &mut Said, output: &mut Output<'_>) -> Result<(), Failure> {
    let event = message.event.as_ref().filter(|event| said.is_news(&event.event_id, &news(event)));
    match output.format {
        Format::Json if event.is_some() || message.snapshot_complete => output.json_line(&json!({
            "event": event.map(EventView::from),
            "snapshot_complete": message.snapshot_complete,
        })),
        Format::Json => Ok(()),
        Format::Text => match event {
            Some(event) => {
                let standing = visible(&standing(event)).into_owned();
                let standing = output.paint.tone(Tone::of(&event.stage), &standing);
                output.text(&format!("{}  {}: {standing}\n", time_of_day(Millis::now()), title(event)))
            }
            None => Ok(()),
        },
    }
}

/// What makes a line worth saying.
fn news(event: &EventRecord) -> String {
    format!("{}{}", standing(event), event.outcome.is_some())
}
