//! The parts, made in the order in which they need each other, and set running.

use std::sync::Arc;

use dewpoint_common::{message, systemd, telemetry};
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::HostId;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::local::local_server::LocalServer;
use futures::future::BoxFuture;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server as GrpcServer;

use super::Ended;
use super::adopt::Adoption;
use super::elsewhere::Elsewhere;
use super::heart::Heart;
use super::inventory::Host;
use super::live::Daemon;
use super::mender::Mender;
use super::open;
use super::sweep::Sweep;
use super::upkeep::Upkeep;
use super::words::Words;
use crate::config::{Config, Manner};
use crate::execute::apply::Effects;
use crate::execute::executor::{self, Executor};
use crate::execute::keep::board::Board;
use crate::execute::settings::Settings;
use crate::hypervisor::Hypervisor;
use crate::identity::{self, DataLock, Home};
use crate::journal::{Journal, Journaled};
use crate::link::dial::{Coordinator, Plaintext};
use crate::link::{self, Link};
use crate::local::cli::RunArgs;
use crate::local::service::LocalService;
use crate::notes::{self, Notes, Recorded};
use crate::report::Inventory;
use crate::report::progress::ProgressBoard;
use crate::storage::Files;

/// Accepted events on their way to the executor; a VM has at most one unfinished event and what supersedes it.
const ADMITTED: usize = 2 * dewpoint_proto::limits::VMS_PER_HOST as usize;

/// All parts, not yet running.
pub(super) struct Parts {
    /// None: the agent only observes.
    executor: Option<Executor>,
    pub(super) hypervisor: Arc<dyn Hypervisor>,
    heart: Heart,
    accepted: mpsc::Receiver<Journaled>,
    words: Words,
    link: Option<Link>,
    local: LocalService,
    listener: UnixListener,
    kept_up: KeptUp,
    lock: DataLock,
}

/// What is done now and then.
struct KeptUp {
    upkeep: Upkeep,
    /// None: the agent only observes.
    adoption: Option<Adoption>,
    /// None: likewise.
    elsewhere: Option<Elsewhere>,
    sweep: Sweep,
}

/// What all parts stand on.
struct Ground {
    lock: DataLock,
    home: Home,
    host: HostId,
    journal: Journal,
    /// As the journal has it from the last session.
    held: bool,
    files: Files,
    effects: Effects,
    /// Records what libvirt tells of VMs.
    listen: BoxFuture<'static, ()>,
}

impl Ground {
    async fn lay(config: &Config) -> Result<Self, Cause> {
        let lock = take_data_dir(config)?;
        let (home, host) = home(config)?;
        speak_as(host);
        let journal = open::open_journal(config)?;
        let held = journal.tail().await.map_err(Cause::from)?.session.hold;
        let files = open::open_files(config, host)?;
        let notes = open_notes(config, &journal);
        let effects = recorded(open::effects(config, &files)?, &notes);
        let listen = Box::pin(notes.listen(effects.hypervisor.events()));
        Ok(Self { lock, home, host, journal, held, files, effects, listen })
    }
}

