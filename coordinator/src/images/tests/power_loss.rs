//! The image files and their catalogue survive power loss: cut before every change of a file, with the worst that may be left.
//!
//! For each story (an image that is uploaded in two pieces and named; a snapshot that a host uploads and reports; a removal):
//! a whole coordinator is cut off before each of its changes. On what the next boot would find (four kinds), what was answered
//! holds, no row is without its whole file, no half file is served, and the story told again comes to its end. The same
//! when the process alone was killed there, went on, and the power went only then.

use std::path::Path;
use std::process::Command;

use dewpoint_common::durable::recorder::{Recorder, Survives};
use dewpoint_proto::status::from_status;
use dewpoint_proto::wire::agent as link;
use dewpoint_proto::wire::fleet;
use tempfile::TempDir;

use super::*;
use crate::testing::{Agent, Coordinator, create_request, reason, snapshot_bytes};
use crate::upkeep::check::{Repair, check};

/// More changes than any story makes.
const MOST: usize = 50;

trait Story: Clone {
    /// Tells it, from wherever it stands, as far as the coordinator can follow.
    async fn tell(&mut self, coordinator: &Coordinator) -> Result<(), String>;
    /// What was answered so far is so.
    async fn holds(&self, coordinator: &Coordinator);
}

/// Tells a story on copies of a folder, cut at every change.
async fn survives<S: Story>(before: TempDir, story: S) {
    for cut in 0..MOST {
        let folder = copy_of(&before);
        let recorder = Arc::new(Recorder::watch(&data(&folder), cut).unwrap());
        let mut told = story.clone();
        let (folder, done) = match Coordinator::open(folder, Some(recorder.clone())).await {
            Ok(coordinator) => {
                let done = told.tell(&coordinator).await;
                (coordinator.crash().await, done)
            }
            Err(folder) => (folder, Err("it could not start".to_owned())),
        };
        for kind in Survives::ALL {
            let coordinator = on_the_next_boot(&recorder, kind, &folder).await;
            let mut told = told.clone();
            is_sound(&coordinator, &told).await;
            let again = told.tell(&coordinator).await;
            assert_eq!(again, Ok(()), "cut before change {cut}, {kind:?}");
            is_sound(&coordinator, &told).await;
        }
        recorder.go_on();
        let Ok(coordinator) = Coordinator::open(folder, Some(recorder.clone())).await else {
            panic!("killed before change {cut}, it does not start")
        };
        assert_eq!(told.tell(&coordinator).await, Ok(()), "killed before change {cut}");
        let folder = coordinator.crash().await;
        is_sound(&on_the_next_boot(&recorder, Survives::Nothing, &folder).await, &told).await;
        if done.is_ok() {
            assert!(cut >= 4, "the recorder saw the story's {cut} changes");
            return;
        }
    }
    panic!("a story without end");
}

fn data(folder: &TempDir) -> PathBuf {
    folder.path().join("data")
}

fn copy_of(folder: &TempDir) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    copy_into(&copy, &[folder.path().join(".")]);
    copy
}

fn copy_into(folder: &TempDir, files: &[PathBuf]) {
    assert!(Command::new("cp").arg("-a").args(files).arg(folder.path()).status().unwrap().success());
}

/// What is left of the image files beside the database, which keeps what it answered by itself.
async fn on_the_next_boot(recorder: &Recorder, survives: Survives, crashed: &TempDir) -> Coordinator {
    let found = tempfile::tempdir().unwrap();
    recorder.rebuild(survives, &data(&found)).unwrap();
    let of_the_store =
        |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with("coordinator.db");
    for old in files_in(&data(&found)).into_iter().filter(|path| of_the_store(path)) {
        fs::remove_file(old).unwrap();
    }
    for now in files_in(&data(crashed)).into_iter().filter(|path| of_the_store(path)) {
        fs::write(data(&found).join(now.file_name().unwrap()), fs::read(now).unwrap()).unwrap();
    }
    Coordinator::open(found, None).await.unwrap_or_else(|_| panic!("{survives:?}: it does not start"))
}

fn files_in(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect()
}

