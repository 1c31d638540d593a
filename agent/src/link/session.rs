//! One session, from dialling to its end: a loop that names what woke it, and then does the work.

use dewpoint_common::message;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{HostId, ReportSeq, Seq, Term};
use dewpoint_proto::status::from_status;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::agent_link_client::AgentLinkClient;
use dewpoint_proto::wire::agent::{from_agent, to_agent};
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesOrdered;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::heartbeat::{Facts, Told};
use super::pending::Pending;
use super::reconcile::{Done, Errand, finished};
use super::{Link, Phase};
use crate::config::Manner;
use crate::journal::{Admission, JournalError, Journaled, Tail};
use crate::storage::ImageServer;

/// Messages that wait for the connection to take them.
const OUTBOUND: usize = 64;
/// The version of the protocol.
const PROTOCOL: u32 = 2;
/// Between heartbeats while the coordinator has not said.
const HEARTBEAT_SECONDS: u32 = 10;

/// Why a session ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// For this reason; it is dialled again.
    Because(Cause),
    /// Journal or executor are gone.
    NothingLeft,
    /// The host has another id now: the agent starts again.
    Renamed(HostId),
}

impl End {
    pub(super) fn into_cause(self) -> Cause {
        match self {
            Self::Because(cause) => cause,
            Self::NothingLeft => Cause::new(Reason::Internal, "the agent is ending"),
            Self::Renamed(host) => {
                Cause::new(Reason::Diverged, format!("this host takes the place of host {host}"))
                    .advise("start the agent again: it goes on under that id")
                    .with("host_id", host)
            }
        }
    }
}

impl From<Cause> for End {
    fn from(cause: Cause) -> Self {
        Self::Because(cause)
    }
}

impl From<JournalError> for End {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Closed => Self::NothingLeft,
            other => Self::Because(other.into()),
        }
    }
}

/// A live session.
pub(super) struct Session<'a> {
    pub(super) link: &'a Link,
    pub(super) out: mpsc::Sender<wire::FromAgent>,
    inbound: Streaming<wire::ToAgent>,
    pub(super) standing: Standing,
    pub(super) pending: Pending,
    /// With the journal, in the order of seq.
    pub(super) admitting: FuturesOrdered<BoxFuture<'static, (Seq, Result<Admission, JournalError>)>>,
    /// Acknowledged next.
    pub(super) accepted: Option<Seq>,
    /// The journal withholds: nothing is tried until it answers a heartbeat's ping well.
    pub(super) withheld: bool,
    pub(super) reports: Reports,
    pub(super) told: Told,
    beat: Interval,
    gathering: Option<BoxFuture<'static, Result<Box<Facts>, JournalError>>>,
    heard: Instant,
    began: Instant,
    pub(super) progress: watch::Receiver<()>,
    progress_due: Option<Instant>,
    /// VMs of a decision that is not complete yet.
    pub(super) adopted: Vec<wire::Adopted>,
    pub(super) errand: Option<Errand>,
}

/// Whether the logs match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Under this term.
    Welcome(Term),
    /// Nothing is taken, and nothing reported.
    Diverged,
}

/// Which reports were sent.
pub(super) struct Reports {
    pub(super) written: watch::Receiver<ReportSeq>,
    pub(super) sent: ReportSeq,
    pub(super) acked: ReportSeq,
    /// When the oldest unacknowledged one is sent again.
    pub(super) overdue: Option<Instant>,
}

/// What ended a wait.
enum Wake {
    Heard(Result<Option<wire::ToAgent>, Status>),
    Admitted(Seq, Result<Admission, JournalError>),
    Place(Option<mpsc::OwnedPermit<Journaled>>),
    ReportsWritten,
    ReportsOverdue,
    ProgressMade,
    ProgressDue,
    Beat,
    Gathered(Result<Box<Facts>, JournalError>),
    ErrandDone(Result<Done, Cause>),
    Silent,
    DivergedForLong,
}

/// Returns with the session's end.
pub(super) async fn run(link: &Link) -> End {
    let opened = timeout(link.parts.timing.handshake, open(link)).await;
    let mut session = match opened {
        Ok(Ok(session)) => session,
        Ok(Err(end)) => return end,
        Err(_) => return unreachable("the coordinator did not answer Hello in time").into(),
    };
    // What was written while there was no session.
    let mut result = session.send_reports().await;
    loop {
        if let Err(end) = result {
            return end;
        }
        result = session.step().await;
    }
}