impl Parts {
    /// Makes all parts; nothing runs yet but the threads that they own.
    pub(super) async fn build(config: Config, args: &RunArgs) -> Result<Self, Cause> {
        let (coordinator, manner) = (coordinator(&config, args)?, config.manner());
        let Ground { lock, home, host, journal, held, files, effects, listen } = Ground::lay(&config).await?;
        let adoption = (manner == Manner::Acts).then(|| adoption(&journal, &effects));
        let told = watch::Sender::new(Vec::new());
        let (board, keeping) = (ProgressBoard::default(), Board::default());
        let inventory = inventory(&journal, &effects, &told, &keeping);
        let elsewhere = (manner == Manner::Acts).then(|| elsewhere(&config, &journal, &effects, told));
        let (admitted, accepted) = mpsc::channel(ADMITTED);
        let link = coordinator.map(|coordinator| {
            let parts = link::Parts {
                host,
                hostname: hostname(),
                dial: Arc::new(coordinator),
                journal: journal.clone(),
                admitted: admitted.clone(),
                manner,
                inventory: Arc::clone(&inventory),
                board: board.clone(),
                keeping: keeping.clone(),
                timing: link::Timing::default().within(config.link.silence.0, config.link.reconnect_most.0),
                home,
            };
            Link::new(parts, held)
        });
        let state = link.as_ref().map(Link::state);
        let (words, session) = (Words::new(state.clone(), held), state.clone());
        let (server, hold) = (words.server(), words.hold());
        let mender = Mender::new(&config, host, (&effects, &files), &journal);
        let sweep = Sweep::new(mender.eyes.clone());
        let live = Daemon {
            swept: sweep.found(),
            coordinator: config.coordinator.clone(),
            started: Millis::now(),
            link: state,
            hold: hold.clone(),
            inventory: Arc::clone(&inventory),
        };
        let settings = settings(&config);
        let files = (manner == Manner::Acts).then_some(files);
        let upkeep = Upkeep { journal: journal.clone(), files, listen };
        let hypervisor = Arc::clone(&effects.hypervisor);
        let executor = (manner == Manner::Acts).then(|| {
            let (journal, board, keeping) = (journal.clone(), board.clone(), keeping.clone());
            Executor::new(executor::Parts { journal, effects, settings, server, hold, board, keeping })
        });
        let heart = Heart::new(executor.clone(), journal.clone(), inventory, session);
        let mend = Arc::new(mender.with(executor.clone()));
        let local = LocalService { journal, admitted, board, keeping, live: Arc::new(live), mend };
        let listener = dewpoint_common::socket::bind(&config.socket)?;
        let kept_up = KeptUp { upkeep, adoption, elsewhere, sweep };
        Ok(Self { executor, hypervisor, heart, accepted, words, link, local, listener, kept_up, lock })
    }

    /// The journal.
    pub(super) fn journal(&self) -> Journal {
        self.local.journal.clone()
    }

    /// Goes on with what was half done. An agent that only observes leaves it as it is.
    pub(super) async fn go_on(&self) -> Result<(), Cause> {
        let Some(executor) = &self.executor else {
            tracing::warn!("this agent only observes: it reports, refuses every event, and touches nothing");
            return Ok(());
        };
        if let Some(elsewhere) = &self.kept_up.elsewhere {
            elsewhere.refuse_without_folders().await?;
        }
        for event in executor.recover().await.map_err(Cause::from)? {
            tracing::error!(event_id = %event.event, vm_id = %event.vm, kind = event.kind,
                reason = %event.cause.reason, advice = event.cause.advice, "parked: {}", event.cause.text);
        }
        Ok(())
    }

    /// Sets every part running, each under its name; they end when `stop` says so.
    pub(super) fn spawn(self, tasks: &mut JoinSet<Ended>, stop: &CancellationToken) {
        let Self { executor, heart, accepted, words, link, local, listener, kept_up, lock, .. } = self;
        let KeptUp { upkeep, adoption, elsewhere, sweep } = kept_up;
        let told = stop.clone();
        tasks.spawn(async move { ("the watchdog", beaten(heart, told).await) });
        let told = stop.clone();
        tasks.spawn(async move {
            match executor {
                Some(executor) => executor.run(accepted, told).await,
                // Nothing is accepted, but its end of the channel stays open for the link.
                None => told.cancelled().await,
            }
            // The data folder is given back last: by then no lane writes to it.
            drop(lock);
            ("the executor", Ok(()))
        });
        if let Some(link) = link {
            let told = stop.clone();
            tasks.spawn(async move { ("the link", link.run(told).await) });
        }
        let told = stop.clone();
        tasks.spawn(async move { ("the local socket", serve(local, listener, told).await) });
        let told = stop.clone();
        tasks.spawn(async move {
            tokio::select! {
                () = told.cancelled() => {}
                () = words.pass_on() => {}
                () = upkeep.run() => {}
                () = adopted(adoption) => {}
                () = looked_for(elsewhere) => {}
                () = sweep.run() => {}
            }
            ("the upkeep", Ok(()))
        });
    }
}

