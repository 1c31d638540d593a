//! Tidings of all domains, over a connection and a thread of their own.
//!
//! ```text
//! connecting --registered, Resync--> up --broken--> connecting
//!     `--failed--> down --backoff--> connecting
//! ```
//!
//! Registered first, then `Resync`: whoever lists on it misses nothing.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use dewpoint_common::message;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;
use tokio::sync::broadcast;
use virt::connect::Connect;

use super::ffi::{self, Listener, Subscription, Tidings};
use super::link::{is_alive, open};
use crate::hypervisor::DomainEvent;

/// Events kept for a slow receiver; one that lags looks at all domains instead.
const KEPT: usize = 1024;
/// Between looks at a connection whose driver does not tell of its end.
const LOOK: Duration = Duration::from_secs(5);
/// The first and the longest wait before connecting again.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// A connect that takes longer is reported.
const PATIENCE: Duration = Duration::from_secs(5);

/// The thread's end of the world outside; dropped: the thread ends.
pub(super) struct Events {
    shared: Arc<Shared>,
}

struct Shared {
    uri: String,
    sender: broadcast::Sender<DomainEvent>,
    state: Mutex<State>,
    woken: Condvar,
}

struct State {
    phase: Phase,
    stop: bool,
    /// Counts connections, so that the end of an old one is not taken for that of the present one.
    broken: u64,
    connection: u64,
    /// That it is down was said already.
    told_down: bool,
}

enum Phase {
    Connecting(Instant),
    Up,
    Down(Cause),
}

impl Events {
    /// Begins the thread; libvirt need not be there.
    ///
    /// # Errors
    /// `INTERNAL` when there can be no thread.
    pub(super) fn begin(uri: &str) -> Result<Self, Cause> {
        let state = State {
            phase: Phase::Connecting(Instant::now()),
            stop: false,
            broken: 0,
            connection: 0,
            told_down: false,
        };
        let shared = Arc::new(Shared {
            uri: uri.to_owned(),
            sender: broadcast::Sender::new(KEPT),
            state: Mutex::new(state),
            woken: Condvar::new(),
        });
        let thread = Arc::clone(&shared);
        thread::Builder::new().name("libvirt-events".to_owned()).spawn(move || thread.run()).map_err(
            |error| Cause::new(Reason::Internal, format!("no thread could be begun for libvirt: {error}")),
        )?;
        Ok(Self { shared })
    }

    /// Changes from now on.
    pub(super) fn subscribe(&self) -> broadcast::Receiver<DomainEvent> {
        self.shared.sender.subscribe()
    }

    /// From now on, nothing that happens is missed.
    #[cfg(test)]
    pub(super) fn is_up(&self) -> bool {
        matches!(self.shared.state().phase, Phase::Up)
    }

    /// What is wrong with libvirt as a whole.
    pub(super) fn degraded(&self) -> Option<Cause> {
        match &self.shared.state().phase {
            Phase::Up => None,
            Phase::Down(cause) => Some(cause.clone()),
            Phase::Connecting(since) => (since.elapsed() > PATIENCE).then(|| {
                let uri = &self.shared.uri;
                Cause::new(Reason::HypervisorDown, format!("libvirt at {uri} does not answer"))
                    .advise("see `systemctl status libvirtd` (or virtqemud) on the host")
            }),
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.shared.state().stop = true;
        self.shared.woken.notify_all();
    }
}

impl Shared {
    fn run(self: &Arc<Self>) {
        let mut backoff = BACKOFF.0;
        while !self.state().stop {
            match self.connected() {
                Ok(()) => backoff = BACKOFF.0,
                Err(cause) => {
                    self.fell(cause);
                    self.wait_stopped(backoff.mul_f64(rand::random_range(0.1..1.0)));
                    backoff = (backoff * 2).min(BACKOFF.1);
                    self.state().phase = Phase::Connecting(Instant::now());
                }
            }
        }
    }