pub(super) fn unreachable(text: &str) -> Cause {
    Cause::new(Reason::Unreachable, text)
        .advise("check the coordinator and the network; the agent dials again by itself")
}

async fn open(link: &Link) -> Result<Session<'_>, End> {
    let tail = link.parts.journal.tail().await?;
    let channel = link.parts.dial.dial().await?;
    let (out, messages) = mpsc::channel(OUTBOUND);
    // Before the stream is opened: both sides open theirs before they wait for the other.
    let hello = from_agent::Message::Hello(hello(link, &tail));
    out.try_send(wire::FromAgent { message: Some(hello) }).map_err(|_| End::NothingLeft)?;
    let mut inbound = AgentLinkClient::new(channel)
        .connect(ReceiverStream::new(messages))
        .await
        .map_err(|status| from_status(&status))?
        .into_inner();
    let first = inbound.message().await.map_err(|status| from_status(&status))?;
    let opening = match first.and_then(|first| first.message) {
        Some(to_agent::Message::Welcome(welcome)) => welcomed(link, &tail, welcome).await?,
        Some(to_agent::Message::Diverged(told)) => diverged(link, told),
        _ => return Err(unreachable("the coordinator did not answer Hello with Welcome").into()),
    };
    let mut beat = interval(opening.heartbeat);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let now = Instant::now();
    Ok(Session {
        link,
        out,
        inbound,
        standing: opening.standing,
        pending: Pending::after(tail.last.map_or(Seq(0), |(seq, _)| seq)),
        admitting: FuturesOrdered::new(),
        accepted: None,
        withheld: false,
        reports: Reports {
            written: link.parts.journal.reports(),
            sent: opening.acked,
            acked: opening.acked,
            overdue: None,
        },
        told: Told::default(),
        beat,
        gathering: None,
        heard: now,
        began: now,
        progress: link.parts.board.changes(),
        progress_due: Some(now),
        adopted: Vec::new(),
        errand: None,
    })
}

fn hello(link: &Link, tail: &Tail) -> wire::Hello {
    wire::Hello {
        protocol: PROTOCOL,
        host_id: link.parts.host.to_string(),
        journal_id: tail.epoch.journal.to_string(),
        start_count: tail.epoch.start_count,
        last_seq: tail.last.map_or(0, |(seq, _)| seq.0),
        last_seq_event_id: tail.last.map_or_else(String::new, |(_, event)| event.to_string()),
        last_report_seq: tail.last_report.0,
        agent_version: env!("CARGO_PKG_VERSION").into(),
        hostname: link.parts.hostname.clone(),
        observe_only: link.parts.manner == Manner::Observes,
        product_uuid: link.parts.home.product_uuid.clone().unwrap_or_default(),
        doubt: link.parts.journal.doubt().map(Into::into),
    }
}

struct Opening {
    standing: Standing,
    heartbeat: std::time::Duration,
    acked: ReportSeq,
}

async fn welcomed(link: &Link, tail: &Tail, welcome: wire::Welcome) -> Result<Opening, End> {
    let journal = &link.parts.journal;
    if let Some(doubt) = journal.doubt() {
        // An older coordinator does not hear of it.
        return Err(doubt.into());
    }
    let (term, acked) = (Term(welcome.term), ReportSeq(welcome.reports_acked));
    if acked > tail.last_report {
        return Err(Cause::new(
            Reason::Diverged,
            format!("the coordinator has report {acked}, this journal ends at {}", tail.last_report),
        )
        .advise("was this host's disk restored or cloned? Reconcile the host")
        .into());
    }
    let session = journal.welcomed(term, Millis(welcome.now_ms), welcome.hold).await?;
    if session.term != term {
        return Err(Cause::new(
            Reason::TermLost,
            format!(
                "the coordinator claims this host under term {term}, and {} was seen already",
                session.term
            ),
        )
        .advise("make sure that only one coordinator runs")
        .into());
    }
    journal.acknowledge(acked).await?;
    tracing::info!(
        message_id = message::SESSION_UP,
        term = term.0,
        reports_acked = acked.0,
        "connected to the coordinator"
    );
    link.state.send_modify(|state| {
        super::say_hold(state.hold, welcome.hold, "");
        state.phase = Phase::Connected;
        state.term = term;
        state.hold = welcome.hold;
        state.images = Some(ImageServer(welcome.images_url.clone()));
    });
    Ok(Opening { standing: Standing::Welcome(term), heartbeat: seconds(welcome.heartbeat_seconds), acked })
}

