//! One lane for each VM with unfinished events: observes, plans, journals, applies, and observes again.
//!
//! ```text
//!        ┌────────────────────────────── turn ◀──────────────────────────────┐
//!        ▼                                                                   │
//!   take in ─▶ later events act ─▶ observe ─▶ plan ─┬─▶ journal ─▶ apply ────┤
//!   (nothing left: the keeper looks)                ├─▶ journal the undo ────┤
//!                                                   ├─▶ journal the end ─────┤
//!                                                   └─▶ sleep until woken ───┘
//! ```
//!
//! Whatever wakes a lane, it looks again: wakes are levels, not edges. That a step's call returned is journaled with the
//! next entry, or before the lane sleeps; it is never waited for on its own. A job is dropped when a cancel or a destroy
//! comes, or the agent drains; a call is always waited for. Nothing is applied that the journal did not take first.

mod keep;
mod later;
mod tell;
mod work;

use std::sync::Arc;
use std::time::Duration;

use dewpoint_common::message;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::time::Millis;
use futures::future::join_all;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::MissedTickBehavior;
use tracing::Instrument;

use super::apply::{apply, at_most, is_job};
use super::executor::Shared;
use super::finish;
use super::history::History;
use super::observed::{Observed, observe};
use super::plan::{self, Next, On, Question, Server, Wait};
use super::step::Step;
use crate::hypervisor::BackupJob;
use crate::journal::entry::{Entry, UndoneAs};
use crate::journal::{JournalError, Journaled, Origin, Unfinished};
use crate::report::progress::Progress;
use crate::storage::JobProgress;
use tell::{ended, told};
use work::Work;

/// One VM's lane.
pub(super) struct Lane {
    vm: VmId,
    shared: Arc<Shared>,
    /// Unfinished, in the order of acceptance.
    works: Vec<Work>,
    /// How the events that this lane ended have ended; a cancel may still ask.
    ended: Vec<(EventId, Outcome)>,
}

/// An event on its way into a lane.
pub(super) enum Incoming {
    /// Accepted just now.
    New(Journaled),
    /// From before the agent started.
    Old(Box<Unfinished>),
}

/// What a turn came to.
enum Turn {
    /// Look again.
    Again,
    /// Nothing can be done before something changes.
    Sleep { until: Option<Duration>, at_most: Duration },
    /// Nothing is left to be done.
    Rest,
    /// The journal is closed, or refused an entry: what is left is for the next start.
    Stop,
}

impl Lane {
    pub(super) fn new(vm: VmId, shared: Arc<Shared>) -> Self {
        Self { vm, shared, works: Vec::new(), ended: Vec::new() }
    }

    /// Runs until no event of the VM is left, or the agent drains.
    pub(super) async fn run(mut self) {
        let mut seen = Observed::nothing();
        loop {
            self.take_in();
            if self.shared.stop.is_cancelled() {
                return self.put_down().await;
            }
            let turn = if self.works.is_empty() {
                // What an event saw says nothing to the next one.
                seen = Observed::nothing();
                self.keep().await
            } else {
                Some(self.turn(&mut seen).await)
            };
            match turn.unwrap_or(Turn::Rest) {
                Turn::Rest if self.shared.close(self.vm) => return,
                Turn::Rest => {}
                Turn::Again => {}
                Turn::Stop => return,
                Turn::Sleep { until, at_most } => {
                    self.shared.sleep(self.vm, until, at_most).await;
                    seen = Observed::nothing();
                }
            }
        }
    }

    /// Before the agent goes, what the step in hand came to is written, so that whoever reads the journal need not guess.
    async fn put_down(mut self) {
        for mut work in std::mem::take(&mut self.works) {
            if let Err(error) = self.write(&mut work, Vec::new()).await {
                let reason = Cause::from(error.clone()).reason;
                span_of(&work).in_scope(|| {
                    tracing::warn!(%reason, "the journal did not take what the last step came to: {error}");
                });
            }
        }
    }

    fn take_in(&mut self) {
        for incoming in self.shared.take_in(self.vm) {
            self.works.push(match incoming {
                Incoming::New(proof) => Work::new(proof, History::default()),
                Incoming::Old(event) => Work::new(event.proof, self.shared.history_of(&event.history)),
            });
        }
    }

    async fn turn(&mut self, seen: &mut Observed) -> Turn {
        match self.later_events().await {
            Ok(later::Acted::Nothing) => {}
            Ok(later::Acted::Something) => {
                *seen = Observed::nothing();
                return Turn::Again;
            }
            Err(error) => return self.refused(&error),
        }
        // Cancels act through their targets, so with no other event there is none left to act through.
        let Some(at) = self.works.iter().position(|work| !work.is_cancel()) else { return Turn::Again };
        let mut work = self.works.remove(at);
        let span = span_of(&work);
        let turn = self.advance(&mut work, seen).instrument(span).await;
        if !work.ended() {
            self.works.insert(at, work);
        }
        match turn {
            Ok(turn) => turn,
            Err(error) => self.refused(&error),
        }
    }