/// What was answered is so, and every row has its whole file.
async fn is_sound(coordinator: &Coordinator, told: &impl Story) {
    told.holds(coordinator).await;
    let found = check(&coordinator.config(), Repair::No).unwrap();
    let left: Vec<_> =
        found.iter().filter(|finding| !finding.text.contains("is of no image of the catalogue")).collect();
    assert!(left.is_empty(), "{left:?}");
    let listed = coordinator.images().list_images(fleet::ListImagesRequest::default()).await.unwrap();
    for image in listed.into_inner().images {
        let file = served(coordinator, &image.digest).await.expect("a row without its file");
        assert_eq!(file.len() as u64, image.size_bytes);
    }
}

/// The file, if there is one; a file that is served is whole.
async fn served(coordinator: &Coordinator, digest: &str) -> Option<Vec<u8>> {
    let answer = Answer::of(reqwest::get(coordinator.image_url(digest)).await.unwrap()).await;
    if answer.status == StatusCode::NOT_FOUND {
        return None;
    }
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(hex::encode(Sha256::digest(&answer.body)), digest, "half a file");
    Some(answer.body)
}

/// How much is there of an image that is not whole.
async fn kept(coordinator: &Coordinator, digest: &str) -> usize {
    let asked = reqwest::Client::new().head(coordinator.image_url(digest)).send().await.unwrap();
    usize::try_from(Answer::of(asked).await.offset().unwrap_or(0)).unwrap()
}

/// An upload in two pieces, as of a client that goes on where it stands.
#[derive(Clone)]
struct Upload {
    bytes: Vec<u8>,
    digest: String,
    /// How many bytes the coordinator said it has.
    kept: usize,
    whole: bool,
}

impl Upload {
    fn of(bytes: Vec<u8>) -> Self {
        Self { digest: hex::encode(Sha256::digest(&bytes)), bytes, kept: 0, whole: false }
    }

    async fn go_on(&mut self, coordinator: &Coordinator) -> Result<(), String> {
        while !self.whole && served(coordinator, &self.digest).await.is_none() {
            let from = kept(coordinator, &self.digest).await;
            let half = self.bytes.len() / 2;
            self.put(coordinator, from, if from < half { half } else { self.bytes.len() }).await?;
        }
        self.whole = true;
        Ok(())
    }

    async fn put(&mut self, coordinator: &Coordinator, from: usize, to: usize) -> Result<(), String> {
        let total = self.bytes.len();
        let range = if from == total {
            format!("bytes */{total}")
        } else {
            format!("bytes {from}-{}/{total}", to - 1)
        };
        let request = reqwest::Client::new().put(coordinator.image_url(&self.digest));
        let request = request.header(CONTENT_RANGE, range).body(self.bytes[from..to].to_vec());
        let answer = Answer::of(request.send().await.unwrap()).await;
        match answer.status {
            StatusCode::CREATED => self.whole = true,
            StatusCode::ACCEPTED => self.kept = usize::try_from(answer.offset().unwrap()).unwrap(),
            // What the power cut spoiled is gone now.
            StatusCode::UNPROCESSABLE_ENTITY => self.kept = 0,
            other => return Err(format!("{other}: {}", String::from_utf8_lossy(&answer.body))),
        }
        Ok(())
    }

    async fn holds(&self, coordinator: &Coordinator) {
        let served = served(coordinator, &self.digest).await;
        assert!(served.is_some() || !self.whole, "an image that was whole is gone");
        if served.is_none() {
            let there = kept(coordinator, &self.digest).await;
            assert!(there >= self.kept, "{there} of {} bytes that were taken", self.kept);
        }
    }
}

/// An upload, and then the image's name.
#[derive(Clone)]
struct Add {
    upload: Upload,
    named: bool,
}

impl Story for Add {
    async fn tell(&mut self, coordinator: &Coordinator) -> Result<(), String> {
        self.upload.go_on(coordinator).await?;
        let request = fleet::AddImageRequest { name: "tiny".into(), digest: self.upload.digest.clone() };
        coordinator.images().add_image(request).await.map_err(|status| status.to_string())?;
        self.named = true;
        Ok(())
    }

