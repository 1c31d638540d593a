//! Backup, restore and check, on the real process: what is copied, what is kept, what waits for whom.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use dewpoint_proto::ids::EventId;
use dewpoint_proto::status::from_status;
use dewpoint_proto::wire::agent::to_agent::Message;
use dewpoint_proto::wire::fleet;
use serde_json::Value;

use crate::process::coordinator;
use crate::sigkill::agent::{Agent, Link};
use crate::sigkill::{Coordinator, create};

fn upkeep(command: &str, world: &Coordinator, more: &[&Path]) -> Output {
    upkeep_in(world.folder.path(), command, more).output().unwrap()
}

/// A command on the data folder in a folder. They listen nowhere, and so take an address that `run` would refuse.
pub(crate) fn upkeep_in(folder: &Path, command: &str, more: &[&Path]) -> Command {
    let mut run = coordinator(&[command, "--json"]);
    run.args([Path::new("--data-dir"), &folder.join("data")])
        .args(["--listen", "192.0.2.10:7400"])
        .args(more);
    run
}

pub(crate) fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn error(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    serde_json::from_slice::<Value>(&output.stderr).unwrap()["error"].clone()
}

impl Coordinator {
    fn database(&self) -> PathBuf {
        self.folder.path().join("data/coordinator.db")
    }

    /// SIGKILL.
    pub(crate) fn stop(&mut self) {
        self.daemon = None;
    }

    async fn create(&self, name: &str) -> Result<fleet::EventRecord, dewpoint_proto::cause::Cause> {
        let answer = self.vms().create_vm(create(EventId::fresh(), name)).await;
        answer.map(tonic::Response::into_inner).map_err(|status| from_status(&status))
    }

    /// A VM that its host built.
    pub(crate) async fn build(&self, agent: &mut Agent, link: &mut Link, name: &str) -> fleet::EventRecord {
        let made = self.create(name).await.unwrap();
        let deliver = link.deliver().await;
        agent.journal(&deliver);
        link.accept(deliver.seq).await;
        let report = agent.succeeded(&deliver);
        link.report(report).await;
        link.ack().await;
        made
    }
}

#[tokio::test]
async fn a_restored_database_places_nothing_until_all_its_hosts_have_matched() {
    let mut world = Coordinator::start();
    world.image().await;
    let (mut first, second) = (Agent::new(), Agent::new());
    let (mut link, _) = first.connect(&world).await;
    let made = world.build(&mut first, &mut link, "web").await;
    let (_other, _) = second.connect(&world).await;
    let file = world.folder.path().join("monday.db");
    // What a backup and a restore that were killed left behind is in nobody's way.
    std::fs::write(world.folder.path().join("monday.db.part"), "half a page").unwrap();
    std::fs::write(world.folder.path().join("data/coordinator.db.restoring"), "half a page").unwrap();
    let made_of = json(&upkeep("backup", &world, &[&file]));
    assert_eq!((&made_of["hosts"], &made_of["vms"], &made_of["events"]), (&2.into(), &1.into(), &1.into()));
    assert_eq!(
        (&made_of["image_files_copied"], made_of["images"].as_array().unwrap().len()),
        (&false.into(), 1)
    );
    assert_eq!(error(&upkeep("backup", &world, &[&file]))["reason"], "INVALID", "no backup replaces another");
    let running = error(&upkeep("restore", &world, &[&file]));
    assert!(running["text"].as_str().unwrap().contains("pid") && running["reason"] == "HELD", "{running}");

    drop(link);
    world.stop();
    let restored = json(&upkeep("restore", &world, &[&file]));
    assert_eq!(restored["images_without_file"].as_array().unwrap().len(), 0);
    let kept = PathBuf::from(restored["kept"].as_str().unwrap());
    assert!(kept.exists() && kept != world.database());
    let receipt: Value =
        serde_json::from_slice(&std::fs::read(restored["receipt"].as_str().unwrap()).unwrap()).unwrap();
    assert_eq!(receipt["kept"], restored["kept"]);

    world.kill_and_open();
    assert_eq!(world.create("db").await.unwrap_err().reason.as_str(), "DIVERGED");
    let start = fleet::VmRequest { vm: made.vm_id.clone(), ..Default::default() };
    let unheard = from_status(&world.vms().start_vm(start).await.unwrap_err());
    assert!(
        unheard.text.contains("not heard"),
        "nothing is queued for a host that may be ahead: {unheard:?}"
    );
    let (_link, _) = first.connect(&world).await;
    let waits = world.wait_for_host(&first, |_| true).await.recovering.unwrap();
    assert_eq!(waits.fields["awaited_hosts"], "1");
    assert!(world.create("db").await.is_err(), "one host is still awaited");
    let (_other, _) = second.connect(&world).await;
    assert!(world.wait_for_host(&first, |_| true).await.recovering.is_none(), "it ended by itself");
    world.create("db").await.unwrap();
    let mut fleet = fleet::fleet_client::FleetClient::new(world.channel.clone());
    let acts = fleet.list_acts(fleet::ListActsRequest::default()).await.unwrap().into_inner().acts;
    assert_eq!(acts[0].act, "restore");
}

