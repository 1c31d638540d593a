//! A host and its agent: the host's world and the journal's file outlive the agent, which runs on a runtime of its own
//! so that it can be dropped whole, as SIGKILL would.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dewpoint_agent::clock::SystemClock;
use dewpoint_agent::execute::apply::Effects;
use dewpoint_agent::execute::executor::{Executor, Parts};
use dewpoint_agent::execute::keep;
use dewpoint_agent::execute::keep::board::Board;
use dewpoint_agent::execute::plan::Server;
use dewpoint_agent::execute::settings::Settings;
use dewpoint_agent::hypervisor::fake::FakeHypervisor;
use dewpoint_agent::hypervisor::fake::world::{Content, World};
use dewpoint_agent::intake::judge;
use dewpoint_agent::journal::moment::BootId;
use dewpoint_agent::journal::{self, Admission, Delivery, Journal, Journaled, Origin, Payload};
use dewpoint_agent::network::fake::FakeShield;
use dewpoint_agent::notes::{self, Notes, Recorded};
use dewpoint_agent::report::progress::ProgressBoard;
use dewpoint_agent::storage::ImageServer;
use dewpoint_agent::storage::fake::{FakeStorage, image_of};
use dewpoint_proto::event::{Body, Create, Event, InitialPower, Kind};
use dewpoint_proto::ids::{EventId, Generation, ReportSeq, Seq, Term, VmId};
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::{DiskMode, ImageDigest, ImageRef, Nic, Placement, Restart, VmSpec};
use dewpoint_proto::time::Millis;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::folder;

/// Longer than any schedule takes on a busy machine; a test that gets here has hung.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A host, and the agent on it while it lives.
pub(crate) struct Rig {
    pub(crate) world: World,
    dir: tempfile::TempDir,
    agent: Option<Agent>,
    server: watch::Sender<Server>,
    pub(crate) hold: watch::Sender<bool>,
    pub(crate) board: ProgressBoard,
    pub(crate) keeping: Board,
    boot: u128,
    last_seq: Seq,
    generation: Generation,
    last: Option<Delivery>,
    /// Kept for `why` only where a test reads them: thousands of agents need none.
    keeps_notes: bool,
    /// How long libvirt may take to tell of what is seen.
    settle: Duration,
}

struct Agent {
    runtime: Runtime,
    journal: Journal,
    admitted: mpsc::Sender<Journaled>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<()>,
}

impl Rig {
    /// Restarts by policy before a VM is left off.
    pub(crate) const RESTARTS: u32 = 4;
    /// VMs that are started at once.
    pub(crate) const STARTS: usize = 2;

    /// A host with an image on its server, and an agent.
    pub(crate) fn new() -> Self {
        // Shown when a test fails; whoever came first has set it up.
        let _ = tracing_subscriber::fmt().with_test_writer().with_max_level(tracing::Level::ERROR).try_init();
        let world = World::default();
        world.change(|state| {
            for n in [1, 2] {
                let content = Content::Image(ImageDigest([n; 32]));
                state.server.insert(image(n).digest, content);
            }
        });
        let mut rig = Self {
            world,
            dir: folder::fresh(),
            agent: None,
            server: watch::Sender::new(Server::At(ImageServer("http://images".to_owned()))),
            hold: watch::Sender::new(false),
            board: ProgressBoard::default(),
            keeping: Board::default(),
            boot: 7,
            last_seq: Seq(0),
            generation: Generation(0),
            last: None,
            keeps_notes: false,
            settle: Duration::from_millis(1),
        };
        rig.start();
        rig
    }

    /// A host whose agents record what they do.
    pub(crate) fn with_notes() -> Self {
        let mut rig = Self::new();
        rig.kill();
        rig.keeps_notes = true;
        rig.start();
        rig
    }

    /// From the next agent on, which is started, an end is given so long to be told of.
    pub(crate) fn is_told_within(&mut self, settle: Duration) {
        self.kill();
        self.settle = settle;
        self.start();
    }

    /// Where journal and notes are.
    pub(crate) fn data(&self) -> &Path {
        self.dir.path()
    }

