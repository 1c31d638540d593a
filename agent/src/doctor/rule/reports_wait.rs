//! Reports that the coordinator has not acknowledged for long.

use std::time::Duration;

use super::super::world::{Coordinator, World};
use super::super::{Finding, Severity, Source};
use super::Rule;

pub(super) static RULE: Rule = Rule {
    code: "reports-wait",
    severity: Severity::Warning,
    means: "The coordinator does not know how these events ended: it holds capacity and addresses for them.",
    find,
};

/// A reconnect, and a coordinator that restarts, take less.
const LONG: Duration = Duration::from_secs(15 * 60);

fn find(world: &World) -> Vec<Finding> {
    let Ok(journal) = &world.journal else { return Vec::new() };
    let (Coordinator::Seen(_), Some(since)) = (&world.coordinator, journal.waits_since) else {
        return Vec::new();
    };
    let (waited, tail) = (world.now.since(since), &journal.tail);
    if waited < LONG {
        return Vec::new();
    }
    let waiting = tail.last_report.0.saturating_sub(tail.acknowledged.0);
    let text =
        format!("{waiting} reports wait for {} min, and the coordinator answers", waited.as_secs() / 60);
    vec![
        Finding::of_host(&RULE, "", text)
            .saw(
                Source::Journal,
                format!("report {} written, {} acknowledged", tail.last_report, tail.acknowledged),
            )
            .saw(Source::Coordinator, "answers callers")
            .advise("see `dewpoint-agent status` for the session, and whether the host is diverged"),
    ]
}
