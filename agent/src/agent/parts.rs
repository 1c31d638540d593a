//! The parts, made in the order in which they need each other, and set running.

use std::sync::Arc;
use std::time::Duration;

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
use super::upkeep::Upkeep;
use super::words::Words;
use crate::clock::SystemClock;
use crate::config::{Config, Manner};
use crate::execute::apply::Effects;
use crate::execute::executor::{self, Executor};
use crate::execute::keep;
use crate::execute::keep::board::Board;
use crate::execute::settings::Settings;
use crate::hypervisor::Hypervisor;
use crate::hypervisor::libvirt::{self, Libvirt};
use crate::identity::{self, DataLock, Home};
use crate::intake;
use crate::journal::moment::BootId;
use crate::journal::{self, Journal, Journaled};
use crate::link::dial::{Coordinator, Plaintext};
use crate::link::{self, Link};
use crate::local::cli::RunArgs;
use crate::local::commands::expects;
use crate::local::service::LocalService;
use crate::local::socket;
use crate::network::nft::{Nft, NftSettings};
use crate::notes::{self, Notes, Recorded};
use crate::report::Inventory;
use crate::report::progress::ProgressBoard;
use crate::storage::{self, Files};

/// Accepted events on their way to the executor; a VM has at most one unfinished event and what supersedes it.
const ADMITTED: usize = 2 * dewpoint_proto::limits::VMS_PER_HOST as usize;
/// How long an event's bytes, which hold user-data, are kept after its end.
const KEEP_BODIES: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long a finished event may be asked for again.
const KEEP_EVENTS: Duration = Duration::from_secs(30 * 24 * 3600);

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
    upkeep: Upkeep,
    /// None: the agent only observes.
    adoption: Option<Adoption>,
    /// None: likewise.
    elsewhere: Option<Elsewhere>,
    lock: DataLock,
}

/// libvirt as configured; also for commands that only look.
///
/// # Errors
/// `INVALID` for what the configuration says of CPUs; `INTERNAL` when there can be no thread.
pub fn libvirt(config: &Config) -> Result<Libvirt, Cause> {
    let hypervisor = &config.hypervisor;
    Libvirt::new(libvirt::Settings {
        uri: hypervisor.uri.clone(),
        virt_type: hypervisor.virt_type,
        machine: hypervisor.machine.clone(),
        cpu: hypervisor.cpu_mode.parse()?,
        ..libvirt::Settings::default()
    })
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
        let journal = open_journal(config)?;
        let held = journal.tail().await.map_err(Cause::from)?.session.hold;
        let files = open_files(config, host)?;
        let notes = open_notes(config, &journal);
        let effects = effects(config, &files, &notes)?;
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
        let live = Daemon {
            coordinator: config.coordinator.clone(),
            started: Millis::now(),
            link: state,
            hold: hold.clone(),
            inventory: Arc::clone(&inventory),
        };
        let settings = settings(&config);
        let files = (manner == Manner::Acts).then_some(files);
        let upkeep = Upkeep { journal: journal.clone(), files, listen };
        let local =
            LocalService { journal: journal.clone(), admitted, board: board.clone(), live: Arc::new(live) };
        let (proven, hypervisor) = (journal.clone(), Arc::clone(&effects.hypervisor));
        let parts = executor::Parts { journal, effects, settings, server, hold, board, keeping };
        let executor = (manner == Manner::Acts).then(|| Executor::new(parts));
        let heart = Heart::new(executor.clone(), proven, inventory, session);
        let listener = socket::bind(&config.socket)?;
        Ok(Self {
            executor,
            hypervisor,
            heart,
            accepted,
            words,
            link,
            local,
            listener,
            upkeep,
            adoption,
            elsewhere,
            lock,
        })
    }

    /// Goes on with what was half done. An agent that only observes leaves it as it is.
    pub(super) async fn go_on(&self) -> Result<(), Cause> {
        let Some(executor) = &self.executor else {
            tracing::warn!("this agent only observes: it reports, refuses every event, and touches nothing");
            return Ok(());
        };
        if let Some(elsewhere) = &self.elsewhere {
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
        let Self {
            executor,
            heart,
            accepted,
            words,
            link,
            local,
            listener,
            upkeep,
            adoption,
            elsewhere,
            lock,
            ..
        } = self;
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

fn open_journal(config: &Config) -> Result<Journal, Cause> {
    let boot = BootId::read().map_err(|error| {
        Cause::new(Reason::Internal, format!("the kernel does not tell its boot id: {error}"))
            .advise("mount /proc; the agent tells boots apart by it")
    })?;
    let settings = journal::Settings {
        clock: Arc::new(SystemClock),
        boot,
        judge: match config.manner() {
            Manner::Acts => intake::judge,
            Manner::Observes => intake::judge_observing,
        },
        expects: expects(&config.data_dir),
        keep_bodies: KEEP_BODIES,
        keep_events: KEEP_EVENTS,
    };
    Journal::open(&config.data_dir.join("agent.db"), settings).map_err(Cause::from)
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

fn open_files(config: &Config, host: HostId) -> Result<Files, Cause> {
    let settings = storage::Settings {
        group: config.storage.group.clone(),
        recycle_for: config.storage.recycle_time.0,
        recycle_bytes: config.storage.recycle_budget.0,
        image_bytes: config.storage.image_budget.0,
        reserve_bytes: config.storage.reserve.0,
        ..storage::Settings::new(config.data_dir.clone(), host)
    };
    match config.manner() {
        Manner::Acts => Files::open(settings, Arc::new(SystemClock)),
        Manner::Observes => Ok(Files::observing(settings, Arc::new(SystemClock))),
    }
}

fn effects(config: &Config, files: &Files, notes: &Notes) -> Result<Effects, Cause> {
    Ok(Effects {
        hypervisor: Arc::new(Recorded::new(Arc::new(libvirt(config)?), notes.clone())),
        storage: Arc::new(files.clone()),
        shield: Arc::new(Nft::new(NftSettings {
            table: config.network.nft_table.clone(),
            ..NftSettings::default()
        })),
    })
}

fn settings(config: &Config) -> Settings {
    let execute = &config.execute;
    Settings {
        keep: keep::Bounds {
            limit: u32::from(execute.restart_limit),
            backoff_first: execute.restart_backoff.0,
            steady: execute.restart_steady.0,
            starts: usize::from(execute.starts),
            ..keep::Bounds::default()
        },
        guest_timeout: config.execute.guest_timeout.0,
        builds: usize::from(config.execute.builds),
        ..Settings::with_bridge(config.network.bridge.clone())
    }
}

fn hostname() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}
