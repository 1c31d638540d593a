//! Events.

mod body;
mod explanation;

use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::event::outcome::End;
use dewpoint_proto::wire::event::{ImageRef, Outcome, Progress};
use dewpoint_proto::wire::fleet::EventRecord;
use serde::Serialize;

use super::{CauseView, cause_line, filled};
use crate::table::{Fit, Side, Table, fields};
use crate::text::{Paint, Tone, age, instant, or_dash, since, size, span, visible};
use body::AskedView;
use explanation::ExplanationView;

/// An event, as JSON.
#[derive(Serialize)]
pub(crate) struct EventView {
    event_id: String,
    kind: String,
    stage: String,
    vm_id: String,
    vm_name: Option<String>,
    host_id: Option<String>,
    hostname: Option<String>,
    seq: u64,
    generation: u64,
    accepted_at: Option<String>,
    begun_at: Option<String>,
    finished_at: Option<String>,
    not_after: Option<String>,
    note: Option<String>,
    retry_of: Option<String>,
    pending: Option<CauseView>,
    progress: Option<ProgressView>,
    outcome: Option<OutcomeView>,
    contradicted_by: Option<OutcomeView>,
    forced: Option<ForcedView>,
    waiting_for: Option<String>,
    stage_since: Option<String>,
    retried_by: Option<String>,
    asked: Option<AskedView>,
    explanation: Option<ExplanationView>,
}

/// A person's answer in a host's place.
#[derive(Serialize)]
struct ForcedView {
    who: String,
    reason: String,
    at: Option<String>,
}

#[derive(Serialize)]
struct ProgressView {
    step: String,
    steps_done: u32,
    done_bytes: u64,
    total_bytes: u64,
    waiting_for: Option<String>,
}

/// How it ended: `end` is the stage's name; `cause` is there for all ends but `succeeded`.
#[derive(Serialize)]
struct OutcomeView {
    end: &'static str,
    image: Option<ImageRefView>,
    note: Option<String>,
    cause: Option<CauseView>,
}

/// An image as events name it.
#[derive(Serialize)]
pub(crate) struct ImageRefView {
    digest: String,
    size_bytes: u64,
    virtual_size_bytes: u64,
}

impl From<&ImageRef> for ImageRefView {
    fn from(image: &ImageRef) -> Self {
        Self {
            digest: image.digest.clone(),
            size_bytes: image.size_bytes,
            virtual_size_bytes: image.virtual_size_bytes,
        }
    }
}

impl From<&Progress> for ProgressView {
    fn from(progress: &Progress) -> Self {
        Self {
            step: progress.step.clone(),
            steps_done: progress.steps_done,
            done_bytes: progress.done_bytes,
            total_bytes: progress.total_bytes,
            waiting_for: filled(&progress.waiting_for),
        }
    }
}

impl From<&Outcome> for OutcomeView {
    fn from(outcome: &Outcome) -> Self {
        let of = |end, cause| Self { end, image: None, note: None, cause: Some(CauseView::from(cause)) };
        match &outcome.end {
            Some(End::Succeeded(done)) => Self {
                end: "succeeded",
                image: done.image.as_ref().map(ImageRefView::from),
                note: filled(&done.note),
                cause: None,
            },
            Some(End::Failed(cause)) => of("failed", cause),
            Some(End::Refused(cause)) => of("refused", cause),
            Some(End::Expired(cause)) => of("expired", cause),
            Some(End::Cancelled(cause)) => of("cancelled", cause),
            Some(End::Unknown(cause)) => of("unknown", cause),
            None => Self { end: "unknown", image: None, note: None, cause: None },
        }
    }
}

impl From<&EventRecord> for EventView {
    fn from(record: &EventRecord) -> Self {
        let body = record.body.as_ref();
        Self {
            event_id: record.event_id.clone(),
            kind: record.kind.clone(),
            stage: record.stage.clone(),
            vm_id: record.vm_id.clone(),
            vm_name: filled(&record.vm_name),
            host_id: filled(&record.host_id),
            hostname: filled(&record.hostname),
            seq: record.seq,
            generation: record.generation,
            accepted_at: instant(record.accepted_at_ms),
            begun_at: instant(record.begun_at_ms),
            finished_at: instant(record.finished_at_ms),
            not_after: body.and_then(|body| instant(body.not_after_ms)),
            note: body.and_then(|body| filled(&body.note)),
            retry_of: filled(&record.retry_of),
            pending: record.pending.as_ref().map(CauseView::from),
            progress: record.progress.as_ref().map(ProgressView::from),
            outcome: record.outcome.as_ref().map(OutcomeView::from),
            contradicted_by: record.contradicted_by.as_ref().map(OutcomeView::from),
            forced: record.forced.as_ref().map(|forced| ForcedView {
                who: forced.who.clone(),
                reason: forced.reason.clone(),
                at: instant(forced.at_ms),
            }),
            waiting_for: filled(&record.waiting_for),
            stage_since: instant(record.stage_since_ms),
            retried_by: filled(&record.retried_by),
            asked: body.and_then(AskedView::of),
            explanation: record.explanation.as_ref().map(ExplanationView::from),
        }
    }
}

/// `create web`: what and of which VM.
pub(crate) fn title(record: &EventRecord) -> String {
    let vm = if record.vm_name.is_empty() { &record.vm_id } else { &record.vm_name };
    format!("{} {}", or_dash(&record.kind), or_dash(vm))
}

