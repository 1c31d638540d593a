//! One session, from hello to its end.

use std::sync::atomic::AtomicU64;

use dewpoint_common::message;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{HostId, Seq, Term};
use dewpoint_proto::status::to_status;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::{from_agent, to_agent};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::{Status, Streaming};
use tracing::Instrument;

use super::outbound::Outbound;
use super::sessions::Place;
use super::window::{Taken, Window};
use super::{Shared, deliver, keepalive, receive};
use crate::store::{Hello, HostClaim};

/// Why a session ended.
#[derive(Debug)]
pub(super) enum End {
    /// The agent went, or its connection broke.
    Closed,
    /// Nothing came for too long.
    Silent,
    /// The agent took nothing for too long.
    Stuck,
    /// Another session has the host.
    Displaced,
    /// The host is not diverged any more.
    Settled,
    /// The coordinator stops.
    Stopped,
    /// For this reason, which the agent is told.
    Refused(Cause),
}

impl From<Cause> for End {
    fn from(cause: Cause) -> Self {
        if cause.reason == Reason::TermLost { Self::Displaced } else { Self::Refused(cause) }
    }
}

/// What the loops of a session share.
pub(super) struct Session {
    pub(super) host: HostId,
    pub(super) term: Term,
    /// Of the agent's process: inventories of another are passed over.
    pub(super) start_count: u64,
    /// What a host whose log does not match sends is not stored as the outcome of events.
    pub(super) log: Log,
    /// Whether the welcome told the agent to hold.
    pub(super) hold_told: bool,
    pub(super) place: Place,
    pub(super) outbound: Outbound,
    /// From [`receive`] to [`deliver`].
    pub(super) taken: watch::Sender<Taken>,
    /// From [`deliver`] to [`receive`]: acceptance beyond it is a lie.
    pub(super) highest_sent: AtomicU64,
}

/// Whether a host's log matches ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    /// It does.
    Matched,
    /// It does not: nothing is delivered.
    Diverged,
}

/// Serves one stream until it ends.
pub(super) async fn run(shared: &Shared, mut inbound: Streaming<wire::FromAgent>, outbound: Outbound) {
    let opened = timeout(shared.settings.handshake, open(shared, &mut inbound, &outbound)).await;
    let session = match opened {
        Ok(Ok(session)) => session,
        Ok(Err(end)) => return finish(&outbound, &end),
        Err(_) => {
            let late = Cause::new(Reason::Invalid, "the handshake took too long").advise("send Hello first");
            return finish(&outbound, &End::Refused(late));
        }
    };
    let span = tracing::info_span!("session", host_id = %session.host, term = session.term.0);
    let end = serve(shared, &session, inbound).instrument(span.clone()).await;
    match end {
        End::Stuck => shared.metrics.stuck.one(),
        End::Silent => shared.metrics.silent.one(),
        _ => {}
    }
    span.in_scope(|| finish(&outbound, &end));
}

