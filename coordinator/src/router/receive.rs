//! Takes what a host tells: stores it under the session's term, and only then acknowledges it.
//!
//! Reports are acknowledged together, when nothing more is waiting or after a bounded number. What cannot be stored
//! ends the session: acknowledgements are cumulative, so going on would acknowledge what was not kept, and a VM's state
//! is told when it changes, not again.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{ReportSeq, Seq};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::vm_state::VmState;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::{from_agent::Message, to_agent};
use futures::FutureExt;
use tokio::time::timeout;
use tonic::Streaming;

use super::deliver::was_sent;
use super::session::{End, Log, Session};
use super::{Shared, confirm};
use crate::events::HostHeartbeat;
use crate::store::{Account, HostReport, ImageBytes};

/// Reports stored before they are acknowledged, when more are waiting.
const GATHER: u32 = 64;

/// Returns with the session's end only.
pub(super) async fn run(shared: &Shared, session: &Session, mut inbound: Streaming<wire::FromAgent>) -> End {
    let mut acks = Acks::default();
    let mut account = Account::default();
    let silence = shared.settings.ping * 3;
    loop {
        let waiting =
            if acks.count > 0 && acks.count < GATHER { inbound.message().now_or_never() } else { None };
        let next = match waiting {
            Some(next) => next,
            None => {
                if let Err(end) = acks.flush(session).await {
                    return end;
                }
                match timeout(silence, inbound.message()).await {
                    Ok(next) => next,
                    Err(_) => return End::Silent,
                }
            }
        };
        session.place.handle.heard.send_modify(|count| *count += 1);
        let taken = match next {
            Ok(Some(wire::FromAgent { message: Some(message) })) => match message {
                Message::Account(chunk) => take_account(shared, session, chunk, &mut account).await,
                message => take(shared, session, message, &mut acks).await,
            },
            // A newer agent may say more than we know.
            Ok(Some(wire::FromAgent { message: None })) => Ok(()),
            Ok(None) => Err(End::Closed),
            Err(status) => {
                tracing::debug!(code = ?status.code(), "the stream broke: {}", status.message());
                Err(End::Closed)
            }
        };
        if let Err(end) = taken {
            // What is stored is acknowledged even when the next message ends the session.
            let _ = acks.flush(session).await;
            return end;
        }
    }
}

/// Reports that are stored and not yet acknowledged.
#[derive(Default)]
struct Acks {
    upto: ReportSeq,
    count: u32,
}

impl Acks {
    async fn flush(&mut self, session: &Session) -> Result<(), End> {
        if self.count == 0 {
            return Ok(());
        }
        self.count = 0;
        let ack = wire::ReportAck { report_seq: self.upto.0 };
        session.outbound.send(to_agent::Message::ReportAck(ack)).await
    }
}

async fn take(shared: &Shared, session: &Session, message: Message, acks: &mut Acks) -> Result<(), End> {
    match message {
        Message::Accepted(accepted) => take_accepted(shared, session, Seq(accepted.seq)).await,
        Message::Report(report) => {
            if let Some(upto) = take_report(shared, session, report).await? {
                acks.upto = acks.upto.max(upto);
                acks.count += 1;
            }
            Ok(())
        }
        Message::Heartbeat(heartbeat) => take_heartbeat(shared, session, heartbeat).await,
        Message::Inventory(chunk) => take_inventory(shared, session, chunk).await,
        Message::Progress(progress) => {
            shared.events.progress(session.host, progress);
            Ok(())
        }
        // That it came is all that a pong says; accounts are gathered by the caller.
        Message::Pong(_) | Message::Account(_) => Ok(()),
        Message::Hello(_) => {
            Err(Cause::new(Reason::Invalid, "a second Hello").advise("open a new stream instead").into())
        }
    }
}

async fn take_accepted(shared: &Shared, session: &Session, seq: Seq) -> Result<(), End> {
    if session.log == Log::Diverged {
        return Ok(());
    }
    if !was_sent(session, seq) {
        let lie = Cause::new(Reason::Invalid, format!("{seq} was accepted and never sent"))
            .advise("this is a bug of the agent, or its journal is another host's");
        return Err(lie.with("seq", seq).into());
    }
    shared.events.accepted(session.host, session.term, seq).await?;
    session.taken.send_modify(|taken| taken.accepted = taken.accepted.max(seq));
    Ok(())
}

