//! What the coordinator says, and what comes of it.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{Generation, ReportSeq, Seq, Term};
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::{from_agent, to_agent};
use dewpoint_proto::wire::event;
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::pending::Put;
use super::session::{End, Session, Standing};
use crate::execute::keep::decide::Word;
use crate::journal::admission::Unreadable;
use crate::journal::{Admission, Delivery, JournalError, Journaled, Origin, Payload};

impl Session<'_> {
    pub(super) async fn receive(&mut self, message: wire::ToAgent) -> Result<(), End> {
        match message.message {
            Some(to_agent::Message::Deliver(deliver)) => self.delivered(deliver).await,
            Some(to_agent::Message::ReportAck(ack)) => self.acknowledged(ReportSeq(ack.report_seq)).await,
            Some(to_agent::Message::Hold(hold)) => self.held(hold).await,
            Some(to_agent::Message::Ping(ping)) => {
                self.say(from_agent::Message::Pong(wire::Pong { nonce: ping.nonce })).await
            }
            Some(to_agent::Message::AskAccount(ask)) => self.asked(ask),
            Some(to_agent::Message::Reconcile(told)) => self.reconcile(told),
            Some(to_agent::Message::Become(told)) => self.become_host(told).await,
            Some(to_agent::Message::Welcome(_) | to_agent::Message::Diverged(_)) => {
                Err(Cause::new(Reason::Invalid, "the coordinator answered Hello twice").into())
            }
            Some(to_agent::Message::Confirm(confirm)) => {
                self.confirmed(confirm);
                Ok(())
            }
            // A newer coordinator may say more than we know.
            None => Ok(()),
        }
    }

    async fn delivered(&mut self, deliver: wire::Deliver) -> Result<(), End> {
        let seq = Seq(deliver.seq);
        if self.standing != Standing::Welcome(Term(deliver.term)) {
            tracing::warn!(seq = seq.0, term = deliver.term, standing = ?self.standing, "a delivery of another term is ignored");
            return Ok(());
        }
        match self.pending.put(seq, parse(deliver)?) {
            Put::Waits => Ok(()),
            Put::Again(delivery) => self.compare(seq, *delivery).await,
            Put::Beyond => {
                tracing::warn!(%seq, "a delivery beyond the window is passed over");
                Ok(())
            }
        }
    }

    /// A redelivery must be what was journaled; it is acknowledged again, as its acknowledgement may be lost.
    async fn compare(&mut self, seq: Seq, delivery: Delivery) -> Result<(), End> {
        let admission = self.patient(self.link.parts.journal.admit(delivery)).await?;
        match admission {
            Ok(Admission::Seen(_)) => {
                self.accepted = self.accepted.max(Some(self.pending.accepted()));
                Ok(())
            }
            Ok(Admission::New(_) | Admission::Refused(_)) => {
                Err(Cause::new(Reason::Internal, format!("delivery {seq} was new behind the journal's end"))
                    .into())
            }
            Err(error) if is_withheld(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a delivery waits only for the executor's room.
    pub(super) fn wants_place(&self) -> bool {
        !self.withheld && self.pending.has_next()
    }

    /// Gives the journal what is next, as far as the executor has room: what is accepted has its place.
    pub(super) async fn pump(&mut self, mut place: Option<mpsc::OwnedPermit<Journaled>>) -> Result<(), End> {
        while self.wants_place() {
            let place = match place.take() {
                Some(place) => place,
                None => match self.link.parts.admitted.clone().try_reserve_owned() {
                    Ok(place) => place,
                    Err(mpsc::error::TrySendError::Full(_)) => return Ok(()),
                    Err(mpsc::error::TrySendError::Closed(_)) => return Err(End::NothingLeft),
                },
            };
            let Some((seq, delivery)) = self.pending.next() else { return Ok(()) };
            let offered = self.patient(self.link.parts.journal.offer(delivery, place)).await??;
            self.admitting.push_back(Box::pin(async move { (seq, offered.answer().await) }));
        }
        Ok(())
    }

    /// The journal's answer; answers come in the order of seq.
    pub(super) fn admitted(&mut self, seq: Seq, answer: Result<Admission, JournalError>) -> Result<(), End> {
        match answer {
            Ok(admission) => {
                if let Admission::Seen(stage) = &admission {
                    tracing::debug!(%seq, stage = stage.name(), "delivered again");
                }
                self.pending.accept(seq);
                self.accepted = self.accepted.max(Some(seq));
                Ok(())
            }
            Err(error) if is_withheld(&error) => {
                self.pending.rewind(seq);
                self.withheld = true;
                Ok(())
            }
            // One before it was withheld.
            Err(JournalError::OutOfOrder { .. }) => {
                self.pending.rewind(seq);
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn acknowledged(&mut self, up_to: ReportSeq) -> Result<(), End> {
        if self.standing == Standing::Diverged {
            return Ok(());
        }
        if up_to > self.reports.sent {
            return Err(Cause::new(
                Reason::Invalid,
                format!("report {up_to} was acknowledged, {} was the last one sent", self.reports.sent),
            )
            .advise("this is a bug of the coordinator, or its database is another one's")
            .into());
        }
        let acknowledging = self.patient(self.link.parts.journal.acknowledge(up_to)).await?;
        // Not written: it is told as unacknowledged again, and acknowledged again.
        if let Err(error) = acknowledging {
            tracing::warn!(%error, "an acknowledgement could not be journaled");
        }
        self.reports.acked = self.reports.acked.max(up_to);
        self.reports_progressed().await
    }

    async fn held(&mut self, hold: wire::Hold) -> Result<(), End> {
        self.link.state.send_modify(|state| {
            super::say_hold(state.hold, hold.hold, &hold.reason);
            state.hold = hold.hold;
            state.hold_reason = dewpoint_proto::cause::shortened(&hold.reason);
        });
        if let Err(error) = self.patient(self.link.parts.journal.set_hold(hold.hold)).await? {
            tracing::warn!(%error, "the hold could not be journaled; it counts until the agent stops");
        }
        Ok(())
    }

    /// The word on movable VMs goes to whoever waits for it. From a coordinator that does not know this host's log it
    /// is none.
    fn confirmed(&self, confirm: wire::Confirm) {
        if self.standing == Standing::Diverged {
            return;
        }
        for told in confirm.vms {
            let Ok(vm) = told.vm_id.parse() else { continue };
            let word = match told.refused {
                Some(cause) => Word::Refused(cause.into()),
                None => Word::Confirmed(Generation(told.generation)),
            };
            self.link.parts.keeping.given(vm, word);
        }
    }

    /// With the journal's deadline.
    pub(super) async fn patient<T>(&mut self, asking: impl Future<Output = T>) -> Result<T, End> {
        timeout(self.link.parts.timing.journal, asking).await.map_err(|_| {
            Cause::new(Reason::JournalError, "the journal does not answer")
                .advise("check the data folder's disk")
                .into()
        })
    }
}

/// Nothing was written, and it may be tried again: the disk is to blame, not the delivery.
fn is_withheld(error: &JournalError) -> bool {
    matches!(
        error,
        JournalError::Withheld(_) | JournalError::Full(_) | JournalError::Disk(_) | JournalError::Corrupt(_)
    )
}

/// A delivery from the wire. One that cannot be read but names its event takes its place in the queue all the same,
/// to be refused there; one that does not ends the session, as nothing could be reported of it.
fn parse(deliver: wire::Deliver) -> Result<Delivery, Cause> {
    let origin = Origin::Delivered {
        seq: Seq(deliver.seq),
        term: Term(deliver.term),
        generation: Generation(deliver.generation),
    };
    let payload = match Body::decode(deliver.event.clone()) {
        Ok(body) => Payload::Event(body),
        Err(cause) => {
            let named = event::Event::decode(deliver.event.clone())
                .ok()
                .and_then(|event| Some((event.event_id.parse().ok()?, event.vm_id.parse().ok()?)));
            let Some((event, vm)) = named else { return Err(cause.with("seq", deliver.seq)) };
            Payload::Unreadable(Unreadable { event, vm, bytes: deliver.event, cause })
        }
    };
    Ok(Delivery { origin, payload })
}
