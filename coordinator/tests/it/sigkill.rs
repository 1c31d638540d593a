//! Promise 1 on the real process: what the coordinator said is on disk, whenever it is killed.

/// The scripted agent of the crate's own tests.
#[path = "../../src/testing/agent.rs"]
#[expect(dead_code, reason = "the crate's own tests use all of it")]
pub(crate) mod agent;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::EventId;
use dewpoint_proto::wire::{self, event, fleet};
use sha2::{Digest, Sha256};
use tonic::transport::Channel;

use crate::process::{BOUND, Daemon};
use agent::Agent;

pub(crate) struct Coordinator {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) daemon: Option<Daemon>,
    images_url: String,
    pub(crate) channel: Channel,
}

impl Coordinator {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (daemon, ready) = Daemon::start(folder.path());
        let (channel, images_url) = addresses(&ready);
        Self { folder, daemon: Some(daemon), images_url, channel }
    }

    /// SIGKILL, and a new one on the same data.
    pub(crate) fn kill_and_open(&mut self) {
        self.daemon = None;
        let (daemon, ready) = Daemon::start(self.folder.path());
        self.daemon = Some(daemon);
        (self.channel, self.images_url) = addresses(&ready);
    }

    pub(crate) fn vms(&self) -> fleet::vms_client::VmsClient<Channel> {
        fleet::vms_client::VmsClient::new(self.channel.clone())
    }

    pub(crate) fn events(&self) -> fleet::events_client::EventsClient<Channel> {
        fleet::events_client::EventsClient::new(self.channel.clone())
    }

    pub(crate) async fn image(&self) {
        let bytes = vec![0x5a; 2 << 20];
        let digest = hex::encode(Sha256::digest(&bytes));
        let url = format!("{}/images/{digest}", self.images_url);
        assert!(reqwest::Client::new().put(url).body(bytes).send().await.unwrap().status().is_success());
        let mut images = fleet::images_client::ImagesClient::new(self.channel.clone());
        images.add_image(fleet::AddImageRequest { name: "tiny".into(), digest }).await.unwrap();
    }

    pub(crate) async fn event(&self, id: &str) -> fleet::EventRecord {
        let mut events = fleet::events_client::EventsClient::new(self.channel.clone());
        events.get_event(fleet::GetEventRequest { event_id: id.into() }).await.unwrap().into_inner()
    }

    pub(crate) async fn wait_for_stage(&self, id: &str, stage: &str) {
        let request = fleet::WatchEventsRequest { event_id: id.into(), ..Default::default() };
        let mut events = fleet::events_client::EventsClient::new(self.channel.clone());
        let mut watch = events.watch_events(request).await.unwrap().into_inner();
        let found = async {
            while let Some(item) = watch.message().await.unwrap() {
                if item.event.is_some_and(|event| event.stage == stage) {
                    return;
                }
            }
            panic!("the watch ended");
        };
        tokio::time::timeout(BOUND, found).await.expect(stage);
    }

    pub(crate) async fn wait_for_host(
        &self,
        agent: &Agent,
        wanted: impl Fn(&fleet::Host) -> bool,
    ) -> fleet::Host {
        let looking = async {
            loop {
                let mut hosts = fleet::hosts_client::HostsClient::new(self.channel.clone());
                let request = fleet::GetHostRequest { host: agent.host.to_string() };
                match hosts.get_host(request).await {
                    Ok(host) if wanted(host.get_ref()) => return host.into_inner(),
                    _ => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                }
            }
        };
        tokio::time::timeout(BOUND, looking).await.expect("the host is not as wanted")
    }
}

fn addresses(ready: &serde_json::Value) -> (Channel, String) {
    let url = |key: &str| format!("http://{}", ready[key].as_str().unwrap());
    (Channel::from_shared(url("grpc")).unwrap().connect_lazy(), url("images"))
}

pub(crate) fn create(id: EventId, name: &str) -> fleet::CreateVmRequest {
    fleet::CreateVmRequest {
        options: Some(fleet::EventOptions { event_id: id.to_string(), ..Default::default() }),
        name: name.into(),
        vcpus: 1,
        memory_bytes: 64 << 20,
        image: "tiny".into(),
        ..Default::default()
    }
}

/// The same report, of a create that failed and of which nothing is left.
fn undone(report: wire::agent::Report) -> wire::agent::Report {
    let cause = Cause::new(Reason::ImageUnavailable, "no such server");
    let vm = report.vm.map(|vm| event::VmState { gone: true, power: event::Power::Absent.into(), ..vm });
    let end = Some(event::outcome::End::Failed(cause.into()));
    wire::agent::Report { vm, outcome: Some(event::Outcome { end }), ..report }
}