/// Answers up to where all are stored; none: not to be acknowledged.
async fn take_report(
    shared: &Shared,
    session: &Session,
    report: wire::Report,
) -> Result<Option<ReportSeq>, End> {
    if session.log == Log::Diverged {
        return Ok(None);
    }
    let (number, event_id) = (report.report_seq, report.event_id.clone());
    let mut report = HostReport::try_from(report).inspect_err(|cause| {
        tracing::error!(
            report_seq = number,
            event_id = dewpoint_proto::cause::shortened(&event_id),
            reason = %cause.reason,
            "a report cannot be read, and the host's reports stand still until it can: {}",
            cause.text
        );
    })?;
    tracing::debug!(report_seq = number, event_id, outcome = report.outcome.name(), "a report");
    let image = snapshotted(&report.outcome);
    // A report that puts an image into the catalogue, and a removal of that image, do not come between one another.
    let alone = if image.is_some() { Some(shared.images.catalogue().await) } else { None };
    if let Some(image) = image {
        report.image_bytes = bytes_of(shared, image).await?;
    }
    let upto = shared.events.report(session.host, session.term, report).await?;
    drop(alone);
    shared.metrics.reports.one();
    Ok(Some(upto))
}

/// The image that a host says it has uploaded.
fn snapshotted(outcome: &Outcome) -> Option<ImageDigest> {
    match outcome {
        Outcome::Succeeded(done) => done.image.as_ref().map(|image| image.digest),
        _ => None,
    }
}

/// The bytes of a snapshot come before its report: who removed them meanwhile did not want the row either.
async fn bytes_of(shared: &Shared, digest: ImageDigest) -> Result<ImageBytes, End> {
    if shared.images.is_there(digest).await? {
        return Ok(ImageBytes::Here);
    }
    tracing::warn!(image = %digest, "a snapshot was removed before its report came");
    Ok(ImageBytes::Removed)
}

async fn take_heartbeat(
    shared: &Shared,
    session: &Session,
    mut heartbeat: wire::Heartbeat,
) -> Result<(), End> {
    let (window, held) = (heartbeat.window, std::mem::take(&mut heartbeat.held));
    session.taken.send_if_modified(|taken| std::mem::replace(&mut taken.limit, window) != window);
    let told = match HostHeartbeat::try_from(heartbeat) {
        Ok(told) => told,
        Err(cause) => return passed_over("a heartbeat", &cause),
    };
    // States are told once, when they change: the next session's inventory brings what could not be stored.
    shared.events.heartbeat(session.host, session.term, told).await?;
    confirm::answer(shared, session, held).await
}

async fn take_inventory(shared: &Shared, session: &Session, chunk: wire::InventoryChunk) -> Result<(), End> {
    if chunk.start_count != session.start_count {
        return Ok(());
    }
    let count = chunk.vms.len();
    let states = match chunk.vms.into_iter().map(VmState::try_from).collect::<Result<Vec<_>, _>>() {
        Ok(states) => states,
        Err(cause) => return passed_over("a chunk of an inventory", &cause),
    };
    // A VM that a complete inventory does not name is not concluded to be gone: only a report says so.
    shared.events.observe(session.host, session.term, states).await?;
    tracing::debug!(inventory = chunk.inventory, count, complete = chunk.complete, "an inventory");
    Ok(())
}

/// What a diverged host has, chunk by chunk.
async fn take_account(
    shared: &Shared,
    session: &Session,
    chunk: wire::AccountChunk,
    account: &mut Account,
) -> Result<(), End> {
    if session.log != Log::Diverged || chunk.start_count != session.start_count {
        return Ok(());
    }
    if account.take_in(chunk)? {
        shared.events.account(session.host, session.term, std::mem::take(account)).await?;
    }
    Ok(())
}

/// What only informs, and cannot be read, would be no better in a new session.
fn passed_over(what: &str, cause: &Cause) -> Result<(), End> {
    tracing::warn!(reason = %cause.reason, what, "{what} was passed over: {}", cause.text);
    Ok(())
}
