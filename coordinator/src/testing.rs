//! What this crate's tests share: a whole coordinator in a folder of its own, and a scripted agent that dials it.

mod agent;

use std::sync::Arc;
use std::time::Duration;

use dewpoint_common::durable::Witness;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::status::from_status;
use dewpoint_proto::wire::fleet;
use sha2::{Digest, Sha256};
use tonic::transport::Channel;

pub(crate) use agent::{Agent, Link, deliver_seq, heartbeat, snapshot_bytes};

use crate::app::{App, Running};
use crate::config::Config;
use crate::metrics::RouterMetrics;
use crate::router::Settings;

/// The bound on every wait of a test.
pub(crate) const BOUND: Duration = Duration::from_secs(20);

/// A coordinator in a temporary folder, which it keeps when it is killed and opened again.
pub(crate) struct Coordinator {
    folder: tempfile::TempDir,
    running: Option<Running>,
    adjust: fn(&mut Settings),
    witness: Option<Arc<dyn Witness>>,
    pub(crate) channel: Channel,
}

impl Coordinator {
    pub(crate) async fn start() -> Self {
        Self::with(|settings| settings.clash = Duration::from_millis(500)).await
    }

    /// With other waits of the router.
    pub(crate) async fn with(adjust: fn(&mut Settings)) -> Self {
        drop(dewpoint_common::telemetry::start(&dewpoint_common::telemetry::Log::default(), None));
        let folder = tempfile::tempdir().unwrap();
        let running = start(folder.path(), None, adjust).await.unwrap();
        let channel = dial(&running);
        Self { folder, running: Some(running), adjust, witness: None, channel }
    }

    /// On a folder that is there, with somebody who sees every change of the image files.
    pub(crate) async fn open(
        folder: tempfile::TempDir,
        witness: Option<Arc<dyn Witness>>,
    ) -> Result<Self, tempfile::TempDir> {
        let adjust = |_: &mut Settings| ();
        match start(folder.path(), witness.clone(), adjust).await {
            Ok(running) => {
                let channel = dial(&running);
                Ok(Self { folder, running: Some(running), adjust, witness, channel })
            }
            Err(_) => Err(folder),
        }
    }

    /// As a crash does it; nothing of it is at work any more afterwards.
    pub(crate) async fn crash(mut self) -> tempfile::TempDir {
        drop(self.come_to_rest().await);
        self.folder
    }

    /// As a crash does it: nothing is drained. The port is another one then.
    pub(crate) async fn kill_and_open(&mut self) {
        self.running = None;
        let running = start(self.folder.path(), self.witness.clone(), self.adjust).await.unwrap();
        self.channel = dial(&running);
        self.running = Some(running);
    }

    /// A copy of its database, whole, as it is now; its sessions break.
    pub(crate) async fn copy_away(&mut self) {
        self.change_database(|db| {
            let copy = db.with_file_name("copy.db");
            let from = rusqlite::Connection::open(db).unwrap();
            from.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        })
        .await;
    }

    /// That copy put in the database's place, as a person with `cp` does it.
    pub(crate) async fn copy_back(&mut self) {
        self.change_database(|db| {
            for beside in ["coordinator.db-wal", "coordinator.db-shm"] {
                let _ = std::fs::remove_file(db.with_file_name(beside));
            }
            std::fs::write(db, std::fs::read(db.with_file_name("copy.db")).unwrap()).unwrap();
        })
        .await;
    }

    /// As if a host had been silent for years; sessions break.
    pub(crate) async fn forget_heartbeats(&mut self, host: dewpoint_proto::ids::HostId) {
        self.change_database(move |db| {
            let db = rusqlite::Connection::open(db).unwrap();
            let row = "UPDATE hosts SET last_heartbeat = 1 WHERE host_id = ?1";
            assert_eq!(db.execute(row, [host.0.as_bytes()]).unwrap(), 1);
        })
        .await;
    }

    /// Kills it, changes its database, and opens it again.
    async fn change_database(&mut self, change: impl FnOnce(&std::path::Path)) {
        let lock = self.come_to_rest().await;
        change(&self.config().data_dir.join("coordinator.db"));
        drop(lock);
        self.kill_and_open().await;
    }

    /// Kills it, and waits until nobody has its database open.
    async fn come_to_rest(&mut self) -> crate::app::DataLock {
        let data = self.config().data_dir;
        self.running = None;
        let lock =
            wait_until("the data folder is free", async || crate::app::DataLock::take(&data).ok()).await;
        let database = data.join("coordinator.db");
        // Whoever closes it last takes the log away: then nobody has it open any more.
        wait_until("the database is closed", async || {
            let db = rusqlite::Connection::open(&database).unwrap();
            db.query_row("SELECT count(*) FROM hosts", [], |_| Ok(())).unwrap();
            drop(db);
            (!data.join("coordinator.db-wal").exists()).then_some(())
        })
        .await;
        lock
    }

    pub(crate) async fn stop(mut self) {
        self.running.take().unwrap().shutdown().await;
    }

    pub(crate) fn metrics(&self) -> Arc<RouterMetrics> {
        Arc::clone(&self.running.as_ref().unwrap().metrics)
    }

    pub(crate) fn config(&self) -> Config {
        config(self.folder.path())
    }