    /// Starts the agent: opens the journal, goes on with what is unfinished.
    pub(crate) fn start(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let journal = self.open();
        let notes = if self.keeps_notes {
            Notes::open(&self.dir.path().join("notes.db"), journal.withheld(), notes::Bounds::default())
        } else {
            Notes::none()
        };
        notes.started(Millis::now(), "0.1.0");
        let fake = Arc::new(FakeHypervisor::new(self.world.clone()));
        self.keeping = Board::default();
        let effects = Effects {
            hypervisor: Arc::new(Recorded::new(fake, notes)),
            storage: Arc::new(FakeStorage::new(self.world.clone())),
            shield: Arc::new(FakeShield::new(self.world.clone())),
        };
        let executor = Executor::new(Parts {
            journal: journal.clone(),
            effects,
            settings: quick(self.settle),
            server: self.server.subscribe(),
            hold: self.hold.subscribe(),
            board: self.board.clone(),
            keeping: self.keeping.clone(),
        });
        let (admitted, receiver) = mpsc::channel(8);
        let stop = CancellationToken::new();
        let stopping = stop.clone();
        let parked = runtime.block_on(executor.recover()).expect("the journal is read");
        assert!(parked.is_empty(), "parked: {parked:?}");
        let running = runtime.spawn(async move { executor.run(receiver, stopping).await });
        self.agent = Some(Agent { runtime, journal, admitted, stop, running });
    }

    /// Drops the agent where it stands. What it asked for before is on the host; what it asks from now on is not.
    pub(crate) fn kill(&mut self) {
        if let Some(Agent { runtime, journal, .. }) = self.agent.take() {
            runtime.shutdown_timeout(PATIENCE);
            close(journal);
        }
        self.world.fuse().mend();
    }

    /// The host loses its power: the agent, every VM and the anti-spoofing rules are gone, and it boots.
    pub(crate) fn goes_down(&mut self) {
        self.kill();
        self.boot += 1;
        self.world.change(|state| {
            let vms: Vec<_> = state.domains.keys().copied().collect();
            vms.into_iter().for_each(|vm| state.power_off(vm, "shutoff/unknown"));
            state.rules.clear();
        });
    }

    /// The same, and the agent is started.
    pub(crate) fn boot(&mut self) {
        self.goes_down();
        self.start();
    }

    /// Asks the agent to finish the step in hand and stop, and waits for nothing.
    pub(crate) fn told_to_stop(&self) {
        self.agent.as_ref().expect("the agent lives").stop.cancel();
    }

    /// Asks the agent to finish the step in hand and stop.
    pub(crate) fn drain(&mut self) {
        let Some(Agent { runtime, journal, stop, running, .. }) = self.agent.take() else { return };
        stop.cancel();
        runtime
            .block_on(async { tokio::time::timeout(PATIENCE, running).await })
            .expect("it drains")
            .expect("well");
        runtime.shutdown_timeout(PATIENCE);
        close(journal);
    }

    /// Delivers an event to the journal, and hands it to the executor if the agent lives.
    pub(crate) fn send(&mut self, vm: VmId, kind: Kind) -> EventId {
        self.send_until(vm, kind, None)
    }

    /// The same, with a deadline.
    pub(crate) fn send_until(&mut self, vm: VmId, kind: Kind, not_after: Option<Millis>) -> EventId {
        match self.offer_until(vm, kind, not_after) {
            Admission::New(event) => event.id(),
            admission => panic!("not taken: {admission:?}"),
        }
    }

    /// Delivers an event that may be refused.
    pub(crate) fn offer(&mut self, vm: VmId, kind: Kind) -> Admission {
        self.offer_until(vm, kind, None)
    }

    fn offer_until(&mut self, vm: VmId, kind: Kind, not_after: Option<Millis>) -> Admission {
        self.generation = self.generation.next();
        self.last_seq = self.last_seq.next();
        let event = Event {
            id: EventId::fresh(),
            vm,
            accepted_at: Millis::now(),
            not_after,
            retry_of: None,
            note: String::new(),
            kind,
        };
        let origin = Origin::Delivered { seq: self.last_seq, term: Term(1), generation: self.generation };
        let body = Body::encode(event).expect("it fits");
        self.last = Some(Delivery { origin, payload: Payload::Event(body) });
        self.again()
    }

    /// Delivers the last event again.
    pub(crate) fn again(&self) -> Admission {
        let delivery = self.last.clone().expect("an event");
        let Some(agent) = &self.agent else {
            let journal = self.open();
            let admission = alone().block_on(journal.admit(delivery)).expect("the journal answers");
            close(journal);
            return admission;
        };
        agent.runtime.block_on(async {
            let admission = agent.journal.admit(delivery).await.expect("the journal answers");
            if let Admission::New(event) = &admission {
                agent.admitted.send(event.clone()).await.expect("the executor lives");
            }
            admission
        })
    }

    /// Waits until an event has ended.
    pub(crate) fn ended(&self, event: EventId) -> Outcome {
        self.wait(event, false).unwrap_or_else(|| panic!("the agent was cut off before {event} ended"))
    }

    /// Waits until an event has ended, or the agent is cut off.
    pub(crate) fn ended_or_cut(&self, event: EventId) -> Option<Outcome> {
        self.wait(event, true)
    }