/// The handshake. The claim raises the term, so that whatever an older session still writes is refused.
async fn open(
    shared: &Shared,
    inbound: &mut Streaming<wire::FromAgent>,
    outbound: &Outbound,
) -> Result<Session, End> {
    let (hello, observe_only) = hello(inbound).await?;
    let (host, start_count) = (hello.host, hello.start_count);
    // Waited for in turn, within the handshake's bound; a clash of two agents waits for pings, so it comes first.
    let place = shared.sessions.enter(host).await.inspect_err(|_| shared.metrics.clashes.one())?;
    let admitted = shared.admission.acquire().await.map_err(|_| End::Stopped)?;
    let hostname = hello.hostname.clone();
    let hold_told = shared.events.held(host).is_some();
    let (term, after, log) = match shared.events.claim_host(hello).await? {
        HostClaim::Matched { term, after, reports_acked, .. } => {
            let welcome = wire::Welcome {
                term: term.0,
                reports_acked: reports_acked.0,
                now_ms: shared.events.now().0,
                heartbeat_seconds: u32::try_from(shared.settings.heartbeat.as_secs()).unwrap_or(u32::MAX),
                images_url: shared.settings.images_url.clone(),
                hold: hold_told,
            };
            outbound.send(to_agent::Message::Welcome(welcome)).await?;
            (term, after, Log::Matched)
        }
        HostClaim::Diverged { term, cause } => {
            tracing::error!(message_id = message::HOST_DIVERGED, host_id = %host, %hostname, reason = %cause.reason,
                advice = cause.advice, "the logs do not match: {}", cause.text);
            let told = wire::Diverged { cause: Some(cause.into()) };
            outbound.send(to_agent::Message::Diverged(told)).await?;
            (term, Seq(0), Log::Diverged)
        }
    };
    shared.events.host_observes(host, observe_only);
    drop(admitted);
    shared.metrics.sessions.one();
    tracing::info!(message_id = message::SESSION_UP, host_id = %host, %hostname, term = term.0,
        session = %place.handle.id, ?log, "a host is connected");
    Ok(Session {
        host,
        term,
        start_count,
        log,
        hold_told,
        place,
        outbound: outbound.clone(),
        taken: watch::Sender::new(Window::after(after).taken()),
        highest_sent: AtomicU64::new(after.0),
    })
}

/// Also whether the agent only observes.
async fn hello(inbound: &mut Streaming<wire::FromAgent>) -> Result<(Hello, bool), End> {
    match inbound.message().await {
        Ok(Some(wire::FromAgent { message: Some(from_agent::Message::Hello(hello)) })) => {
            let observe_only = hello.observe_only;
            Ok((Hello::try_from(hello)?, observe_only))
        }
        Ok(Some(_)) => Err(Cause::new(Reason::Invalid, "the first message was no Hello")
            .advise("send Hello first")
            .into()),
        Ok(None) | Err(_) => Err(End::Closed),
    }
}

/// The loops, side by side in one task: the first to end ends all. Each may be dropped at any wait: what the store was
/// asked is done or not, and what was not acknowledged comes again.
async fn serve(shared: &Shared, session: &Session, inbound: Streaming<wire::FromAgent>) -> End {
    let handle = &session.place.handle;
    tokio::select! {
        biased;
        () = shared.stop.cancelled() => End::Stopped,
        () = handle.displaced.cancelled() => End::Displaced,
        () = session.outbound.closed() => End::Closed,
        end = receive::run(shared, session, inbound) => end,
        end = deliver::run(shared, session) => end,
        end = keepalive::run(handle, &session.outbound, shared.settings.ping) => end,
    }
}

fn finish(outbound: &Outbound, end: &End) {
    say(end);
    let status = match end {
        End::Closed => return,
        End::Silent | End::Stuck => {
            Status::deadline_exceeded("nothing came, or nothing was taken, for too long")
        }
        End::Displaced => to_status(Cause::new(Reason::TermLost, "another session has this host")),
        End::Settled => {
            to_status(Cause::new(Reason::Unreachable, "the host was reconciled").advise("connect again"))
        }
        End::Stopped => {
            to_status(Cause::new(Reason::Unreachable, "the coordinator stops").advise("connect again"))
        }
        End::Refused(cause) => to_status(cause.clone()),
    };
    outbound.finish(status);
}

fn say(end: &End) {
    match end {
        End::Refused(cause) => tracing::warn!(message_id = message::SESSION_DOWN, reason = %cause.reason,
            advice = cause.advice, "a session was refused: {}", cause.text),
        End::Silent | End::Stuck => {
            tracing::warn!(message_id = message::SESSION_DOWN, ?end, "a session ended");
        }
        End::Closed | End::Displaced | End::Settled | End::Stopped => {
            tracing::info!(message_id = message::SESSION_DOWN, ?end, "a session ended");
        }
    }
}