    pub(crate) fn vms(&self) -> fleet::vms_client::VmsClient<Channel> {
        fleet::vms_client::VmsClient::new(self.channel.clone())
    }

    pub(crate) fn events(&self) -> fleet::events_client::EventsClient<Channel> {
        fleet::events_client::EventsClient::new(self.channel.clone())
    }

    pub(crate) fn hosts(&self) -> fleet::hosts_client::HostsClient<Channel> {
        fleet::hosts_client::HostsClient::new(self.channel.clone())
    }

    pub(crate) fn images(&self) -> fleet::images_client::ImagesClient<Channel> {
        fleet::images_client::ImagesClient::new(self.channel.clone())
    }

    pub(crate) fn networks(&self) -> fleet::networks_client::NetworksClient<Channel> {
        fleet::networks_client::NetworksClient::new(self.channel.clone())
    }

    /// Uploads a raw disk of 2 MiB and puts it into the catalogue; its digest.
    pub(crate) async fn image(&self, name: &str) -> String {
        let bytes = vec![0x5a; 2 << 20];
        let digest = self.upload(&bytes).await;
        let request = fleet::AddImageRequest { name: name.into(), digest: digest.clone() };
        self.images().add_image(request).await.unwrap();
        digest
    }

    /// Puts a file to the image server; its digest.
    pub(crate) async fn upload(&self, bytes: &[u8]) -> String {
        let digest = hex::encode(Sha256::digest(bytes));
        let url = self.image_url(&digest);
        let put = reqwest::Client::new().put(url).body(bytes.to_vec()).send().await.unwrap();
        assert_eq!(put.status(), reqwest::StatusCode::CREATED);
        digest
    }

    /// Where an image's file is.
    pub(crate) fn image_url(&self, digest: &str) -> String {
        format!("http://{}/images/{digest}", self.running.as_ref().unwrap().images_addr)
    }

    /// Creates a small VM; panics when it is refused.
    pub(crate) async fn create(&self, name: &str) -> fleet::EventRecord {
        self.vms().create_vm(create_request(name)).await.unwrap().into_inner()
    }

    pub(crate) async fn event(&self, id: &str) -> fleet::EventRecord {
        let request = fleet::GetEventRequest { event_id: id.into() };
        self.events().get_event(request).await.unwrap().into_inner()
    }

    /// Waits until an event stands somewhere.
    pub(crate) async fn wait_for_stage(&self, id: &str, stage: &str) -> fleet::EventRecord {
        let request = fleet::WatchEventsRequest { event_id: id.into(), ..Default::default() };
        let mut watch = self.events().watch_events(request).await.unwrap().into_inner();
        let mut last = String::new();
        let found = tokio::time::timeout(BOUND, async {
            while let Some(item) = watch.message().await.unwrap() {
                let Some(event) = item.event else { continue };
                last.clone_from(&event.stage);
                if event.stage == stage {
                    return event;
                }
            }
            panic!("the watch ended");
        });
        found.await.unwrap_or_else(|_| panic!("the event is {last}, and never was {stage}"))
    }

    /// Waits until a host is as wanted.
    pub(crate) async fn wait_for_host(
        &self,
        agent: &Agent,
        wanted: impl Fn(&fleet::Host) -> bool,
    ) -> fleet::Host {
        let request = fleet::GetHostRequest { host: agent.host.to_string() };
        wait_until("the host is as wanted", async || {
            let host = self.hosts().get_host(request.clone()).await.ok()?.into_inner();
            wanted(&host).then_some(host)
        })
        .await
    }
}

/// A create that the image `tiny` and any host fit.
pub(crate) fn create_request(name: &str) -> fleet::CreateVmRequest {
    fleet::CreateVmRequest {
        name: name.into(),
        vcpus: 1,
        memory_bytes: 128 << 20,
        image: "tiny".into(),
        ..Default::default()
    }
}

/// Looks until there is an answer; the waits between grow from a millisecond.
pub(crate) async fn wait_until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    };
    tokio::time::timeout(BOUND, looking).await.unwrap_or_else(|_| panic!("waited in vain until {what}"))
}

/// The reason of a refusal.
pub(crate) fn reason<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> Reason {
    cause(answer).reason
}

/// The cause of a refusal.
pub(crate) fn cause<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> Cause {
    from_status(&answer.unwrap_err())
}

pub(crate) fn config(folder: &std::path::Path) -> Config {
    let mut config = Config { data_dir: folder.join("data"), ..Config::default() };
    config.listen.set_port(0);
    config.images.listen.set_port(0);
    config.images.keep_free = crate::config::Size(0);
    config
}

async fn start(
    folder: &std::path::Path,
    witness: Option<Arc<dyn Witness>>,
    adjust: fn(&mut Settings),
) -> anyhow::Result<Running> {
    wait_until("the data folder is free", async || {
        match App::start_with(config(folder), witness.clone(), adjust).await {
            Err(error) if error.to_string().contains("another coordinator") => None,
            started => Some(started),
        }
    })
    .await
}

pub(crate) fn dial(running: &Running) -> Channel {
    let url = format!("http://{}", running.grpc_addr);
    Channel::from_shared(url).unwrap().connect_timeout(BOUND).connect_lazy()
}
