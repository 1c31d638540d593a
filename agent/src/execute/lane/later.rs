//! What cancels and destroys do to the events before them in their lane.

use dewpoint_common::message;
use dewpoint_proto::event::Kind;
use dewpoint_proto::ids::EventId;
use dewpoint_proto::outcome::Outcome;

use super::{Lane, Work, span_of};
use crate::execute::finish;
use crate::execute::plan::cancel::{Cancelling, Target, cancelled, decide, superseded};
use crate::journal::JournalError;
use crate::journal::entry::{Entry, UndoneAs};

/// Whether the lane's events changed.
pub(super) enum Acted {
    Nothing,
    Something,
}

impl Lane {
    /// Lets the first cancel or destroy that has something to do, do it.
    pub(super) async fn later_events(&mut self) -> Result<Acted, JournalError> {
        for at in 0..self.works.len() {
            let acted = match self.works[at].event().kind {
                Kind::Cancel(cancel) => self.cancel(at, cancel.target).await?,
                Kind::Destroy(_) => self.supersede(at).await?,
                _ => Acted::Nothing,
            };
            if let Acted::Something = acted {
                return Ok(acted);
            }
        }
        Ok(Acted::Nothing)
    }

    async fn cancel(&mut self, at: usize, target: EventId) -> Result<Acted, JournalError> {
        let of = self.works.iter().position(|work| work.id() == target);
        let known = match of {
            Some(of) => Known::Open(of),
            None => self.how_it_ended(target).await?,
        };
        let decision = decide(match &known {
            Known::Open(of) => Target::Open(&self.works[*of].proof, &self.works[*of].history),
            Known::Ended(outcome) => Target::Ended(outcome),
            Known::Not => Target::Unknown,
        });
        match (decision, of) {
            (Cancelling::Undo, Some(of)) => {
                let cause = cancelled(self.works[at].event());
                let reason = cause.reason.clone();
                let mut work = self.works.remove(of);
                let written = self
                    .write(&mut work, vec![Entry::UndoDecided { cause, ends: UndoneAs::Cancelled }])
                    .await;
                if written.is_ok() {
                    span_of(&work).in_scope(|| {
                        tracing::info!(message_id = message::UNDO_DECIDED, %reason, "to be undone: it was cancelled");
                    });
                }
                self.works.insert(of, work);
                written?;
            }
            (Cancelling::Finish(outcome), _) => self.finish(at, outcome).await?,
            (Cancelling::Wait | Cancelling::Undo, _) => return Ok(Acted::Nothing),
        }
        Ok(Acted::Something)
    }

    /// Ends the event that an unbegun destroy came upon, as far as it got.
    async fn supersede(&mut self, at: usize) -> Result<Acted, JournalError> {
        let by = self.works[at].id();
        let earlier = self.works[..at].iter().position(|work| !work.is_cancel() && !is_destroy(work));
        let Some(earlier) = earlier else { return Ok(Acted::Nothing) };
        self.finish(earlier, Outcome::Cancelled(superseded(by))).await?;
        Ok(Acted::Something)
    }

    async fn finish(&mut self, at: usize, outcome: Outcome) -> Result<(), JournalError> {
        let mut work = self.works.remove(at);
        let ended = self.close(&mut work, finish::unseen(outcome.clone()), outcome).await;
        if !work.ended() {
            self.works.insert(at, work);
        }
        ended
    }

    async fn how_it_ended(&self, event: EventId) -> Result<Known, JournalError> {
        if let Some((_, outcome)) = self.ended.iter().find(|(id, _)| *id == event) {
            return Ok(Known::Ended(outcome.clone()));
        }
        let row = self.shared.parts.journal.event(event).await?;
        Ok(row.and_then(|(row, _)| row.outcome).map_or(Known::Not, Known::Ended))
    }
}

enum Known {
    Open(usize),
    Ended(Outcome),
    Not,
}

fn is_destroy(work: &Work) -> bool {
    matches!(work.event().kind, Kind::Destroy(_))
}
