//! Takes deliveries through the journal, in order and several at once, and hands what was accepted to the executor.
//!
//! Outlives sessions: an event that the journal accepts while its connection breaks is executed all the same, and the
//! acknowledgement follows in the next session.

use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::{mpsc, oneshot};

use crate::journal::{Admission, Delivery, Journal, JournalError, Journaled};

/// A delivery with the executor's place for it, and where the answer goes.
pub(super) struct Handover {
    pub(super) delivery: Delivery,
    pub(super) place: mpsc::OwnedPermit<Journaled>,
    pub(super) answer: oneshot::Sender<Result<(), JournalError>>,
}

/// The task.
pub(super) struct Admitter {
    journal: Journal,
    inbox: mpsc::Receiver<Handover>,
}

impl Admitter {
    pub(super) fn new(journal: Journal, inbox: mpsc::Receiver<Handover>) -> Self {
        Self { journal, inbox }
    }

    /// Until the link is gone and every answer is given. As many wait for the disk at once as the link lets through.
    pub(super) async fn run(mut self) {
        let mut waiting = FuturesOrdered::new();
        loop {
            tokio::select! {
                biased;
                Some(()) = waiting.next() => {}
                next = self.inbox.recv() => {
                    let Some(Handover { delivery, place, answer }) = next else { break };
                    // In the queue before the next one is looked at: the journal takes them in order of seq.
                    let offered = self.journal.offer(delivery).await;
                    waiting.push_back(async move {
                        let admission = match offered {
                            Ok(offered) => offered.answer().await,
                            Err(error) => Err(error),
                        };
                        settle(admission, place, answer);
                    });
                }
            }
        }
        while waiting.next().await.is_some() {}
    }
}

fn settle(
    admission: Result<Admission, JournalError>,
    place: mpsc::OwnedPermit<Journaled>,
    answer: oneshot::Sender<Result<(), JournalError>>,
) {
    let taken = match admission {
        Ok(Admission::New(proof)) => {
            tracing::info!(event_id = %proof.id(), vm_id = %proof.vm(), kind = %proof.event().kind.name(),
                generation = %proof.generation(), "accepted");
            place.send(proof);
            Ok(())
        }
        Ok(Admission::Refused(cause)) => {
            tracing::info!(reason = %cause.reason, "refused: {cause}");
            Ok(())
        }
        Ok(Admission::Seen(stage)) => {
            tracing::debug!(stage = stage.name(), "delivered again");
            Ok(())
        }
        Err(error) => Err(error),
    };
    // The session that asked may have ended; the next one's Hello tells the same.
    let _ = answer.send(taken);
}