    async fn holds(&self, coordinator: &Coordinator) {
        self.upload.holds(coordinator).await;
        let asked = coordinator.images().get_image(fleet::GetImageRequest { image: "tiny".into() }).await;
        assert!(asked.is_ok() || !self.named, "its name is gone");
    }
}

#[tokio::test]
async fn an_image_that_is_uploaded_and_named_survives_power_loss_at_every_change() {
    // From before the first start: the folder is made, too.
    let story = Add { upload: Upload::of(disk().0), named: false };
    let before = tempfile::tempdir().unwrap();
    survives(before, story).await;
}

/// As its host does it: the file first, then the report, until that is acknowledged.
#[derive(Clone)]
struct Snapshot {
    upload: Upload,
    agent: Agent,
    report: link::Report,
    acknowledged: bool,
}

impl Story for Snapshot {
    async fn tell(&mut self, coordinator: &Coordinator) -> Result<(), String> {
        self.upload.go_on(coordinator).await?;
        if !self.acknowledged {
            let (mut link, _) = self.agent.connect(coordinator).await;
            link.report(self.report.clone()).await;
            assert_eq!(link.ack().await, self.report.report_seq);
            self.acknowledged = true;
        }
        Ok(())
    }

    async fn holds(&self, coordinator: &Coordinator) {
        self.upload.holds(coordinator).await;
        let asked = coordinator.images().get_image(fleet::GetImageRequest { image: "web-1".into() }).await;
        assert_eq!(asked.is_ok(), self.acknowledged, "a row comes with its report");
    }
}

#[tokio::test]
async fn a_snapshot_that_is_uploaded_and_reported_survives_power_loss_at_every_change() {
    let coordinator = Coordinator::start().await;
    coordinator.image("tiny").await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&coordinator).await;
    coordinator.vms().create_vm(create_request("web")).await.unwrap();
    let deliver = link.deliver().await;
    agent.journal(&deliver);
    link.accept(deliver.seq).await;
    let report = agent.succeeded(&deliver);
    link.report(report).await;
    link.ack().await;
    let request = fleet::SnapshotVmRequest { vm: "web".into(), image_name: "web-1".into(), options: None };
    let asked = coordinator.vms().snapshot_vm(request).await.unwrap().into_inner();
    let deliver = link.deliver().await;
    agent.journal(&deliver);
    link.accept(deliver.seq).await;
    coordinator.wait_for_stage(&asked.event_id, "accepted").await;
    let report = agent.succeeded(&deliver);
    drop(link);
    let before = coordinator.crash().await;
    survives(before, Snapshot { upload: Upload::of(snapshot_bytes()), agent, report, acknowledged: false })
        .await;
}

#[derive(Clone)]
struct Remove {
    digest: String,
    removed: bool,
}

impl Story for Remove {
    async fn tell(&mut self, coordinator: &Coordinator) -> Result<(), String> {
        let request = fleet::RemoveImageRequest { image: self.digest.clone() };
        match coordinator.images().remove_image(request).await {
            // Somebody was told so already, or would have been.
            Err(status) if from_status(&status).reason != Reason::ImageNotFound => Err(status.to_string()),
            Ok(_) | Err(_) => {
                self.removed = true;
                Ok(())
            }
        }
    }

    async fn holds(&self, coordinator: &Coordinator) {
        if self.removed {
            assert_eq!(served(coordinator, &self.digest).await, None);
            assert_eq!(files_in(&coordinator.config().data_dir.join("images")), [""; 0].map(PathBuf::from));
            let asked = fleet::GetImageRequest { image: self.digest.clone() };
            let found = coordinator.images().get_image(asked).await;
            assert_eq!(reason(found), Reason::ImageNotFound);
        }
    }
}

#[tokio::test]
async fn an_image_that_is_removed_stays_removed_over_power_loss_at_every_change() {
    let coordinator = Coordinator::start().await;
    let digest = coordinator.image("tiny").await;
    let before = coordinator.crash().await;
    survives(before, Remove { digest, removed: false }).await;
}
