//! Images from a server that breaks, lies, or says nothing.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::spec::ImageRef;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::http::{Answer, Server};
use super::support::{Lab, open, tree};
use crate::storage::{JobProgress, Seen, Storage};

/// An image as the coordinator names it, and its bytes.
fn remote(lab: &Lab) -> (ImageRef, Vec<u8>) {
    let mut image = lab.qcow2("image.qcow2");
    let bytes = fs::read(image.local_path.take().unwrap()).unwrap();
    (image, bytes)
}

fn impatient() -> Lab {
    Lab::with(|settings| settings.stall = Duration::from_millis(300))
}

#[tokio::test]
async fn a_broken_download_resumes_where_it_broke() {
    let lab = Lab::new();
    let (image, bytes) = remote(&lab);
    let piece = bytes.len() / 4 + 1;
    let served = bytes.clone();
    let server = Server::start(move |request, _| Answer::file(&served, request).cut(piece)).await;
    let progress = JobProgress::default();
    lab.files.fetch_image(&image, Some(&server.address), &progress).await.unwrap();

    assert_eq!(fs::read(lab.data("images").join(image.digest.to_string())).unwrap(), bytes);
    assert_eq!(progress.get(), (image.size_bytes, image.size_bytes));
    let begins: Vec<_> = server.requests().iter().map(|request| request.begin().unwrap_or(0)).collect();
    assert_eq!(begins, [0, piece, 2 * piece, 3 * piece], "no byte was fetched twice");
}

#[tokio::test]
async fn a_new_agent_goes_on_with_what_the_old_one_had() {
    let lab = Lab::new();
    let (image, bytes) = remote(&lab);
    let half = bytes.len() / 2;
    let part = lab.data("images").join(format!("{}.part", image.digest));
    fs::write(&part, &bytes[..half]).unwrap();
    let served = bytes.clone();
    let server = Server::start(move |request, _| Answer::file(&served, request)).await;
    let files = open(&lab.settings, None);
    files.fetch_image(&image, Some(&server.address), &JobProgress::default()).await.unwrap();
    assert_eq!(server.requests()[0].begin(), Some(half));
}

