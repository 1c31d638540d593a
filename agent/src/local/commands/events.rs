//! `events` and `event show`: what the journal has, read from its database.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::EventId;
use dewpoint_proto::outcome::{Outcome, Succeeded};
use dewpoint_proto::time::Millis;
use serde_json::{Value, json};

use crate::journal::entry::Entry;
use crate::journal::{EntryRow, EventFilter, EventRow, Page, Reader};
use crate::local::cli::EventsArgs;
use crate::local::print::{self, Form, wrapped};

pub(super) fn list(reader: &Reader, args: &EventsArgs, form: Form) -> Result<(), Cause> {
    let filter = EventFilter { vm: args.vm, unfinished: args.unfinished };
    let rows = reader.events(&filter, Page { before: None, limit: args.limit }).map_err(Cause::from)?;
    if form == Form::Json {
        return print::json(&rows.iter().map(as_json).collect::<Vec<_>>());
    }
    let mut table = print::table(&["event", "kind", "stage", "accepted"]);
    for row in &rows {
        // How it ended says more than that it did.
        let stage = row.outcome.as_ref().map_or(row.stage.as_str(), |outcome| outcome.name());
        let accepted = print::when(row.accepted_at);
        // Without the date's year, so that a whole event id fits into 80 columns beside it.
        table.add_row([&row.id.to_string(), &row.kind, stage, accepted.get(5..16).unwrap_or("-")]);
    }
    print::out(table);
    Ok(())
}

pub(super) fn show(reader: &Reader, id: EventId, form: Form) -> Result<(), Cause> {
    let (row, entries) = reader.event(id).map_err(Cause::from)?.ok_or_else(|| {
        Cause::new(Reason::EventNotFound, format!("this host has no event {id}"))
            .advise("see `dewpoint-agent events`, or ask the coordinator with `dewpoint event show`")
    })?;
    if form == Form::Json {
        let mut whole = as_json(&row);
        whole["entries"] = entries.iter().map(entry_json).collect();
        return print::json(&whole);
    }
    print::out(format_args!("event       {}\nkind        {}\nvm          {}", row.id, row.kind, row.vm));
    print::out(format_args!("generation  {}\nstage       {}", row.generation, row.stage));
    print::out(format_args!("accepted    {}", print::when(row.accepted_at)));
    if let Some(at) = row.finished_at {
        let from = row.begun_at.unwrap_or(row.accepted_at);
        print::out(format_args!("finished    {}, after {}", print::when(at), print::span(at.since(from))));
    }
    if let Some(outcome) = &row.outcome {
        print::out(end(outcome));
    }
    let mut table = print::table(&["at", "entry", "after"]);
    let mut before = row.accepted_at;
    for entry in &entries {
        let at = entry.at.wall;
        table.add_row([clock(at), described(entry), print::span(at.since(before))]);
        before = at;
    }
    print::out(format_args!("\n{table}"));
    Ok(())
}

/// How it ended, and what a person is to know of that.
fn end(outcome: &Outcome) -> String {
    let mut said = vec![("end", outcome.name().to_owned())];
    if let Outcome::Succeeded(done) = outcome {
        said.extend(made(done));
    }
    if let Some(cause) = outcome.cause() {
        said.push(("why", format!("{} ({})", cause.text, cause.reason)));
        said.push(("next", cause.advice.clone()));
    }
    let lines = said.iter().filter(|(_, text)| !text.is_empty());
    lines.map(|(word, text)| wrapped(&format!("{word:12}"), text)).collect::<Vec<_>>().join("\n")
}

/// What a success made, and what is to be known of it; empty: nothing.
pub(super) fn made(done: &Succeeded) -> [(&'static str, String); 2] {
    let image = done.image.as_ref().map(|image| image.digest.to_string());
    [("image", image.unwrap_or_default()), ("note", done.note.clone())]
}

fn clock(at: Millis) -> String {
    print::when(at).get(11..).unwrap_or("-").to_owned()
}

/// An entry as one line; one of a newer version by its stored name.
fn described(row: &EntryRow) -> String {
    match row.entry() {
        Ok(Entry::StepStarted { step, attempt: 1, .. }) => format!("{step}"),
        Ok(Entry::StepStarted { step, attempt, .. }) => format!("{step}, attempt {attempt}"),
        Ok(Entry::StepDone { step, .. }) => format!("{step}: returned"),
        Ok(Entry::StepFailed { step, cause }) => format!("{step}: {} ({})", cause.text, cause.reason),
        Ok(Entry::UndoDecided { cause, .. }) => format!("to be undone: {} ({})", cause.text, cause.reason),
        Ok(Entry::Finished { outcome, .. }) => outcome.name().to_owned(),
        Ok(Entry::Acknowledged) => "report acknowledged".to_owned(),
        Err(_) => format!("{} (of a newer version)", row.kind),
    }
}

fn as_json(row: &EventRow) -> Value {
    json!({
        "event_id": row.id,
        "vm_id": row.vm,
        "kind": row.kind,
        "stage": row.stage,
        "seq": row.origin.seq(),
        "generation": row.generation,
        "supersedes": row.supersedes,
        "not_after_ms": row.not_after,
        "accepted_at_ms": row.accepted_at,
        "begun_at_ms": row.begun_at,
        "finished_at_ms": row.finished_at,
        "outcome": row.outcome,
    })
}

fn entry_json(row: &EntryRow) -> Value {
    let body: Value = serde_json::from_str(&row.json).unwrap_or(Value::Null);
    json!({ "n": row.n, "entry": row.kind, "version": row.version, "at_ms": row.at.wall, "body": body })
}
