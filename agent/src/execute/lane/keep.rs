//! A look at a VM that no event is at work on, and what is done about what is seen.
//!
//! ```text
//! look ─▶ decide ─┬─▶ journal what happened, decide anew
//!                 ├─▶ journal the run ─▶ rules ─▶ mark ─▶ start ─▶ journal the answer, look again
//!                 ├─▶ wait: an event goes first
//!                 └─▶ nothing, or left: the lane ends
//! ```
//!
//! What is logged here bears the VM's id by the lane's span.
//!
//! A run is journaled, and in the persistent mark, before it is started: cut off anywhere, the next agent goes on with
//! that run, and a VM that is seen on with it is not started again.

use std::sync::Arc;

use dewpoint_common::message;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::RunId;
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::{Incident, IncidentKind};
use tokio::sync::OwnedSemaphorePermit;

use super::{Lane, Turn};
use crate::execute::keep::board::Standing;
use crate::execute::keep::decide::{self, Keep, Question, StartAs, Wait};
use crate::execute::keep::incident::{is_down, tells_an_end};
use crate::execute::plan::question::rules_of;
use crate::hypervisor::{Call, Domain, Mark, Seen};
use crate::journal::kept::Kept;
use crate::journal::{JournalError, VmRow};

impl Lane {
    /// One look; none: there is nothing to do before something changes.
    pub(super) async fn keep(&self) -> Option<Turn> {
        if !self.shared.begins_a_look(self.vm) {
            return None;
        }
        match self.look().await {
            Ok(turn) => turn,
            Err(JournalError::Closed) => Some(Turn::Stop),
            Err(error) => {
                tracing::warn!(%error, "what happened to the VM cannot be journaled");
                None
            }
        }
    }

    async fn look(&self) -> Result<Option<Turn>, JournalError> {
        let shared = &self.shared;
        let Some(row) = shared.parts.journal.vm(self.vm).await? else { return Ok(None) };
        let domain = shared.parts.effects.hypervisor.observe(self.vm).await;
        let mut heard = shared.ears.heard(self.vm);
        let mut decided = self.decide(&row, &domain, &heard);
        if notes_an_end(&row, &decided) && !tells_an_end(&heard) {
            self.let_it_be_told().await;
            heard = shared.ears.heard(self.vm);
            decided = self.decide(&row, &domain, &heard);
        }
        match (decided, domain) {
            (Keep::Rest, _) => {
                shared.parts.keeping.clear(self.vm);
                if !row.unfinished {
                    shared.ears.noted(self.vm, heard.len());
                }
                Ok(None)
            }
            (Keep::Note(kept), _) => {
                self.note(&row, *kept).await?;
                shared.ears.noted(self.vm, heard.len());
                Ok(Some(Turn::Again))
            }
            (Keep::Leave(cause), _) => {
                self.leave(&cause);
                Ok(None)
            }
            (Keep::Wait(wait), _) => Ok(self.wait(&row, wait)),
            (Keep::Start(by), Seen::There(domain)) => self.start(&row, &domain, by).await.map(Some),
            (Keep::PowerOff, _) => Ok(Some(self.pull_the_plug().await)),
            (Keep::Start(_), _) => Ok(None),
        }
    }

    fn decide(&self, row: &VmRow, domain: &Seen<Domain>, heard: &[String]) -> Keep {
        let shared = &self.shared;
        decide::keep(&Question {
            row,
            domain,
            heard,
            now: shared.parts.journal.now(),
            word: &shared.parts.keeping.word(self.vm),
            held: shared.held(),
            config: shared.ears.config_of(self.vm).as_ref(),
            bounds: &shared.parts.settings.keep,
        })
    }

    /// What is seen may be so a moment before libvirt tells of it, and its state alone tells less: so long that is waited
    /// for. Nothing comes when libvirt was restarted, or was away, as the run ended.
    async fn let_it_be_told(&self) {
        let shared = &self.shared;
        let until = shared.now().saturating_add(shared.parts.settings.keep.settle);
        while shared.now() < until
            && !shared.stop.is_cancelled()
            && !shared.is_called(self.vm)
            && !tells_an_end(&shared.ears.heard(self.vm))
        {
            shared.sleep(self.vm, Some(until), shared.parts.settings.keep.settle).await;
        }
    }

    async fn note(&self, row: &VmRow, kept: Kept) -> Result<(), JournalError> {
        self.shared.parts.journal.keep(self.vm, kept.clone(), None).await?;
        if let Some(incident) = kept.incident.as_ref().filter(|now| row.kept.incident.as_ref() != Some(*now))
        {
            self.tell(incident);
        } else if row.kept.starting && !kept.starting {
            tracing::info!("the start that was cut off was carried out");
        }
        Ok(())
    }

    /// One line for each thing that happened.
    fn tell(&self, incident: &Incident) {
        let (kind, detail) = (incident.kind.as_str(), &incident.detail);
        let run_id = incident.run.map(|run| run.to_string()).unwrap_or_default();
        let words = incident.kind.words();
        match incident.kind {
            IncidentKind::GuestRebooted | IncidentKind::GuestPoweredOff | IncidentKind::HostWentDown => {
                tracing::info!(message_id = message::VM_INCIDENT, incident = kind, detail, run_id, "{words}");
            }
            _ => {
                tracing::warn!(message_id = message::VM_INCIDENT, incident = kind, detail, run_id, "{words}")
            }
        }
    }