    fn wait(&self, event: EventId, may_burn: bool) -> Option<Outcome> {
        let agent = self.agent.as_ref().expect("the agent lives");
        let journal = &agent.journal;
        let fuse = self.world.fuse().clone();
        let ended = async {
            let mut changes = journal.changes();
            loop {
                let row = journal.event(event).await.expect("the journal is read");
                if let Some(outcome) = row.and_then(|(row, _)| row.outcome) {
                    return Some(outcome);
                }
                // Lagging is a change too: the row is read again.
                let _ = changes.recv().await;
            }
        };
        let waited = agent.runtime.block_on(async {
            tokio::time::timeout(PATIENCE, async {
                tokio::select! {
                    biased;
                    outcome = ended => outcome,
                    // Under the keeper, perhaps, once the event had ended.
                    () = fuse.burning(), if may_burn => {
                        let row = journal.event(event).await.expect("the journal is read");
                        row.and_then(|(row, _)| row.outcome)
                    }
                }
            })
            .await
        });
        waited.unwrap_or_else(|_| {
            panic!("{event} has not ended: {:#?}\n{:#?}", self.board.all(), self.world.state())
        })
    }

    /// Waits until somebody reads of an event what the predicate looks for.
    pub(crate) fn shown(&self, event: EventId, wanted: impl Fn(&str) -> bool) {
        let agent = self.agent.as_ref().expect("the agent lives");
        let board = self.board.clone();
        let seen = async {
            let mut changes = board.changes();
            while !board.all().get(&event).is_some_and(|progress| wanted(&progress.waiting_for)) {
                changes.changed().await.expect("the board lives");
            }
        };
        let waited = agent.runtime.block_on(async { tokio::time::timeout(PATIENCE, seen).await });
        waited.unwrap_or_else(|_| panic!("never shown: {:?}", self.board.all()));
    }

    /// Waits until the host is as the predicate says.
    pub(crate) fn until(&self, wanted: impl Fn(&World) -> bool) {
        let agent = self.agent.as_ref().expect("the agent lives");
        let world = self.world.clone();
        let seen = async {
            let mut look = tokio::time::interval(Duration::from_millis(1));
            while !wanted(&world) {
                look.tick().await;
            }
        };
        let waited = agent.runtime.block_on(async { tokio::time::timeout(PATIENCE, seen).await });
        waited.unwrap_or_else(|_| panic!("never so: {:#?}", self.world.state()));
    }

    /// Waits until the host is as the predicate says, or the agent is cut off.
    pub(crate) fn until_or_cut(&self, wanted: impl Fn(&World) -> bool) {
        let fuse = self.world.fuse().clone();
        let cut = std::cell::Cell::new(false);
        let agent = self.agent.as_ref().expect("the agent lives");
        agent.runtime.block_on(async {
            tokio::select! {
                () = fuse.burning() => cut.set(true),
                () = self.look_until(|| wanted(&self.world)) => {}
            }
        });
    }

    /// Waits until the journal keeps of a VM what the predicate looks for.
    pub(crate) fn until_kept(&self, vm: VmId, wanted: impl Fn(&journal::kept::Kept) -> bool) {
        self.look_at(|| self.row(vm).is_some_and(|row| wanted(&row.kept)), vm);
    }

    /// Waits until people read of a VM what the predicate looks for.
    pub(crate) fn until_left(&self, vm: VmId, wanted: impl Fn(&str) -> bool) {
        let life = || self.row(vm).map(|row| self.keeping.life(&row));
        self.look_at(|| life().is_some_and(|life| wanted(&life.keeping)), vm);
    }

    /// Waits until people read that somebody changed a VM.
    pub(crate) fn until_attention(&self, vm: VmId, says: &str) {
        let life = || self.row(vm).map(|row| self.keeping.life(&row));
        let named = || life().and_then(|life| life.attention).is_some_and(|cause| cause.text.contains(says));
        self.look_at(named, vm);
    }

    /// Waits until so many VMs wait for what the predicate looks for.
    pub(crate) fn until_waiting(&self, count: usize, wanted: impl Fn(&str) -> bool) {
        let vms: Vec<_> = self.world.state().domains.into_keys().collect();
        let lives = || vms.iter().filter_map(|vm| self.row(*vm)).map(|row| self.keeping.life(&row));
        let waiting = || lives().filter(|life| wanted(&life.keeping)).count() == count;
        self.look_at(waiting, vms[0]);
    }

