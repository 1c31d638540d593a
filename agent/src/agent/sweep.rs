//! The slow sweep: the doctor's look, now and then, by the agent itself. It counts and says; it never repairs.
//!
//! A sweep that finds something is a bug to look at, or a person's doing. What is found twice in a row, a moment apart, is
//! no event in passing. It is said once in the log, and shown in `status` for as long as it is there.

use std::collections::BTreeMap;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep};

use crate::doctor::look::Eyes;
use crate::doctor::world::Scope;
use crate::doctor::{Finding, Severity, compare};

/// Rarely: a look asks for every domain of the host.
const EVERY: Duration = Duration::from_secs(3600);
/// After a start there is enough to do.
const FIRST: Duration = Duration::from_secs(600);
/// What an event in passing takes.
const MOMENT: Duration = Duration::from_secs(10);

/// How many disagreements each rule found.
type Counts = BTreeMap<&'static str, usize>;

/// Looks now and then.
pub(super) struct Sweep {
    eyes: Eyes,
    found: watch::Sender<Option<Cause>>,
}

impl Sweep {
    pub(super) fn new(eyes: Eyes) -> Self {
        Self { eyes, found: watch::Sender::new(None) }
    }

    /// What the last sweep found.
    pub(super) fn found(&self) -> watch::Receiver<Option<Cause>> {
        self.found.subscribe()
    }

    /// Runs until dropped.
    pub(super) async fn run(self) {
        let mut ticks = interval_at(Instant::now() + FIRST, EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut said = Counts::new();
        loop {
            ticks.tick().await;
            let first = compare(&self.eyes.look(Scope::Host).await);
            let found = if bad(&first).next().is_none() {
                first
            } else {
                sleep(MOMENT).await;
                both(first, &compare(&self.eyes.look(Scope::Host).await))
            };
            let counts = counted(&found);
            if counts != said {
                tell(&counts);
            }
            self.found.send_replace(note(&counts));
            said = counts;
        }
    }
}

fn bad(found: &[Finding]) -> impl Iterator<Item = &Finding> {
    found.iter().filter(|found| found.rule.severity != Severity::Note)
}

/// What both looks found.
fn both(mut first: Vec<Finding>, second: &[Finding]) -> Vec<Finding> {
    first.retain(|one| second.iter().any(|other| other.is_same(one.rule.code, one.vm, &one.subject)));
    first
}

fn counted(found: &[Finding]) -> Counts {
    let mut counts = Counts::new();
    for finding in bad(found) {
        *counts.entry(finding.rule.code).or_default() += 1;
    }
    counts
}

fn listed(counts: &Counts) -> String {
    let each: Vec<_> = counts.iter().map(|(code, count)| format!("{count} {code}")).collect();
    each.join(", ")
}

fn tell(counts: &Counts) {
    match counts.is_empty() {
        true => tracing::info!("the sweep finds nothing any more"),
        false => tracing::warn!("the sweep found {}; see `dewpoint-agent doctor`", listed(counts)),
    }
}

fn note(counts: &Counts) -> Option<Cause> {
    let note = || {
        Cause::new(Reason::Disagreement, format!("the sweep found {}", listed(counts)))
            .advise("see `dewpoint-agent doctor` for what it means and what to do")
    };
    (!counts.is_empty()).then(note)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_is_counted_by_its_rule_and_said_in_one_note() {
        let counts = Counts::from([("autostart", 2), ("tap-missing", 1)]);
        let note = note(&counts).unwrap();
        assert!(
            note.text.contains("2 autostart, 1 tap-missing") && note.advice.contains("doctor"),
            "{note:?}"
        );
        assert_eq!(super::note(&Counts::new()), None);
    }
}