#[tokio::test]
async fn a_copy_put_in_place_by_hand_knows_that_it_is_one_and_a_host_ahead_of_it_waits_for_a_person() {
    let mut world = Coordinator::start();
    world.image().await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&world).await;
    world.build(&mut agent, &mut link, "web").await;
    let file = world.folder.path().join("monday.db");
    json(&upkeep("backup", &world, &[&file]));
    world.build(&mut agent, &mut link, "after-the-backup").await;
    drop(link);
    world.stop();
    for log in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(format!("{}{log}", world.database().display()));
    }
    std::fs::write(world.database(), std::fs::read(&file).unwrap()).unwrap();

    world.kill_and_open();
    let waits = world.create("db").await.unwrap_err();
    assert!(waits.text.contains("backup"), "{waits:?}");
    let mut link = agent.dial_over(world.channel.clone()).await;
    assert!(matches!(link.next().await, Message::Diverged(_)), "it knows what the copy does not");
    assert!(world.create("db").await.is_err());
    let end = fleet::EndRecoveryRequest { reason: "compared".into() };
    fleet::hosts_client::HostsClient::new(world.channel.clone()).end_recovery(end).await.unwrap();
    drop(link);
    let (_link, _) = agent.connect(&world).await;
    assert_eq!(world.create("db").await.unwrap().seq, 3, "its queue goes on from its own last event");
}

#[tokio::test]
async fn a_damaged_backup_is_refused_and_the_present_database_stays() {
    let mut world = Coordinator::start();
    world.image().await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&world).await;
    let made = world.build(&mut agent, &mut link, "web").await;
    let file = world.folder.path().join("monday.db");
    json(&upkeep("backup", &world, &[&file]));
    drop(link);
    world.stop();
    let mut bytes = std::fs::read(&file).unwrap();
    let half = bytes.len() / 2;
    bytes[4096..half].fill(0xaa);
    std::fs::write(&file, bytes).unwrap();
    error(&upkeep("restore", &world, &[&file]));
    let missing = world.folder.path().join("tuesday.db");
    assert_eq!(error(&upkeep("restore", &world, &[&missing]))["reason"], "STORAGE_ERROR");
    world.kill_and_open();
    world.wait_for_stage(&made.event_id, "succeeded").await;
    let (_link, _) = agent.connect(&world).await;
    world.create("db").await.unwrap();
}

#[tokio::test]
async fn check_names_each_disagreement_and_sets_sums_right_only_when_asked() {
    let mut world = Coordinator::start();
    world.image().await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&world).await;
    world.build(&mut agent, &mut link, "web").await;
    world.create("db").await.unwrap();
    let agrees = json(&upkeep("check", &world, &[]));
    assert_eq!(agrees["left"], 0, "also while it runs: {agrees}");
    let held = error(&upkeep("check", &world, &[Path::new("--repair")]));
    assert_eq!(held["reason"], "HELD");
    drop(link);
    world.stop();

    let db = rusqlite::Connection::open(world.database()).unwrap();
    db.execute("UPDATE hosts SET claimed_vms = 7, claimed_memory = 1", []).unwrap();
    let summed = upkeep("check", &world, &[]);
    assert_eq!(summed.status.code(), Some(3));
    let repaired = json(&upkeep("check", &world, &[Path::new("--repair")]));
    assert_eq!((&repaired["left"], &repaired["findings"][0]["repaired"]), (&0.into(), &true.into()));
    assert_eq!(json(&upkeep("check", &world, &[]))["findings"].as_array().unwrap().len(), 0);

    db.execute_batch(
        "INSERT INTO nics VALUES ('lan', x'525400000001', zeroblob(16));
         INSERT INTO addresses VALUES ('lan', '192.0.2.9', x'525400000002', zeroblob(16));
         UPDATE events SET seq = 9 WHERE seq = 2; UPDATE hosts SET accepted_seq = 5;
         UPDATE vms SET gone = 1 WHERE name = 'db';",
    )
    .unwrap();
    let images = world.folder.path().join("data/images");
    let image = std::fs::read_dir(&images).unwrap().next().unwrap().unwrap().path();
    std::fs::rename(&image, images.join("ab".repeat(32))).unwrap();
    let found = upkeep("check", &world, &[]);
    assert_eq!(found.status.code(), Some(3));
    let found: Value = serde_json::from_slice(&found.stdout).unwrap();
    let told: Vec<&str> = found["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["text"].as_str().unwrap())
        .collect();
    for part in [
        "has a NIC of VM 00000000",
        "address 192.0.2.9",
        "has 1 entries of 2",
        "took 5 entries of 2",
        "which does not fit its row",
        "has no file",
        "is of no image",
    ] {
        assert!(told.iter().any(|text| text.contains(part)), "{part} in {told:#?}");
    }
}