    fn look_at(&self, wanted: impl Fn() -> bool, vm: VmId) {
        let since = std::time::Instant::now();
        while !wanted() {
            let life = self.row(vm).map(|row| self.keeping.life(&row));
            assert!(since.elapsed() < PATIENCE, "never so: {life:?} {:#?}", self.world.state());
            let agent = self.agent.as_ref().expect("the agent lives");
            agent.runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        }
    }

    async fn look_until(&self, wanted: impl Fn() -> bool) {
        let mut look = tokio::time::interval(Duration::from_millis(1));
        let seen = async {
            while !wanted() {
                look.tick().await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, seen).await;
        seen.unwrap_or_else(|_| panic!("never so: {:#?}", self.world.state()));
    }

    /// How many reports of an event there are.
    pub(crate) fn reports(&self, event: EventId) -> usize {
        let agent = self.agent.as_ref().expect("the agent lives");
        let reports = agent.runtime.block_on(agent.journal.reports_after(ReportSeq(0), 1000)).expect("read");
        reports.iter().filter(|report| report.event == event).count()
    }

    /// How many entries the journal has of an event.
    pub(crate) fn entries(&self, event: EventId) -> usize {
        let agent = self.agent.as_ref().expect("the agent lives");
        let row = agent.runtime.block_on(agent.journal.event(event)).expect("read");
        row.map_or(0, |(_, entries)| entries.len())
    }

    /// What the journal keeps of a VM.
    pub(crate) fn row(&self, vm: VmId) -> Option<journal::VmRow> {
        let agent = self.agent.as_ref().expect("the agent lives");
        agent.runtime.block_on(agent.journal.vm(vm)).expect("read")
    }

    /// Where the coordinator says that images are.
    pub(crate) fn server_is(&self, server: Server) {
        self.server.send_replace(server);
    }

    fn open(&self) -> Journal {
        let boot = BootId(Uuid::from_u128(self.boot));
        let settings = journal::Settings::new(Arc::new(SystemClock), boot, judge);
        Journal::open(&self.dir.path().join("agent.db"), settings).expect("the journal opens")
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Bounds that let a schedule end in milliseconds.
fn quick(settle: Duration) -> Settings {
    Settings {
        guest_timeout: Duration::from_millis(40),
        ask_again: Duration::from_millis(15),
        backoff_first: Duration::from_millis(1),
        backoff_most: Duration::from_millis(4),
        attempts: 3,
        attempts_remote: 4,
        thaws: 4,
        builds: 2,
        sweep: Duration::from_millis(10),
        progress: Duration::from_millis(2),
        keep: keep::Bounds {
            limit: Rig::RESTARTS,
            backoff_first: Duration::from_millis(1),
            backoff_most: Duration::from_millis(4),
            starts: Rig::STARTS,
            stock: Duration::from_millis(20),
            settle,
            ..keep::Bounds::default()
        },
        ..Settings::with_bridge("dewpoint0".parse().expect("a name"))
    }
}

/// Drops a journal's last handle, and waits for the end of its thread: the next agent, and whoever removes the folder, are
/// to find that nobody writes into it any more.
fn close(journal: Journal) {
    let mut reports = journal.reports();
    drop(journal);
    let ended = async { while reports.changed().await.is_ok() {} };
    let waited = alone().block_on(async { tokio::time::timeout(PATIENCE, ended).await });
    assert!(waited.is_ok() || std::thread::panicking(), "the journal's thread goes on");
}

fn alone() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// An image on the server.
pub(crate) fn image(n: u8) -> ImageRef {
    ImageRef { ..image_of(Content::Image(ImageDigest([n; 32]))) }
}

/// A create of a VM that is on.
pub(crate) fn create_kept(restart: Restart, placement: Placement) -> Kind {
    let Kind::Create(mut create) = create(InitialPower::On) else { unreachable!("a create") };
    create.spec = VmSpec { restart, placement, ..create.spec };
    Kind::Create(create)
}

/// A create.
pub(crate) fn create(power: InitialPower) -> Kind {
    let nic = Nic {
        mac: "52:54:00:00:00:01".parse().expect("a MAC"),
        network: None,
        bridge: None,
        addresses: vec!["192.0.2.5/24".parse().expect("an address")],
        gateway4: None,
        gateway6: None,
        nameservers: Vec::new(),
    };
    let spec = VmSpec {
        name: "web".parse().expect("a name"),
        vcpus: 1,
        memory_bytes: 128 << 20,
        disk_bytes: 1 << 30,
        disk_mode: DiskMode::Overlay,
        nics: vec![nic],
        ssh_keys: Vec::new(),
        user_data: Vec::new(),
        labels: std::collections::BTreeMap::new(),
        placement: Placement::Bound,
        restart: Restart::default(),
    };
    Kind::Create(Box::new(Create { spec, source: image(1), power }))
}
