//! The session with the coordinator: dial, hello, receive, report, back off.
//!
//! Owns: the one live stream, and nothing that must survive it. Never: acknowledges what the journal has not written,
//! executes anything, or listens on a port.
//!
//! ```text
//! dial ──▶ hello ──▶ welcome ──▶ in session ──┐
//!   ▲        └─────▶ diverged ──▶ waits ──────┤
//!   └──────────── backs off ◀─────────────────┘
//! ```
//!
//! A delivery waits in `pending` until the executor has room for it, goes through the journal in the order of seq,
//! and is acknowledged when it is on disk. The journal itself hands it to the executor, so that what it accepts while a
//! connection breaks is executed all the same.

pub mod backoff;
pub mod dial;
#[cfg(test)]
mod fake;
mod heartbeat;
#[cfg(test)]
mod hostile;
mod pending;
mod receive;
mod reconcile;
mod session;
mod tell;

use std::sync::Arc;
use std::time::Duration;

use dewpoint_common::message;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{HostId, Term};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Manner;
use crate::execute::keep::board::Board;
use crate::identity::Home;
use crate::journal::{Admitted, Journal};
use crate::report::Inventory;
use crate::report::progress::ProgressBoard;
use crate::storage::ImageServer;
use dial::Dial;
use session::End;

/// What the link is made of.
#[derive(Clone)]
pub struct Parts {
    /// Who this host is.
    pub host: HostId,
    /// For people; never an identity.
    pub hostname: String,
    /// How the coordinator is reached.
    pub dial: Arc<dyn Dial>,
    /// Where deliveries are written and reports come from.
    pub journal: Journal,
    /// Where accepted events go.
    pub admitted: Admitted,
    /// Told with Hello and with every heartbeat.
    pub manner: Manner,
    /// What the host has.
    pub inventory: Arc<dyn Inventory>,
    /// Where running events stand.
    pub board: ProgressBoard,
    /// Which VMs wait for the coordinator's word, and where it goes.
    pub keeping: Board,
    /// Bounds.
    pub timing: Timing,
    /// Where the host's id is kept, and on what machine.
    pub home: Home,
}

/// How long the link waits, for what.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// From dialling to Welcome.
    pub handshake: Duration,
    /// For the coordinator to take one message.
    pub send: Duration,
    /// For the journal to answer.
    pub journal: Duration,
    /// For each part of the inventory.
    pub inventory: Duration,
    /// Nothing heard for so long: the session is dead.
    pub silence: Duration,
    /// A sent report is sent again when unacknowledged for so long.
    pub reports: Duration,
    /// Between two looks at the progress board, at least.
    pub progress: Duration,
    /// A diverged session is given up after so long, to see whether the host was reconciled.
    pub diverged: Duration,
    /// Of the backoff.
    pub backoff: backoff::Bounds,
    /// A session that lasted so long starts the backoff anew.
    pub steady: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(15),
            send: Duration::from_secs(10),
            journal: Duration::from_secs(30),
            inventory: Duration::from_secs(5),
            silence: Duration::from_secs(45),
            reports: Duration::from_secs(30),
            progress: Duration::from_millis(250),
            diverged: Duration::from_secs(60),
            backoff: backoff::Bounds::default(),
            steady: Duration::from_secs(10),
        }
    }
}

impl Timing {
    /// With the bounds that a configuration sets.
    #[must_use]
    pub fn within(self, silence: Duration, reconnect_most: Duration) -> Self {
        let backoff = backoff::Bounds { most: reconnect_most, ..self.backoff };
        Self { silence, backoff, ..self }
    }
}

/// How the link stands, for status and for those who act on hold and on the image server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkState {
    /// Whether there is a session.
    pub phase: Phase,
    /// Of the newest Welcome ever; 0: none.
    pub term: Term,
    /// Held by an operator: no new steps. Kept while there is no session.
    pub hold: bool,
    /// Why it is held; empty: not said.
    pub hold_reason: String,
    /// Where images are; none: no Welcome in this run of the agent yet.
    pub images: Option<ImageServer>,
}

/// Whether there is a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not yet, or not now; with why the last one ended.
    Apart(Option<Cause>),
    /// Welcomed.
    Connected,
    /// The two logs do not match: nothing is taken until a person has reconciled the host.
    Diverged(Cause),
}

/// The link. Runs until it is stopped.
pub struct Link {
    parts: Parts,
    state: watch::Sender<LinkState>,
}

impl Link {
    /// Dials nothing yet. `held`: as the journal has it from the last session.
    #[must_use]
    pub fn new(parts: Parts, held: bool) -> Self {
        let state = LinkState {
            phase: Phase::Apart(None),
            term: Term(0),
            hold: held,
            hold_reason: String::new(),
            images: None,
        };
        Self { parts, state: watch::Sender::new(state) }
    }

    /// How it stands, now and from now on.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<LinkState> {
        self.state.subscribe()
    }

    /// Keeps a session up until `stop`, or until journal or executor are gone.
    ///
    /// # Errors
    /// When the host has another id now, and the agent has to start again.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Cause> {
        let ended = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            ended = self.keep_up() => ended,
        };
        self.apart(Some(Cause::new(Reason::Unreachable, "the agent stops")));
        ended
    }

    async fn keep_up(&self) -> Result<(), Cause> {
        let mut attempt = 0;
        let mut said = None;
        loop {
            let since = Instant::now();
            let end = session::run(self).await;
            match end {
                End::NothingLeft => return Ok(()),
                End::Renamed(_) => return Err(end.into_cause()),
                End::Because(_) => {}
            }
            let cause = end.into_cause();
            let was_in_session = !matches!(self.state.borrow().phase, Phase::Apart(_));
            say_apart(&cause, was_in_session || said.as_ref() != Some(&cause.reason));
            said = Some(cause.reason.clone());
            self.apart(Some(cause));
            attempt = if since.elapsed() >= self.parts.timing.steady { 0 } else { attempt + 1 };
            let wait = backoff::full_jitter(self.parts.timing.backoff, attempt, rand::random());
            tokio::time::sleep(wait).await;
        }
    }

    fn apart(&self, why: Option<Cause>) {
        self.state.send_modify(|state| state.phase = Phase::Apart(why));
    }
}

/// Once for each session that ended, and for each new reason why there is none: not for each try.
fn say_apart(cause: &Cause, is_news: bool) {
    let (reason, advice) = (&cause.reason, &cause.advice);
    if is_news {
        tracing::warn!(message_id = message::SESSION_DOWN, %reason, advice, "apart from the coordinator: {}", cause.text);
    } else {
        tracing::debug!(%reason, "still apart from the coordinator: {}", cause.text);
    }
}

fn say_hold(was: bool, is: bool, why: &str) {
    match (was, is) {
        (false, true) => {
            tracing::warn!(message_id = message::HELD, why, "an operator holds this host: no new steps")
        }
        (true, false) => tracing::warn!(message_id = message::RELEASED, "the host is no longer held"),
        _ => {}
    }
}

#[cfg(test)]
mod apart;
#[cfg(test)]
mod tests;