fn diverged(link: &Link, told: wire::Diverged) -> Opening {
    let cause = told.cause.map_or_else(
        || Cause::new(Reason::Diverged, "this host's journal does not match the coordinator's log"),
        Cause::from,
    );
    tracing::error!(message_id = message::HOST_DIVERGED, reason = %cause.reason, advice = cause.advice,
        "diverged, nothing is taken: {}", cause.text);
    link.state.send_modify(|state| state.phase = Phase::Diverged(cause));
    Opening {
        standing: Standing::Diverged,
        heartbeat: seconds(HEARTBEAT_SECONDS),
        acked: ReportSeq(u64::MAX),
    }
}

fn seconds(told: u32) -> std::time::Duration {
    std::time::Duration::from_secs(told.clamp(1, 60).into())
}

impl Session<'_> {
    async fn step(&mut self) -> Result<(), End> {
        match self.wake().await {
            Wake::Heard(heard) => {
                self.heard = Instant::now();
                let message = heard.map_err(|status| from_status(&status))?;
                let message = message.ok_or_else(|| unreachable("the coordinator ended the session"))?;
                self.receive(message).await?;
            }
            Wake::Admitted(seq, answer) => self.admitted(seq, answer)?,
            Wake::Place(place) => self.pump(Some(place.ok_or(End::NothingLeft)?)).await?,
            Wake::ReportsWritten => self.send_reports().await?,
            Wake::ReportsOverdue => self.resend_reports().await?,
            Wake::ProgressMade => {
                self.progress_due = Some(Instant::now() + self.link.parts.timing.progress);
            }
            Wake::ProgressDue => {
                self.progress_due = None;
                self.send_progress();
            }
            Wake::Beat => self.gather(),
            Wake::Gathered(facts) => self.beat(facts).await?,
            Wake::ErrandDone(done) => self.errand_done(done).await?,
            Wake::Silent => {
                return Err(unreachable("nothing was heard of the coordinator for too long").into());
            }
            Wake::DivergedForLong => {
                return Err(unreachable("asking again whether this host was reconciled").into());
            }
        }
        self.pump(None).await?;
        self.send_accepted().await?;
        self.send_window().await
    }

    /// Every arm may be dropped at any wait: what it would have given is still there the next time.
    async fn wake(&mut self) -> Wake {
        let timing = &self.link.parts.timing;
        let diverged = self.standing == Standing::Diverged;
        let wants_place = self.wants_place();
        let admitted = &self.link.parts.admitted;
        tokio::select! {
            heard = self.inbound.message() => Wake::Heard(heard),
            Some((seq, answer)) = self.admitting.next() => Wake::Admitted(seq, answer),
            place = admitted.clone().reserve_owned(), if wants_place => Wake::Place(place.ok()),
            Ok(()) = self.reports.written.changed(), if !diverged => Wake::ReportsWritten,
            () = until(self.reports.overdue), if !diverged => Wake::ReportsOverdue,
            Ok(()) = self.progress.changed(), if self.progress_due.is_none() => Wake::ProgressMade,
            () = until(self.progress_due) => Wake::ProgressDue,
            facts = gathered(&mut self.gathering) => Wake::Gathered(facts),
            done = finished(&mut self.errand) => Wake::ErrandDone(done),
            _ = self.beat.tick(), if self.gathering.is_none() => Wake::Beat,
            () = sleep_until(self.heard + timing.silence) => Wake::Silent,
            () = sleep_until(self.began + timing.diverged), if diverged => Wake::DivergedForLong,
        }
    }

    fn gather(&mut self) {
        self.gathering = Some(Box::pin(super::heartbeat::gather(self.link.parts.clone())));
    }

    async fn beat(&mut self, facts: Result<Box<Facts>, JournalError>) -> Result<(), End> {
        self.gathering = None;
        let facts = match facts {
            Ok(facts) => facts,
            Err(JournalError::Closed) => return Err(End::NothingLeft),
            // The heartbeat is the proof that the journal's thread answers: without it, none.
            Err(error) => {
                tracing::error!(%error, "no heartbeat: the journal does not answer");
                return Ok(());
            }
        };
        self.withheld = facts.withheld.is_some();
        self.send_heartbeat(*facts).await
    }
}

async fn until(when: Option<Instant>) {
    match when {
        Some(when) => sleep_until(when).await,
        None => std::future::pending().await,
    }
}

async fn gathered(
    gathering: &mut Option<BoxFuture<'static, Result<Box<Facts>, JournalError>>>,
) -> Result<Box<Facts>, JournalError> {
    match gathering {
        Some(gathering) => gathering.await,
        None => std::future::pending().await,
    }
}