    /// One observation, one plan, and what it says.
    async fn advance(&mut self, work: &mut Work, seen: &mut Observed) -> Result<Turn, JournalError> {
        work.learn_spec(&self.shared.parts.journal).await?;
        let server = self.server_for(work);
        let needs = plan::needs(work.event(), &work.history, &server);
        let known = std::mem::replace(seen, Observed::nothing());
        *seen = observe(self.vm, &needs, known, self.shared.effects()).await;
        let next = plan::plan(&self.question(work, seen, &server));
        match next {
            Next::Steps(steps) if self.shared.held() && steps != [Step::Thaw] => {
                let why = "an operator to release the host (`dewpoint host release`)".to_owned();
                self.pause(work, seen, Wait { why, on: On::Domain, until: None }).await
            }
            Next::Steps(steps) => self.carry_out(work, seen, &server, steps).await,
            Next::Wait(wait) => self.pause(work, seen, wait).await,
            Next::Undo(cause) => {
                let (reason, text) = (cause.reason.clone(), cause.text.clone());
                self.write(work, vec![Entry::UndoDecided { cause, ends: UndoneAs::Failed }]).await?;
                tracing::warn!(message_id = message::UNDO_DECIDED, %reason, "to be undone: {text}");
                Ok(Turn::Again)
            }
            Next::Done(done) => self.end(work, seen, finish::when_done(&work.history, done)).await,
            Next::Fail(cause) => self.end(work, seen, finish::when_failed(&work.history, cause)).await,
            Next::Expire(cause) => self.end(work, seen, Outcome::Expired(cause)).await,
        }
    }

    /// Journals the steps, applies them, and notes what came of them.
    async fn carry_out(
        &self,
        work: &mut Work,
        seen: &mut Observed,
        server: &Server,
        steps: Vec<Step>,
    ) -> Result<Turn, JournalError> {
        let job = steps.iter().copied().find(|step| is_job(*step));
        let Some(_permit) = self.build_slot(work, job).await else {
            *seen = Observed::nothing();
            return Ok(Turn::Again);
        };
        let started = {
            let question = self.question(work, seen, server);
            work.starts(&steps, question.before(question.vm_if_there().ok().flatten().as_ref()))
        };
        let begins = !work.history.begun();
        self.write(work, started).await?;
        if begins {
            tracing::info!(message_id = message::EVENT_BEGUN, generation = %work.proof.generation(), "begun");
        }
        let progress = JobProgress::default();
        self.show_at_work(work, job, &steps);
        let question = self.question(work, seen, server);
        let effects = &self.shared.parts.effects;
        let applied = join_all(steps.iter().map(|step| {
            let attempt = work.history.attempts(*step);
            told(*step, attempt, apply(effects, &question, *step, &progress))
        }));
        let results = match job {
            None => Some(applied.await),
            Some(job) => self.unless_interrupted(work, job, &progress, applied).await,
        };
        let kept = std::mem::replace(seen, Observed::nothing());
        let Some(results) = results else { return Ok(Turn::Again) };
        let now = self.shared.now();
        if results.iter().all(Result::is_ok) {
            *seen = steps.iter().fold(kept, |kept, step| kept.kept_after(*step));
        }
        for (step, result) in steps.into_iter().zip(results) {
            work.returned(step, result, now);
        }
        Ok(Turn::Again)
    }

    /// A place among the jobs that are at work; none: something came up while waiting for one.
    async fn build_slot(&self, work: &Work, job: Option<Step>) -> Option<Option<OwnedSemaphorePermit>> {
        let Some(job) = job else { return Some(None) };
        let builds = Arc::clone(&self.shared.builds);
        if let Ok(permit) = Arc::clone(&builds).try_acquire_owned() {
            return Some(Some(permit));
        }
        let until = work.expires(&self.shared.parts.journal.now()).filter(|_| !work.history.begun());
        self.shared.show(Progress {
            until: self.on_the_clock(until),
            ..work.progress(job.as_str(), (0, 0), "a free place among the builds")
        });
        tokio::select! {
            permit = builds.acquire_owned() => permit.ok().map(Some),
            () = self.shared.sleep(self.vm, until, self.shared.parts.settings.sweep) => None,
        }
    }

    /// Waits for a job, showing its progress; none when it was dropped for something that goes first.
    async fn unless_interrupted<T>(
        &self,
        work: &Work,
        job: Step,
        progress: &JobProgress,
        applied: impl Future<Output = T>,
    ) -> Option<T> {
        let mut tick = tokio::time::interval(self.shared.parts.settings.progress);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tokio::pin!(applied);
        loop {
            tokio::select! {
                results = &mut applied => return Some(results),
                () = self.shared.interrupted(self.vm) => return None,
                _ = tick.tick() => self.show(work, job, progress.get(), ""),
            }
        }
    }

