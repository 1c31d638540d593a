//! From the journal's rows to what happened.

use dewpoint_proto::time::Millis;

use super::{Doing, Item, StepEnd, Unfinished, What};
use crate::execute::apply::is_job;
use crate::execute::step::Step;
use crate::journal::entry::Entry;
use crate::journal::{EntryRow, EventRow};

/// One event's part of the story.
pub(super) fn of(row: &EventRow, entries: &[EntryRow]) -> Vec<Item> {
    let accepted = What::Accepted {
        event_id: row.id,
        kind: row.kind.clone(),
        seq: row.origin.seq(),
        generation: row.generation,
        not_after_ms: row.not_after,
    };
    let mut told = Telling { row, items: vec![Item { at_ms: row.accepted_at, what: accepted }] };
    for entry in entries {
        told.take(entry);
    }
    told.items
}

struct Telling<'a> {
    row: &'a EventRow,
    items: Vec<Item>,
}

impl Telling<'_> {
    fn take(&mut self, stored: &EntryRow) {
        let at = stored.at.wall;
        match stored.entry() {
            Ok(Entry::StepStarted { step, attempt, .. }) => {
                // A try of the same step that has no end yet was cut off.
                self.close(|open| open == step.as_str(), StepEnd::CutOff, at);
                self.push(at, self.begun(step, attempt));
            }
            Ok(Entry::StepDone { step, .. }) => {
                self.close(|open| open == step.as_str(), StepEnd::Returned, at);
            }
            Ok(Entry::StepFailed { step, cause }) => {
                self.close(|open| open == step.as_str(), StepEnd::Failed { cause }, at);
            }
            Ok(Entry::UndoDecided { cause, .. }) => {
                self.close(|_| true, StepEnd::CutOff, at);
                self.push(at, What::Undo { event_id: self.row.id, kind: self.row.kind.clone(), cause });
            }
            Ok(Entry::Finished { outcome, .. }) => {
                self.close(|_| true, StepEnd::CutOff, at);
                let since = self.row.begun_at.unwrap_or(self.row.accepted_at);
                self.push(
                    at,
                    What::Ended {
                        event_id: self.row.id,
                        kind: self.row.kind.clone(),
                        outcome,
                        took_ms: millis(since, at),
                        report_acknowledged: self.row.stage == "reported",
                    },
                );
            }
            // Told with the end.
            Ok(Entry::Acknowledged) => {}
            Err(_) => {
                self.push(at, What::Entry { event_id: self.row.id, entry: stored.kind.clone() });
            }
        }
    }

    fn begun(&self, step: Step, attempt: u32) -> What {
        What::Step {
            event_id: self.row.id,
            step: step.as_str().to_owned(),
            attempt,
            took_ms: None,
            end: StepEnd::Open,
        }
    }

    fn push(&mut self, at_ms: Millis, what: What) {
        self.items.push(Item { at_ms, what });
    }

    /// Ends the open tries of a step.
    fn close(&mut self, which: impl Fn(&str) -> bool, how: StepEnd, at: Millis) {
        for item in &mut self.items {
            if let What::Step { step, took_ms, end, .. } = &mut item.what
                && *end == StepEnd::Open
                && which(step)
            {
                *end = how.clone();
                *took_ms = Some(millis(item.at_ms, at));
            }
        }
    }
}

fn millis(from: Millis, to: Millis) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(u64::MAX)
}

/// An event that has not ended, and what it is at.
pub(super) fn unfinished(row: &EventRow, entries: &[EntryRow], doing: Doing) -> Unfinished {
    let begun: Vec<_> = of(row, entries)
        .into_iter()
        .filter_map(|item| match item.what {
            What::Step { step, end, .. } => Some((step, item.at_ms, end)),
            _ => None,
        })
        .collect();
    // Of several at once the job is what takes long.
    let open =
        |job: bool| begun.iter().rev().find(|(step, _, end)| *end == StepEnd::Open && long(step) == job);
    let at_work = open(true).or_else(|| open(false));
    let last = at_work.or(begun.last());
    let waiting_for = match at_work {
        Some((step, ..)) if doing.waiting_for.is_empty() => to_end(step),
        _ => doing.waiting_for,
    };
    Unfinished {
        event_id: row.id,
        kind: row.kind.clone(),
        stage: row.stage.clone(),
        step_began_ms: last.map(|(_, at, _)| *at),
        step: last.map(|(step, ..)| step.clone()),
        waiting_for,
        until_ms: doing.until,
        bytes: doing.bytes,
        not_after_ms: row.not_after.filter(|_| row.begun_at.is_none()),
    }
}

fn long(step: &str) -> bool {
    Step::from_name(step).is_some_and(is_job)
}

fn to_end(step: &str) -> String {
    match long(step) {
        true => format!("{step} to end, which is given up once it gets no further"),
        false => format!("{step} to return"),
    }
}
