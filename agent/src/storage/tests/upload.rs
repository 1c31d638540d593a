//! Images to a server that breaks, forgets, and refuses.

use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::ImageRef;

use super::http::{Answer, Request, Server};
use super::support::Lab;
use crate::storage::{JobProgress, Seen, Storage};

/// What a server has of one image.
#[derive(Default)]
struct Store {
    bytes: Vec<u8>,
    whole: bool,
}

/// The protocol, without faults.
fn answer(store: &Mutex<Store>, request: &Request, total: usize) -> Answer {
    let mut store = store.lock().unwrap();
    if request.method == "HEAD" {
        let status = if store.whole { 200 } else { 404 };
        return Answer::new(status, "").with("upload-offset", store.bytes.len());
    }
    if store.whole {
        return Answer::new(201, "");
    }
    if request.begin() != Some(store.bytes.len()) {
        return Answer::new(409, "").with("upload-offset", store.bytes.len());
    }
    store.bytes.extend_from_slice(&request.body);
    store.whole = store.bytes.len() == total;
    if store.whole {
        Answer::new(201, "")
    } else {
        Answer::new(202, "").with("upload-offset", store.bytes.len())
    }
}

async fn cached(lab: &Lab) -> (ImageRef, Vec<u8>) {
    let image = lab.fetched().await;
    (image.clone(), fs::read(image.local_path.unwrap()).unwrap())
}

#[tokio::test]
async fn an_image_is_put_once() {
    let lab = Lab::new();
    let (image, bytes) = cached(&lab).await;
    let (store, total) = (Arc::new(Mutex::new(Store::default())), bytes.len());
    let serving = Arc::clone(&store);
    let server = Server::start(move |request, _| answer(&serving, request, total)).await;
    assert_eq!(lab.files.uploaded(image.digest, &server.address).await, Seen::Absent);
    for _ in 0..2 {
        let progress = JobProgress::default();
        lab.files.upload(&image, &server.address, &progress).await.unwrap();
        assert_eq!(progress.get(), (image.size_bytes, image.size_bytes));
    }
    assert_eq!(lab.files.uploaded(image.digest, &server.address).await, Seen::There(()));
    assert_eq!(store.lock().unwrap().bytes, bytes);
    assert_eq!(server.requests().iter().filter(|request| request.method == "PUT").count(), 1);
}

#[tokio::test]
async fn a_broken_upload_resumes_where_the_server_stands() {
    let lab = Lab::new();
    let (image, bytes) = cached(&lab).await;
    let total = bytes.len();
    let had = Store { bytes: bytes[..1000].to_vec(), whole: false };
    let store = Arc::new(Mutex::new(had));
    let serving = Arc::clone(&store);
    // The first PUT is stored by half, and answered with a failure; one HEAD fails as well.
    let server = Server::start(move |request, number| match (number, request.method.as_str()) {
        (1, "PUT") => {
            serving.lock().unwrap().bytes.extend_from_slice(&request.body[..5000]);
            Answer::new(500, "")
        }
        (2, _) => Answer::new(503, ""),
        _ => answer(&serving, request, total),
    })
    .await;
    lab.files.upload(&image, &server.address, &JobProgress::default()).await.unwrap();
    assert_eq!(store.lock().unwrap().bytes, bytes);
    let begins: Vec<_> = server.requests().iter().filter_map(Request::begin).collect();
    assert_eq!(begins, [1000, 6000]);
}

#[tokio::test]
async fn what_a_servers_power_cut_spoiled_is_sent_once_more() {
    let lab = Lab::new();
    let (image, bytes) = cached(&lab).await;
    let total = bytes.len();
    for is_spoiled_again in [false, true] {
        // It has the length of what was sent before, and not its bytes.
        let store = Arc::new(Mutex::new(Store { bytes: vec![0; 1000], whole: false }));
        let (serving, right) = (Arc::clone(&store), bytes.clone());
        let server = Server::start(move |request, _| {
            let answered = answer(&serving, request, total);
            let mut store = serving.lock().unwrap();
            if !store.whole || (store.bytes == right && !is_spoiled_again) {
                return answered;
            }
            *store = Store::default();
            let told = Cause::new(Reason::DigestMismatch, "the bytes sent have another digest");
            Answer::new(422, serde_json::to_vec(&told).unwrap())
        })
        .await;
        let ended = lab.files.upload(&image, &server.address, &JobProgress::default()).await;
        let begins: Vec<_> = server.requests().iter().filter_map(Request::begin).collect();
        assert_eq!(begins, [1000, 0], "once more, and not for ever");
        if is_spoiled_again {
            assert_eq!(ended.unwrap_err().reason, Reason::DigestMismatch);
        } else {
            ended.unwrap();
            assert_eq!(store.lock().unwrap().bytes, bytes);
        }
    }
}

#[tokio::test]
async fn a_refusal_comes_back_as_the_server_told_it() {
    let lab = Lab::new();
    let (image, _) = cached(&lab).await;
    for (status, reason) in [(422, Reason::DigestMismatch), (507, Reason::DiskFull)] {
        let told = Cause::new(reason.clone(), "no").advise("do this");
        let body = serde_json::to_vec(&told).unwrap();
        let server = Server::start(move |request, _| match request.method.as_str() {
            "HEAD" => Answer::new(404, ""),
            _ => Answer::new(status, body.clone()),
        })
        .await;
        let cause = lab.files.upload(&image, &server.address, &JobProgress::default()).await.unwrap_err();
        assert_eq!((cause.reason, cause.advice.as_str()), (reason, "do this"));
        assert_eq!(server.requests().len(), 2, "what is refused is not tried again");
    }
}

#[tokio::test]
async fn a_server_that_takes_nothing_is_given_up() {
    let lab = Lab::with(|settings| settings.stall = Duration::from_millis(200));
    let (image, _) = cached(&lab).await;
    let server = Server::start(|request, _| match request.method.as_str() {
        "HEAD" => Answer::new(404, ""),
        _ => Answer::new(409, "").with("upload-offset", 0),
    })
    .await;
    let progress = JobProgress::default();
    let uploading = lab.files.upload(&image, &server.address, &progress);
    let cause = tokio::time::timeout(Duration::from_secs(20), uploading).await.unwrap().unwrap_err();
    assert_eq!(cause.reason, Reason::ImageUnavailable);
    assert!(matches!(
        lab.files.uploaded(image.digest, &crate::storage::ImageServer("http://127.0.0.1:1".into())).await,
        Seen::Unknown(_)
    ));
}
