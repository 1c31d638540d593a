//! A delivery that waits in the journal's queue, and its answer.

use dewpoint_common::message;
use dewpoint_proto::ids::{EventId, Seq, VmId};
use tokio::sync::oneshot;

use super::{Admission, JournalError};

/// A delivery in the journal's queue.
#[derive(Debug)]
pub struct Offered {
    pub(super) event: EventId,
    pub(super) vm: VmId,
    pub(super) seq: Option<Seq>,
    pub(super) answer: oneshot::Receiver<Result<Admission, JournalError>>,
}

impl Offered {
    /// Waits for the disk.
    ///
    /// # Errors
    /// As [`super::Journal::admit`].
    pub async fn answer(self) -> Result<Admission, JournalError> {
        let answer = self.answer.await.map_err(|_| JournalError::Closed)?;
        if let Ok(Admission::Refused(cause)) = &answer {
            let (event_id, vm_id, seq, reason) =
                (self.event, self.vm, self.seq.map(|seq| seq.0), &cause.reason);
            tracing::info!(message_id = message::EVENT_REFUSED, %event_id, %vm_id, seq, %reason,
                advice = cause.advice, "refused: {}", cause.text);
        }
        answer
    }
}