/// Until the drain begins: from then on the executor's loop answers nobody.
async fn beaten(heart: Heart, stop: CancellationToken) -> Result<(), Cause> {
    let beats = systemd::watch(&heart, systemd::between_beats(), systemd::tell);
    tokio::select! { () = stop.cancelled() => {}, () = beats => {} }
    Ok(())
}

async fn looked_for(elsewhere: Option<Elsewhere>) {
    match elsewhere {
        Some(elsewhere) => elsewhere.run().await,
        None => std::future::pending().await,
    }
}

async fn adopted(adoption: Option<Adoption>) {
    match adoption {
        Some(adoption) => adoption.run().await,
        None => std::future::pending().await,
    }
}

async fn serve(local: LocalService, listener: UnixListener, stop: CancellationToken) -> Result<(), Cause> {
    GrpcServer::builder()
        .concurrency_limit_per_connection(16)
        .add_service(LocalServer::new(local))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.cancelled_owned())
        .await
        .map_err(|error| Cause::new(Reason::Internal, error.to_string()))
}

fn coordinator(config: &Config, args: &RunArgs) -> Result<Option<Coordinator>, Cause> {
    let plaintext = if args.insecure { Plaintext::Anywhere } else { Plaintext::Local };
    config.coordinator.as_deref().map(|url| Coordinator::parse(url, plaintext)).transpose()
}

fn take_data_dir(config: &Config) -> Result<DataLock, Cause> {
    std::fs::create_dir_all(&config.data_dir).map_err(|error| {
        Cause::new(Reason::StorageError, format!("{} cannot be made: {error}", config.data_dir.display()))
            .advise("check `data_dir` in the configuration")
    })?;
    identity::lock(&config.data_dir)
}

/// Where the host's id is kept, and the id.
fn home(config: &Config) -> Result<(Home, HostId), Cause> {
    let home = Home { data_dir: config.data_dir.clone(), product_uuid: identity::product_uuid() };
    let host = identity::read_or_make(&home.data_dir, home.product_uuid.clone())?.host_id;
    Ok((home, host))
}

fn inventory(
    journal: &Journal,
    effects: &Effects,
    told: &watch::Sender<Vec<Cause>>,
    keeping: &Board,
) -> Arc<dyn Inventory> {
    Arc::new(Host::new(journal.clone(), effects, told.subscribe(), keeping.clone()))
}

fn adoption(journal: &Journal, effects: &Effects) -> Adoption {
    let (hypervisor, storage) = (Arc::clone(&effects.hypervisor), Arc::clone(&effects.storage));
    Adoption { journal: journal.clone(), hypervisor, storage }
}

fn elsewhere(
    config: &Config,
    journal: &Journal,
    effects: &Effects,
    told: watch::Sender<Vec<Cause>>,
) -> Elsewhere {
    let (hypervisor, storage) = (Arc::clone(&effects.hypervisor), Arc::clone(&effects.storage));
    Elsewhere { data_dir: config.data_dir.clone(), journal: journal.clone(), hypervisor, storage, told }
}

fn open_notes(config: &Config, journal: &Journal) -> Notes {
    let path = config.data_dir.join("notes.db");
    let notes = Notes::open(&path, journal.withheld(), notes::Bounds::default());
    notes.started(Millis::now(), env!("CARGO_PKG_VERSION"));
    notes
}

fn speak_as(host: HostId) {
    telemetry::speak_for_host(host);
    let version = env!("CARGO_PKG_VERSION");
    tracing::info!(message_id = message::STARTED, version, "starting as host {host}");
}

/// With every call to libvirt in the notes.
fn recorded(effects: Effects, notes: &Notes) -> Effects {
    let hypervisor = Arc::new(Recorded::new(effects.hypervisor, notes.clone()));
    Effects { hypervisor, ..effects }
}

fn settings(config: &Config) -> Settings {
    let execute = &config.execute;
    Settings {
        keep: open::keep_bounds(config),
        guest_timeout: execute.guest_timeout.0,
        builds: usize::from(execute.builds),
        ..Settings::with_bridge(config.network.bridge.clone())
    }
}

fn hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}