/// Where it stands, in a few words: `running on hv1: fetch-image, 45% of 1.2 GiB`.
pub(crate) fn standing(record: &EventRecord) -> String {
    let mut text = record.stage.clone();
    let host = if record.hostname.is_empty() { &record.host_id } else { &record.hostname };
    if !host.is_empty() {
        text.push_str(" on ");
        text.push_str(host);
    }
    let took = Millis(record.finished_at_ms).since(Millis(record.accepted_at_ms));
    if record.finished_at_ms > 0 {
        text.push_str(&format!(" after {}", span(took)));
    }
    if let Some(cause) = &record.pending {
        text.push_str(&format!(": {}", cause_line(cause)));
    } else if let Some(progress) = record.progress.as_ref().filter(|_| record.outcome.is_none()) {
        text.push_str(&step(progress));
    }
    text
}

fn step(progress: &Progress) -> String {
    let mut text = String::new();
    if !progress.step.is_empty() {
        text.push_str(&format!(": {}", progress.step));
    }
    if progress.total_bytes > 0 {
        let percent = u128::from(progress.done_bytes) * 100 / u128::from(progress.total_bytes);
        text.push_str(&format!(", {}% of {}", percent.min(100), size(progress.total_bytes)));
    }
    if !progress.waiting_for.is_empty() {
        text.push_str(&format!(", waiting for {}", progress.waiting_for));
    }
    text
}

/// The events by id.
pub(crate) fn table(events: &[EventRecord], now: Millis, paint: Paint) -> String {
    let mut table = Table::keyed("EVENT")
        .column("KIND", Side::Left, Fit::Whole)
        .column("VM", Side::Left, Fit::Shrink(8))
        .column("STAGE", Side::Left, Fit::Whole)
        .column("AGE", Side::Right, Fit::Whole);
    for event in events {
        let vm = if event.vm_name.is_empty() { &event.vm_id } else { &event.vm_name };
        table.row([
            event.event_id.clone(),
            event.kind.clone(),
            vm.clone(),
            event.stage.clone(),
            age(event.accepted_at_ms, now),
        ]);
        if !event.waiting_for.is_empty() {
            let since = event.stage_since_ms.max(event.accepted_at_ms);
            table.note(&format!("waits for {}, since {}", event.waiting_for, age(since, now)));
        }
    }
    table.render(paint)
}

/// What a person is told when an event was made or ended: what, where it stands, and the ids to go on with.
pub(crate) fn brief(record: &EventRecord, paint: Paint) -> String {
    headline(record, paint) + &fields(essentials(record))
}

fn headline(record: &EventRecord, paint: Paint) -> String {
    let standing = paint.tone(Tone::of(&record.stage), &visible(&standing(record)));
    format!("{}: {standing}\n", title(record))
}

fn essentials(record: &EventRecord) -> Vec<(&'static str, String)> {
    let done = match record.outcome.as_ref().and_then(|outcome| outcome.end.as_ref()) {
        Some(End::Succeeded(done)) => Some(done),
        _ => None,
    };
    let image = done.and_then(|done| done.image.as_ref()).map(|image| image.digest.clone());
    vec![
        ("  event", record.event_id.clone()),
        ("  vm", record.vm_id.clone()),
        ("  image", image.unwrap_or_default()),
        ("  note", done.map(|done| done.note.clone()).unwrap_or_default()),
    ]
}

/// All of one event.
pub(crate) fn show(record: &EventRecord, now: Millis, paint: Paint) -> String {
    let body = record.body.as_ref();
    let mut rows = essentials(record);
    rows.extend([
        ("  accepted", since(record.accepted_at_ms, now)),
        ("  begun", since(record.begun_at_ms, now)),
        ("  finished", since(record.finished_at_ms, now)),
        ("  not after", body.and_then(|body| instant(body.not_after_ms)).unwrap_or_default()),
        ("  host id", record.host_id.clone()),
        ("  seq", if record.seq > 0 { record.seq.to_string() } else { String::new() }),
        ("  generation", record.generation.to_string()),
        ("  retry of", record.retry_of.clone()),
        ("  retried by", record.retried_by.clone()),
        ("  waits for", record.waiting_for.clone()),
        (
            "  since",
            if record.waiting_for.is_empty() { String::new() } else { since(record.stage_since_ms, now) },
        ),
        ("  said", body.map(|body| body.note.clone()).unwrap_or_default()),
        ("  asked", body.and_then(AskedView::of).map(|asked| asked.line()).unwrap_or_default()),
    ]);
    if let Some(cause) = record.outcome.as_ref().and_then(|outcome| OutcomeView::from(outcome).cause) {
        rows.extend([("  why", format!("{} ({})", cause.text, cause.reason)), ("  next", cause.advice)]);
    }
    if let Some(forced) = &record.forced {
        rows.push(("  forced", format!("{} by {}: {}", since(forced.at_ms, now), forced.who, forced.reason)));
    }
    if let Some(later) = record.contradicted_by.as_ref().map(OutcomeView::from) {
        let why = later.cause.map(|cause| format!(": {} ({})", cause.text, cause.reason)).unwrap_or_default();
        rows.push(("  but", format!("its host reported later that it {}{why}", later.end)));
    }
    let placement = record.explanation.as_ref().filter(|explanation| !explanation.hosts.is_empty());
    let placement = placement.map(|explanation| explanation::table(explanation, paint));
    headline(record, paint) + &fields(rows) + &placement.unwrap_or_default()
}