    fn leave(&self, cause: &Cause) {
        let keeping = format!("left as it is: {}; {}", cause.text, cause.advice);
        if self.shared.parts.keeping.set(self.vm, Standing { keeping, restart_at: None, asks: None }) {
            tracing::info!(reason = %cause.reason, advice = cause.advice, "left as it is: {cause}");
        }
    }

    /// Time alone is waited for here; whatever else ends a wait is heard of, or seen by the next stock, and opens the
    /// lane again.
    fn wait(&self, row: &VmRow, wait: Wait) -> Option<Turn> {
        let Wait { why, left, asks } = wait;
        let standing = Standing {
            keeping: if left.is_some() { why.clone() } else { format!("waits for {why}") },
            restart_at: left.map(|left| Millis::now().plus(left)),
            asks: asks.then_some(row.generation),
        };
        if self.shared.parts.keeping.set(self.vm, standing) {
            tracing::info!("waiting: {why}");
        }
        let left = left?;
        Some(Turn::Sleep { until: Some(self.shared.now().saturating_add(left)), at_most: left })
    }

    async fn start(&self, row: &VmRow, domain: &Domain, by: StartAs) -> Result<Turn, JournalError> {
        let journal = &self.shared.parts.journal;
        let Some(_permit) = self.place_to_start().await else { return Ok(Turn::Again) };
        let (run, kept) = match by {
            StartAs::Again(run) => (run, row.kept.clone()),
            StartAs::New => {
                let run = RunId::fresh();
                let kept = decide::begun(&row.kept, run, journal.now());
                journal.keep(self.vm, kept.clone(), Some(run)).await?;
                (run, kept)
            }
        };
        if self.shared.is_called(self.vm) {
            return Ok(Turn::Again);
        }
        match self.power_on(row, domain, run).await {
            Ok(()) => {
                journal.keep(self.vm, decide::answered(&kept), None).await?;
                let count = format!("{} of {}", kept.restarts, self.shared.parts.settings.keep.limit);
                tracing::info!(message_id = message::VM_RESTARTED, run_id = %run, count, "started again");
                Ok(Turn::Again)
            }
            // Nothing was tried: the same run is tried again.
            Err(cause) if cause.reason == Reason::HypervisorDown => {
                self.wait(row, Wait { why: cause.text, left: None, asks: false });
                Ok(Turn::Rest)
            }
            Err(cause) => {
                let kept = decide::failed(&kept, &cause, journal.now());
                journal.keep(self.vm, kept, None).await?;
                tracing::warn!(run_id = %run, reason = %cause.reason, "not started again: {cause}");
                Ok(Turn::Again)
            }
        }
    }

    /// What the start of a VM takes, in the order of an event's plan: rules, mark, power.
    async fn power_on(&self, row: &VmRow, domain: &Domain, run: RunId) -> Result<(), Cause> {
        let (hypervisor, _, shield) = self.shared.effects();
        let spec = row.spec.as_ref();
        let spec = spec.ok_or_else(|| Cause::new(Reason::VmNotFound, "the VM's spec is not known"))?;
        let rules = rules_of(self.vm, spec);
        match shield.observe(self.vm).await {
            Seen::There(found) if found == rules => {}
            Seen::There(_) | Seen::Absent | Seen::Unknown(_) => shield.set(self.vm, &rules).await?,
        }
        if let Some(mark) = domain.mark.there().filter(|mark| mark.run != Some(run)) {
            hypervisor.apply(Call::Mark(Mark { run: Some(run), ..mark.clone() })).await?;
        }
        hypervisor.apply(Call::Start(self.vm)).await.map(drop)
    }

    async fn pull_the_plug(&self) -> Turn {
        match self.shared.parts.effects.hypervisor.apply(Call::PowerOff(self.vm)).await {
            Ok(_) => Turn::Again,
            Err(cause) => {
                tracing::warn!(reason = %cause.reason, "a dead guest's QEMU stays: {cause}");
                Turn::Rest
            }
        }
    }

    /// A place among the VMs that are started; none: something came up while waiting for one.
    async fn place_to_start(&self) -> Option<OwnedSemaphorePermit> {
        let starts = Arc::clone(&self.shared.starts);
        if let Ok(permit) = Arc::clone(&starts).try_acquire_owned() {
            return Some(permit);
        }
        let keeping = "waits for a free place among the VMs that are started".to_owned();
        self.shared.parts.keeping.set(self.vm, Standing { keeping, restart_at: None, asks: None });
        tokio::select! {
            biased;
            permit = starts.acquire_owned() => permit.ok(),
            () = self.shared.sleep(self.vm, None, self.shared.parts.settings.sweep) => None,
        }
    }
}

/// Whether it is about to be noted that a run has ended.
fn notes_an_end(row: &VmRow, decided: &Keep) -> bool {
    let Keep::Note(kept) = decided else { return false };
    kept.noted != row.kept.noted && kept.noted.as_ref().is_some_and(|noted| is_down(noted.what))
}