    /// Until the connection breaks or we stop.
    fn connected(self: &Arc<Self>) -> Result<(), Cause> {
        let connect = open(&self.uri)?;
        let _subscription = Subscription::new(&connect, &self.listener())
            .map_err(|error| super::trouble::down(&self.uri, &error))?;
        let number = {
            let mut state = self.state();
            state.connection += 1;
            state.phase = Phase::Up;
            state.told_down = false;
            state.connection
        };
        let told = self.watch_close(&connect, number);
        tracing::info!(message_id = message::LIBVIRT_UP, uri = self.uri, "libvirt answers");
        self.send(DomainEvent::Resync);
        self.wait_broken(&connect, number);
        if told {
            ffi::forget_close(&connect);
        }
        let mut state = self.state();
        state.phase = Phase::Connecting(Instant::now());
        if !state.stop {
            state.told_down = true;
            tracing::warn!(message_id = message::LIBVIRT_DOWN, reason = %Reason::HypervisorDown,
                "the connection with libvirt broke; connecting again");
        }
        Ok(())
    }

    /// libvirt cannot be reached: said once, until it can.
    fn fell(&self, cause: Cause) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.told_down, true) {
            tracing::warn!(message_id = message::LIBVIRT_DOWN, reason = %cause.reason, advice = cause.advice,
                "libvirt does not answer: {}", cause.text);
        }
        state.phase = Phase::Down(cause);
    }

    fn watch_close(self: &Arc<Self>, connect: &Connect, number: u64) -> bool {
        let shared = Arc::downgrade(self);
        ffi::on_close(
            connect,
            Box::new(move || {
                if let Some(shared) = shared.upgrade() {
                    shared.state().broken = number;
                    shared.woken.notify_all();
                }
            }),
        )
    }

    fn listener(self: &Arc<Self>) -> Listener {
        let shared = Arc::downgrade(self);
        Arc::new(move |uuid, tidings| {
            if let Some(shared) = shared.upgrade() {
                shared.send(DomainEvent::Changed(VmId(uuid), words(tidings)));
            }
        })
    }

    fn send(&self, event: DomainEvent) {
        // Nobody listening is no error: whoever comes later lists first.
        drop(self.sender.send(event));
    }

    fn wait_broken(&self, connect: &Connect, number: u64) {
        let mut state = self.state();
        while !state.stop && state.broken < number {
            let (woken, timeout) =
                self.woken.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            if timeout.timed_out() && !is_alive(connect) {
                return;
            }
        }
    }

    fn wait_stopped(&self, span: Duration) {
        let state = self.state();
        drop(self.woken.wait_timeout_while(state, span, |state| !state.stop));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn words(tidings: Tidings) -> String {
    match tidings {
        Tidings::Lifecycle(event, detail) => lifecycle(event, detail),
        Tidings::Reboot => "reboot".to_owned(),
        Tidings::IoError => "io-error".to_owned(),
        Tidings::ControlError => "control-error".to_owned(),
        Tidings::JobCompleted => "job-completed".to_owned(),
        Tidings::Metadata => "metadata".to_owned(),
        Tidings::Agent => "guest-agent".to_owned(),
    }
}

/// In the order of `virDomainEventType` and of its details.
fn lifecycle(event: i32, detail: i32) -> String {
    let (name, details): (&str, &[&str]) = match event {
        0 => ("defined", &["added", "updated", "renamed", "from-snapshot"]),
        1 => ("undefined", &["removed", "renamed"]),
        2 => ("started", &["booted", "migrated", "restored", "from-snapshot", "wakeup"]),
        3 => (
            "suspended",
            &["paused", "migrated", "ioerror", "watchdog", "restored", "from-snapshot", "api-error"],
        ),
        4 => ("resumed", &["unpaused", "migrated", "from-snapshot"]),
        5 => {
            ("stopped", &["shutdown", "destroyed", "crashed", "migrated", "saved", "failed", "from-snapshot"])
        }
        6 => ("shutdown", &["finished", "guest", "host"]),
        7 => ("pmsuspended", &["memory", "disk"]),
        8 => ("crashed", &["panicked", "crashloaded"]),
        other => return format!("lifecycle {other}/{detail}"),
    };
    let detail = usize::try_from(detail)
        .ok()
        .and_then(|index| details.get(index))
        .map_or_else(|| detail.to_string(), |known| (*known).to_owned());
    format!("{name}/{detail}")
}
