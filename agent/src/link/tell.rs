//! What the agent says of its own accord: acknowledgements, reports, progress.

use std::collections::BTreeMap;

use dewpoint_proto::ids::{EventId, Seq};
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::from_agent;
use futures::{FutureExt, StreamExt};
use tokio::time::{Instant, timeout};

use super::session::{End, Session, Standing, unreachable};
use crate::report;
use crate::report::progress::Progress;

/// Reports that wait for their acknowledgement, at most.
const REPORTS_IN_FLIGHT: u64 = 128;
/// Reports that are read at once.
const REPORTS_AT_ONCE: u32 = 32;

impl Session<'_> {
    /// Says something, within a deadline: a coordinator that takes nothing is as good as gone.
    pub(super) async fn say(&mut self, message: from_agent::Message) -> Result<(), End> {
        let message = wire::FromAgent { message: Some(message) };
        match timeout(self.link.parts.timing.send, self.out.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(unreachable("the connection to the coordinator broke").into()),
            Err(_) => Err(unreachable("the coordinator takes nothing").into()),
        }
    }

    /// Acknowledges all that is on disk by now, in one message.
    pub(super) async fn send_accepted(&mut self) -> Result<(), End> {
        while let Some(Some((seq, answer))) = self.admitting.next().now_or_never() {
            self.admitted(seq, answer)?;
        }
        match self.accepted.take() {
            Some(Seq(seq)) if seq > 0 => {
                self.say(from_agent::Message::Accepted(wire::Accepted { seq })).await
            }
            _ => Ok(()),
        }
    }

    /// Sends what is written and not sent yet, as far as the bound lets it.
    pub(super) async fn send_reports(&mut self) -> Result<(), End> {
        if self.standing == Standing::Diverged {
            return Ok(());
        }
        self.reports.written.borrow_and_update();
        while self.reports.sent.0.saturating_sub(self.reports.acked.0) < REPORTS_IN_FLIGHT {
            let journal = &self.link.parts.journal;
            let reports = self.patient(journal.reports_after(self.reports.sent, REPORTS_AT_ONCE)).await??;
            if reports.is_empty() {
                break;
            }
            for row in reports {
                let n = row.n;
                self.say(from_agent::Message::Report(report::to_wire(row))).await?;
                self.reports.sent = n;
            }
        }
        self.expect_acknowledgement();
        Ok(())
    }

    /// After an acknowledgement there may be room for more.
    pub(super) async fn reports_progressed(&mut self) -> Result<(), End> {
        self.reports.overdue = None;
        self.send_reports().await
    }

    /// Nothing was acknowledged for too long: from the first unacknowledged one on again.
    pub(super) async fn resend_reports(&mut self) -> Result<(), End> {
        tracing::warn!(acknowledged = %self.reports.acked, sent = %self.reports.sent, "reports are sent again");
        self.reports.sent = self.reports.acked;
        self.reports.overdue = None;
        self.send_reports().await
    }

    fn expect_acknowledgement(&mut self) {
        if self.reports.sent <= self.reports.acked {
            self.reports.overdue = None;
        } else if self.reports.overdue.is_none() {
            self.reports.overdue = Some(Instant::now() + self.link.parts.timing.reports);
        }
    }

    /// The newest of each event that changed; lost when the connection is busy, as a newer one follows.
    pub(super) fn send_progress(&mut self) {
        self.progress.borrow_and_update();
        let now = self.link.parts.board.all();
        for (event, progress) in &now {
            if self.told.progress.get(event) == Some(progress) {
                continue;
            }
            let message = from_agent::Message::Progress(progress.clone().into());
            if self.out.try_send(wire::FromAgent { message: Some(message) }).is_err() {
                return;
            }
            self.told.progress.insert(*event, progress.clone());
        }
        self.told.progress.retain(|event, _| now.contains_key(event));
    }
}

/// Progress as last sent.
pub(super) type ToldProgress = BTreeMap<EventId, Progress>;