#[tokio::test]
async fn a_spoiled_part_is_fetched_anew() {
    let lab = Lab::new();
    let (image, bytes) = remote(&lab);
    let part = lab.data("images").join(format!("{}.part", image.digest));
    fs::write(&part, vec![0; bytes.len() / 2]).unwrap();
    let server = Server::start(move |request, _| Answer::file(&bytes, request)).await;
    lab.files.fetch_image(&image, Some(&server.address), &JobProgress::default()).await.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_server_without_ranges_does_too() {
    let lab = Lab::new();
    let (image, bytes) = remote(&lab);
    let half = bytes.len() / 2;
    let server = Server::start(move |_, number| {
        let whole = Answer::new(200, bytes.clone());
        if number == 0 { whole.cut(half) } else { whole }
    })
    .await;
    lab.files.fetch_image(&image, Some(&server.address), &JobProgress::default()).await.unwrap();
    assert_eq!(lab.files.image(image.digest).await, Seen::There(()));
}

#[tokio::test]
async fn wrong_bytes_are_refused_and_leave_no_file() {
    let lab = Lab::new();
    let (image, mut bytes) = remote(&lab);
    *bytes.last_mut().unwrap() ^= 1;
    let longer = [&bytes[..], b"more"].concat();
    for served in [bytes, longer] {
        let server = Server::start(move |request, _| Answer::file(&served, request)).await;
        let refused = lab.files.fetch_image(&image, Some(&server.address), &JobProgress::default()).await;
        let cause = refused.unwrap_err();
        assert_eq!(cause.reason, Reason::DigestMismatch);
        assert!(!cause.advice.is_empty());
        assert_eq!(tree(&lab.data("images")), Vec::<String>::new());
        assert_eq!(lab.files.image(image.digest).await, Seen::Absent);
    }
}

#[tokio::test]
async fn a_server_that_says_more_than_it_should_is_cut_off() {
    let lab = Lab::new();
    let (image, bytes) = remote(&lab);
    // Claims the right length in its headers' absence: a body without end, as far as the client knows.
    let server = Server::start(move |_, _| {
        let mut answer = Answer::new(206, [&bytes[..], &[0; 4096]].concat());
        answer.headers.push(("content-range", format!("bytes 0-{}/{}", bytes.len() - 1, bytes.len())));
        answer
    })
    .await;
    let refused = lab.files.fetch_image(&image, Some(&server.address), &JobProgress::default()).await;
    assert_eq!(refused.unwrap_err().reason, Reason::DigestMismatch);
    assert_eq!(tree(&lab.data("images")), Vec::<String>::new());
}

#[tokio::test]
async fn a_silent_server_is_given_up_and_what_came_is_kept() {
    let lab = impatient();
    let (image, bytes) = remote(&lab);
    let half = bytes.len() / 2;
    let served = bytes.clone();
    let server = Server::start(move |request, number| {
        let file = Answer::file(&served, request);
        if number == 0 { file.cut(half).hang() } else { file.cut(0).hang() }
    })
    .await;
    let progress = JobProgress::default();
    let fetching = lab.files.fetch_image(&image, Some(&server.address), &progress);
    let cause = timeout(Duration::from_secs(20), fetching).await.unwrap().unwrap_err();
    assert_eq!(cause.reason, Reason::ImageUnavailable);
    let part = lab.data("images").join(format!("{}.part", image.digest));
    assert_eq!(fs::read(part).unwrap(), bytes[..half]);
}

#[tokio::test]
async fn errors_of_the_server_are_told_apart() {
    let lab = impatient();
    let (image, bytes) = remote(&lab);
    let missing = Server::start(|_, _| Answer::new(404, "")).await;
    let refused = lab.files.fetch_image(&image, Some(&missing.address), &JobProgress::default()).await;
    assert_eq!(refused.unwrap_err().reason, Reason::ImageUnavailable);
    assert_eq!(missing.requests().len(), 1, "it would say so again");

    let elsewhere = Server::start(|_, _| Answer::new(302, "").with("location", "http://127.0.0.1:1/")).await;
    let refused = lab.files.fetch_image(&image, Some(&elsewhere.address), &JobProgress::default()).await;
    assert!(refused.unwrap_err().text.contains("302"));

    let nobody = lab.files.fetch_image(&image, None, &JobProgress::default()).await;
    assert_eq!(nobody.unwrap_err().reason, Reason::ImageUnavailable);

    let busy = Server::start(
        move |request, number| {
            if number == 0 { Answer::new(503, "") } else { Answer::file(&bytes, request) }
        },
    )
    .await;
    lab.files.fetch_image(&image, Some(&busy.address), &JobProgress::default()).await.unwrap();
}

#[tokio::test]
async fn those_who_want_the_same_image_share_one_download() {
    let lab = Lab::new();
    let (image, bytes) = remote(&lab);
    let server = Server::start(move |request, _| Answer::file(&bytes, request)).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (files, image, server) = (lab.files.clone(), image.clone(), server.address.clone());
        callers.spawn(async move {
            let progress = JobProgress::default();
            files.fetch_image(&image, Some(&server), &progress).await.unwrap();
            progress.get()
        });
    }
    let ends = callers.join_all().await;
    assert!(ends.iter().all(|end| *end == (image.size_bytes, image.size_bytes)), "{ends:?}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn another_caller_goes_on_when_the_first_one_is_gone() {
    let lab = Lab::new();
    let (image, bytes) = remote(&lab);
    let half = bytes.len() / 2;
    let came = Arc::new(Notify::new());
    let told = Arc::clone(&came);
    let server = Server::start(move |request, number| {
        told.notify_one();
        let file = Answer::file(&bytes, request);
        if number == 0 { file.cut(half).hang() } else { file }
    })
    .await;
    let fetch = |lab: &Lab| {
        let (files, image, server) = (lab.files.clone(), image.clone(), server.address.clone());
        tokio::spawn(async move { files.fetch_image(&image, Some(&server), &JobProgress::default()).await })
    };
    let first = fetch(&lab);
    timeout(Duration::from_secs(20), came.notified()).await.unwrap();
    let second = fetch(&lab);
    first.abort();
    timeout(Duration::from_secs(20), second).await.unwrap().unwrap().unwrap();
    assert_eq!(lab.files.image(image.digest).await, Seen::There(()));
}

#[tokio::test]
async fn a_local_image_is_a_regular_file_with_the_right_bytes() {
    let lab = Lab::new();
    let image = lab.qcow2("image.qcow2");
    std::os::unix::fs::symlink(lab.path("image.qcow2"), lab.path("link")).unwrap();
    super::support::run("mkfifo", &[lab.path("fifo").to_str().unwrap()]);
    for name in ["link", "fifo", "missing", "data"] {
        let local_path = Some(lab.path(name).to_str().unwrap().to_owned());
        let asked = ImageRef { local_path, ..image.clone() };
        let refused = lab.files.fetch_image(&asked, None, &JobProgress::default()).await;
        assert_eq!(refused.unwrap_err().reason, Reason::ImageUnavailable, "{name}");
    }
    let mut bytes = fs::read(lab.path("image.qcow2")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(lab.path("image.qcow2"), bytes).unwrap();
    let refused = lab.files.fetch_image(&image, None, &JobProgress::default()).await;
    assert_eq!(refused.unwrap_err().reason, Reason::DigestMismatch);
    assert_eq!(tree(&lab.data("images")), Vec::<String>::new());
}

#[tokio::test]
async fn a_part_that_nobody_goes_on_with_is_swept_and_one_in_use_is_not() {
    let lab = Lab::new();
    let (image, bytes) = remote(&lab);
    let images = lab.data("images");
    let in_use = images.join(format!("{}.part", image.digest));
    let abandoned = images.join(format!("{}.part", "ab".repeat(32)));
    let theirs = images.join("backup.part");
    for path in [&in_use, &abandoned, &theirs] {
        fs::write(path, &bytes[..1000]).unwrap();
    }
    let now = dewpoint_proto::time::Millis::now();
    assert_eq!(lab.files.sweep_images(now).await.unwrap(), 0, "it is not old yet");

    let later = dewpoint_proto::time::Millis(now.0 + 2 * 24 * 3600 * 1000);
    // As a fetch has it, from before it opens the part until its last write.
    let turn = lab.files.inner.downloads.try_turn(image.digest).unwrap();
    assert_eq!(lab.files.sweep_images(later).await.unwrap(), 1);
    assert!(in_use.exists() && theirs.exists() && !abandoned.exists());
    drop(turn);
    assert_eq!(lab.files.sweep_images(later).await.unwrap(), 1, "nobody fetches it any more");
    assert!(!in_use.exists() && theirs.exists());
}