#[tokio::test]
async fn killed_at_each_transition_of_an_event_it_goes_on_from_there() {
    let mut coordinator = Coordinator::start();
    coordinator.image().await;
    let mut agent = Agent::new();
    let (link, _) = agent.connect(&coordinator).await;
    let id = EventId::fresh();
    let created = coordinator.vms().create_vm(create(id, "web")).await.unwrap().into_inner();
    drop(link);
    coordinator.kill_and_open();

    let again = coordinator.vms().create_vm(create(id, "web")).await.unwrap().into_inner();
    assert_eq!((again.stage.as_str(), again.seq, &again.vm_id), ("assigned", 1, &created.vm_id));
    let (mut link, _) = agent.connect(&coordinator).await;
    let deliver = link.deliver().await;
    coordinator.kill_and_open();

    let (mut link, _) = agent.connect(&coordinator).await;
    assert_eq!(link.deliver().await.event, deliver.event, "not accepted: delivered again");
    agent.journal(&deliver);
    link.accept(1).await;
    coordinator.wait_for_stage(&created.event_id, "accepted").await;
    coordinator.kill_and_open();

    assert_eq!(coordinator.event(&created.event_id).await.stage, "accepted");
    let (mut link, _) = agent.connect(&coordinator).await;
    let report = agent.succeeded(&deliver);
    link.report(report.clone()).await;
    assert_eq!(link.ack().await, 1);
    coordinator.kill_and_open();

    let (mut link, welcome) = agent.connect(&coordinator).await;
    assert_eq!(welcome.reports_acked, 1, "acknowledged is stored");
    link.report(report).await;
    assert_eq!(link.ack().await, 1);
    assert_eq!(coordinator.event(&created.event_id).await.stage, "succeeded");
    link.is_quiet().await;
}

#[tokio::test]
async fn killed_after_a_persons_word_it_stands_and_the_host_may_contradict() {
    let mut coordinator = Coordinator::start();
    coordinator.image().await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    let created = coordinator.vms().create_vm(create(EventId::fresh(), "web")).await.unwrap().into_inner();
    let deliver = link.deliver().await;
    agent.journal(&deliver);
    link.accept(1).await;
    coordinator.wait_for_stage(&created.event_id, "accepted").await;
    drop(link);
    let force = fleet::ForceEventRequest {
        event_id: created.event_id.clone(),
        end: "failed".into(),
        reason: "the rack burnt".into(),
    };
    coordinator.events().force_event(force).await.unwrap();
    coordinator.kill_and_open();

    let forced = coordinator.event(&created.event_id).await;
    assert_eq!((forced.stage.as_str(), forced.forced.unwrap().reason.as_str()), ("failed", "the rack burnt"));
    let about = fleet::ListActsRequest { event_id: created.event_id.clone(), ..Default::default() };
    let mut fleet = fleet::fleet_client::FleetClient::new(coordinator.channel.clone());
    assert_eq!(fleet.list_acts(about).await.unwrap().into_inner().acts[0].act, "force");
    let (mut link, _) = agent.connect(&coordinator).await;
    let report = agent.succeeded(&deliver);
    link.report(report).await;
    assert_eq!(link.ack().await, 1);
    coordinator.kill_and_open();
    let late = coordinator.event(&created.event_id).await;
    assert!(late.stage == "failed" && late.contradicted_by.is_some(), "{late:?}");
    assert_eq!(coordinator.wait_for_host(&agent, |_| true).await.vms, 1, "the claim stands");
}

#[tokio::test]
async fn killed_after_a_retry_it_is_the_same_retry_and_delivered() {
    let mut coordinator = Coordinator::start();
    coordinator.image().await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    let created = coordinator.vms().create_vm(create(EventId::fresh(), "web")).await.unwrap().into_inner();
    let deliver = link.deliver().await;
    agent.journal(&deliver);
    link.accept(1).await;
    let report = undone(agent.succeeded(&deliver));
    link.report(report).await;
    assert_eq!(link.ack().await, 1);
    let retry = fleet::RetryEventRequest {
        options: Some(fleet::EventOptions { event_id: EventId::fresh().to_string(), ..Default::default() }),
        event_id: created.event_id.clone(),
        wait_for_capacity: false,
    };
    let tried = coordinator.events().retry_event(retry.clone()).await.unwrap().into_inner();
    drop(link);
    coordinator.kill_and_open();

    let again = coordinator.events().retry_event(retry).await.unwrap().into_inner();
    assert_eq!((again.event_id, again.seq, again.retry_of), (tried.event_id.clone(), 2, created.event_id));
    let (mut link, _) = agent.connect(&coordinator).await;
    let deliver = link.deliver().await;
    assert_eq!(agent.journal(&deliver).event().id.to_string(), tried.event_id);
}

#[tokio::test]
async fn whatever_was_answered_is_there_and_what_was_not_can_be_asked_again() {
    let mut coordinator = Coordinator::start();
    coordinator.image().await;
    let agent = Agent::new();
    let mut asked = Vec::new();
    for round in 0..3 {
        let (_link, _) = agent.connect(&coordinator).await;
        let requests: Vec<_> = (0..8).map(|n| create(EventId::fresh(), &format!("vm-{round}-{n}"))).collect();
        let first_answered = {
            let answers = requests.iter().map(|request| {
                let mut vms = coordinator.vms();
                Box::pin(async move { vms.create_vm(request.clone()).await })
            });
            // Killed while the others are under way.
            futures::future::select_all(answers).await.0.unwrap().into_inner()
        };
        coordinator.kill_and_open();
        assert_eq!(coordinator.event(&first_answered.event_id).await.seq, first_answered.seq);
        asked.extend(requests);
    }
    let (_link, _) = agent.connect(&coordinator).await;
    let mut seqs = Vec::new();
    for request in &asked {
        seqs.push(coordinator.vms().create_vm(request.clone()).await.unwrap().into_inner().seq);
    }
    seqs.sort_unstable();
    let expected: Vec<_> = (1..=asked.len() as u64).collect();
    assert_eq!(seqs, expected, "each is there once, without gaps");
    let host = coordinator.wait_for_host(&agent, |_| true).await;
    assert_eq!(u64::from(host.vms), expected.len() as u64);
}