    /// Before a sleep, what is known is written; then people are told what is waited for.
    async fn pause(&self, work: &mut Work, seen: &Observed, wait: Wait) -> Result<Turn, JournalError> {
        self.write(work, Vec::new()).await?;
        let settings = &self.shared.parts.settings;
        let (bytes, at_most) = match (wait.on, seen.domain.there().map(|domain| &domain.backup)) {
            (On::Backup, Some(BackupJob::Running { done, total })) => ((*done, *total), settings.progress),
            (On::Backup | On::Sight | On::Server, _) => ((0, 0), settings.progress),
            (On::Domain | On::Clock, _) => ((0, 0), settings.sweep),
        };
        let step = work.history.all().last().map_or("", |tried| tried.step.as_str());
        let expires = work.expires(&self.shared.parts.journal.now()).filter(|_| !work.history.begun());
        let until = wait.until.into_iter().chain(expires).min();
        let at = self.on_the_clock(until);
        self.shared.show(Progress { until: at, ..work.progress(step, bytes, &wait.why) });
        Ok(Turn::Sleep { until, at_most })
    }

    async fn end(
        &mut self,
        work: &mut Work,
        seen: &Observed,
        outcome: Outcome,
    ) -> Result<Turn, JournalError> {
        let server = self.server_for(work);
        let entry = finish::entry(&self.question(work, seen, &server), outcome.clone());
        self.close(work, entry, outcome).await?;
        Ok(Turn::Again)
    }

    /// Journals the end of an event.
    async fn close(&mut self, work: &mut Work, entry: Entry, outcome: Outcome) -> Result<(), JournalError> {
        self.write(work, vec![entry]).await?;
        work.end();
        span_of(work).in_scope(|| ended(&outcome));
        self.shared.parts.board.clear(work.id());
        self.shared.ears.after_event(self.vm, self.shared.now());
        self.ended.push((work.id(), outcome));
        Ok(())
    }

    /// Journals entries, with what is still to be written of the steps before; then takes them into the history.
    async fn write(&self, work: &mut Work, entries: Vec<Entry>) -> Result<(), JournalError> {
        let Some(entries) = work.to_write(entries) else { return Ok(()) };
        self.shared.parts.journal.append(&work.proof, entries.all.clone()).await?;
        work.written(entries, self.shared.now());
        Ok(())
    }

    /// The journal did not take an entry. A full or failing disk is waited for; a refusal is a bug, and stops the lane.
    fn refused(&self, error: &JournalError) -> Turn {
        let cause = Cause::from(error.clone());
        match error {
            JournalError::Closed | JournalError::Illegal(_) | JournalError::NoEvent(_) => {
                tracing::error!(reason = %cause.reason, "the lane stops: {}", cause.text);
                Turn::Stop
            }
            _ => {
                for work in &self.works {
                    self.shared.show(work.progress("", (0, 0), &cause.text));
                }
                Turn::Sleep { until: None, at_most: self.shared.parts.settings.progress }
            }
        }
    }

    fn question<'a>(&'a self, work: &'a Work, seen: &'a Observed, server: &'a Server) -> Question<'a> {
        let now = self.shared.parts.journal.now();
        Question {
            event: work.event(),
            generation: work.proof.generation(),
            spec: work.spec(),
            history: &work.history,
            observed: seen,
            server,
            now: Duration::from_millis(now.since_boot_ms),
            expires: work.expires(&now),
            settings: &self.shared.parts.settings,
        }
    }

    /// An event that was submitted here does not wait for a coordinator that may never come.
    fn server_for(&self, work: &Work) -> Server {
        let server = self.shared.parts.server.borrow().clone();
        match (server, work.proof.origin()) {
            (Server::Unknown, Origin::Local) => Server::None,
            (server, _) => server,
        }
    }

    fn show(&self, work: &Work, step: Step, bytes: (u64, u64), waiting_for: &str) {
        self.shared.show(work.progress(step.as_str(), bytes, waiting_for));
    }

    /// Steps are at work, and given up by then; with a job among them, not as long as it gets on.
    fn show_at_work(&self, work: &Work, job: Option<Step>, steps: &[Step]) {
        let longest = steps.iter().filter_map(|step| at_most(&self.shared.parts.effects, *step)).max();
        let until = longest.filter(|_| job.is_none()).map(|longest| Millis::now().plus(longest));
        self.shared.show(Progress { until, ..work.progress(job.unwrap_or(steps[0]).as_str(), (0, 0), "") });
    }

    /// From the time since the host booted to what people read.
    fn on_the_clock(&self, until: Option<Duration>) -> Option<Millis> {
        until.map(|until| Millis::now().plus(until.saturating_sub(self.shared.now())))
    }
}

/// Whatever is logged for an event bears its id; the lane's own span has the VM's.
fn span_of(work: &Work) -> tracing::Span {
    tracing::info_span!("event", event_id = %work.id(), kind = %work.event().kind.name())
}
