//! One unfinished event in its lane: its proof, its history, and what of it is still to be written.

use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::{Event, Kind};
use dewpoint_proto::ids::EventId;
use dewpoint_proto::spec::VmSpec;

use crate::execute::apply::Made;
use crate::execute::history::History;
use crate::execute::step::Step;
use crate::journal::entry::{Before, Entry};
use crate::journal::moment::Moment;
use crate::journal::{Journal, JournalError, Journaled};
use crate::report::progress::Progress;

/// One unfinished event in its lane.
pub(crate) struct Work {
    pub(crate) proof: Journaled,
    pub(crate) history: History,
    /// In the history, not in the journal yet: what came of steps.
    unwritten: Vec<Entry>,
    /// Of a VM that was there before; none: not asked for yet, or the journal does not know it.
    spec: Option<VmSpec>,
    ended: bool,
}

/// Entries on their way into the journal.
pub(crate) struct ToWrite {
    pub(crate) all: Vec<Entry>,
    /// How many of them the history has already.
    known: usize,
}

impl Work {
    /// An event with what its journal says of it.
    pub(crate) fn new(proof: Journaled, history: History) -> Self {
        Self { proof, history, unwritten: Vec::new(), spec: None, ended: false }
    }

    pub(crate) fn event(&self) -> &Event {
        self.proof.event()
    }

    pub(crate) fn id(&self) -> EventId {
        self.proof.id()
    }

    pub(crate) fn is_cancel(&self) -> bool {
        matches!(self.event().kind, Kind::Cancel(_))
    }

    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// What the VM is made of.
    pub(crate) fn spec(&self) -> Option<&VmSpec> {
        match &self.proof.event().kind {
            Kind::Create(create) => Some(&create.spec),
            _ => self.spec.as_ref(),
        }
    }

    /// Asks the journal what the VM is made of, unless the event says so.
    pub(crate) async fn learn_spec(&mut self, journal: &Journal) -> Result<(), JournalError> {
        if self.spec().is_none() {
            self.spec = journal.vm(self.event().vm).await?.and_then(|row| row.spec);
        }
        Ok(())
    }

    /// When it expires unless begun; since the host booted.
    pub(crate) fn expires(&self, now: &Moment) -> Option<Duration> {
        let deadline = self.proof.deadline()?;
        let since_boot = Duration::from_millis(now.since_boot_ms);
        Some(if deadline.passed(now) {
            since_boot
        } else {
            // The deadline itself is still in time.
            since_boot + deadline.remaining(now) + Duration::from_millis(1)
        })
    }

    /// The entries that start steps.
    pub(crate) fn starts(&self, steps: &[Step], before: Before) -> Vec<Entry> {
        let mut before = Some(before).filter(|_| !self.history.begun());
        steps
            .iter()
            .map(|&step| Entry::StepStarted {
                step,
                attempt: self.history.attempts(step).saturating_add(1),
                before: before.take(),
            })
            .collect()
    }

    /// Notes what came of a step; written with the next entry.
    pub(crate) fn returned(&mut self, step: Step, result: Result<Made, Cause>, now: Duration) {
        let entry = match result {
            Ok(Made { image, consistency }) => Entry::StepDone { step, image, consistency },
            Err(cause) => Entry::StepFailed { step, cause },
        };
        self.history.record(&entry, Some(now));
        self.unwritten.push(entry);
    }

    /// Everything that is to be written; none: nothing.
    pub(crate) fn to_write(&self, entries: Vec<Entry>) -> Option<ToWrite> {
        let known = self.unwritten.len();
        let mut all = self.unwritten.clone();
        all.extend(entries);
        (!all.is_empty()).then_some(ToWrite { all, known })
    }

    /// It is on disk.
    pub(crate) fn written(&mut self, entries: ToWrite, now: Duration) {
        self.unwritten.clear();
        for entry in &entries.all[entries.known..] {
            self.history.record(entry, Some(now));
        }
    }

    /// Where it stands, for people.
    pub(crate) fn progress(&self, step: &str, bytes: (u64, u64), waiting_for: &str) -> Progress {
        Progress {
            event: self.id(),
            step: step.to_owned(),
            steps_done: self.history.steps_done(),
            bytes,
            waiting_for: waiting_for.to_owned(),
            until: None,
        }
    }
}
