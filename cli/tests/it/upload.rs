//! `image add`: the bytes arrive whole, once, whatever breaks on the way.

use dewpoint::Exit;
use tempfile::NamedTempFile;

use crate::fake::Fake;
use crate::image_server::{Held, ImageServer, Next};
use crate::run::{Ran, run};

const SIZE: usize = 3 * 1024 * 1024 + 17;

fn image() -> (NamedTempFile, Vec<u8>) {
    let bytes: Vec<u8> = (0..SIZE).map(|at| (at / 7 % 251) as u8).collect();
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &bytes).unwrap();
    (file, bytes)
}

struct Added {
    ran: Ran,
    fake: Fake,
    held: Held,
    bytes: Vec<u8>,
}

fn add(prepare: impl FnOnce(&mut Held)) -> Added {
    let (file, bytes) = image();
    let (fake, server) = (Fake::start(), ImageServer::start());
    fake.with(|script| script.image_server = server.url.clone());
    prepare(&mut server.held.lock().unwrap());
    let ran = run(&fake.url, &["image", "add", file.path().to_str().unwrap(), "--name", "tiny"]);
    let held = std::mem::take(&mut *server.held.lock().unwrap());
    Added { ran, fake, held, bytes }
}

#[track_caller]
fn assert_whole(added: &Added) {
    assert_eq!(added.ran.exit, Exit::Ok, "{:?}", added.ran);
    assert!(added.held.complete && added.held.bytes == added.bytes, "{} bytes", added.held.bytes.len());
    assert_eq!(added.fake.state.asked("add_image").len(), 1);
    assert!(added.fake.state.asked("add_image")[0].starts_with("add_image tiny "));
}

#[test]
fn an_image_is_put_in_one_piece_under_its_digest() {
    let added = add(|_| {});
    assert_whole(&added);
    let asked = &added.held.asked;
    assert_eq!(asked.len(), 2, "{asked:?}");
    let digest = added.fake.state.asked("add_image")[0].replace("add_image tiny ", "");
    assert_eq!(asked[0], format!("HEAD /images/{digest}"));
    assert_eq!(asked[1], format!("PUT /images/{digest} bytes 0-{}/{SIZE}", SIZE - 1));
}

#[test]
fn an_image_that_is_there_is_not_sent_again() {
    let added = add(|held| held.complete = true);
    assert_eq!(added.ran.exit, Exit::Ok, "{:?}", added.ran);
    assert_eq!(added.held.asked.len(), 1);
    assert_eq!(added.fake.state.asked("add_image").len(), 1);
}

#[test]
fn a_broken_upload_goes_on_where_it_broke() {
    let added = add(|held| {
        held.next.extend([Next::BreakAfter(1_000_000), Next::Take, Next::BreakAfter(500_000)]);
    });
    assert_whole(&added);
    assert!(added.ran.err.contains("going on where it stopped"), "{}", added.ran.err);
    let puts = added.held.asked.iter().filter(|asked| asked.starts_with("PUT"));
    let froms: Vec<&str> = puts.map(|put| put.split(['-', ' ']).nth(3).unwrap()).collect();
    // After a break, first so little that a refusal could be read.
    assert_eq!(froms, ["0", "1000000", "1016384", "1516384", "1532768"]);
}

#[test]
fn an_upload_that_an_earlier_command_began_is_finished() {
    let (_, bytes) = image();
    let added = add(|held| held.bytes = bytes[..2_000_000].to_vec());
    assert_whole(&added);
    assert_eq!(added.held.asked.len(), 2);
    // All bytes were there, and only their check was missing.
    let added = add(|held| held.bytes.clone_from(&bytes));
    assert_whole(&added);
    assert!(added.held.asked[1].ends_with(&format!("bytes */{SIZE}")), "{:?}", added.held.asked);
}

/// A power cut took what the server had not synced; the file itself is good.
#[test]
fn what_a_power_cut_spoiled_is_sent_again_once() {
    let mismatch = r#"{"reason":"DIGEST_MISMATCH","text":"the bytes are not those of the digest","advice":"read it again"}"#;
    let added = add(|held| {
        held.bytes = vec![0; 2_000_000];
        held.next.push_back(Next::Drop(mismatch));
    });
    assert_whole(&added);
    assert!(added.ran.err.contains("sending all of it again"), "{}", added.ran.err);
    let added = add(|held| {
        held.bytes = vec![0; 2_000_000];
        held.next.extend([Next::Drop(mismatch), Next::Drop(mismatch)]);
    });
    assert_eq!(added.ran.exit, Exit::Refused, "{:?}", added.ran);
}

#[test]
fn a_refusal_is_told_with_its_cause() {
    let mismatch = r#"{"reason":"DIGEST_MISMATCH","text":"the bytes are not those of the digest","advice":"read it again"}"#;
    // The first answer may go under in the reset that follows it; the probe reads the second.
    let twice =
        |status, body| move |held: &mut Held| held.next.extend([(); 2].map(|()| Next::Answer(status, body)));
    let added = add(twice("422 Unprocessable Content", mismatch));
    assert_eq!(added.ran.exit, Exit::Refused, "{:?}", added.ran);
    assert!(
        added
            .ran
            .err
            .contains("the bytes are not those of the digest (DIGEST_MISMATCH)\n  next: read it again\n")
    );
    assert!(added.fake.state.asked("add_image").is_empty());
    let added = add(twice("507 Insufficient Storage", ""));
    assert_eq!(added.ran.exit, Exit::Refused);
    assert!(added.ran.err.contains("(DISK_FULL)"), "{}", added.ran.err);
}

#[test]
fn what_passes_is_waited_out() {
    let locked = r#"{"reason":"TOO_BUSY","text":"another uploads this image"}"#;
    let added = add(|held| {
        held.next.extend([
            Next::Answer("503 Service Unavailable", ""),
            Next::Answer("423 Locked", locked),
            Next::Answer("408 Request Timeout", ""),
        ]);
    });
    assert_whole(&added);
    assert!(added.ran.err.contains("(another uploads this image)"), "{}", added.ran.err);
}

#[test]
fn what_is_no_image_file_is_refused_here() {
    let (fake, server) = (Fake::start(), ImageServer::start());
    fake.with(|script| script.image_server = server.url.clone());
    let empty = NamedTempFile::new().unwrap();
    for (path, word) in [
        ("/nonexistent", "/nonexistent"),
        ("/tmp", "not a regular file"),
        (empty.path().to_str().unwrap(), "0 bytes"),
    ] {
        let ran = run(&fake.url, &["image", "add", path]);
        assert_eq!(ran.exit, Exit::Refused, "{ran:?}");
        assert!(ran.err.contains(word), "{}", ran.err);
    }
    assert!(server.held.lock().unwrap().asked.is_empty());
}

#[test]
fn plaintext_holds_for_the_image_server_too() {
    let (file, _) = image();
    let fake = Fake::start();
    fake.with(|script| script.image_server = "http://192.0.2.1:7401".into());
    let ran = run(&fake.url, &["image", "add", file.path().to_str().unwrap()]);
    assert_eq!(ran.exit, Exit::Refused);
    assert!(ran.err.contains("(PLAINTEXT_REFUSED)"), "{}", ran.err);
}

#[test]
fn a_name_for_bytes_that_are_there_needs_no_file() {
    let fake = Fake::start();
    let digest = "ab".repeat(32);
    assert_eq!(run(&fake.url, &["image", "add", "--digest", &digest, "--name", "tiny"]).exit, Exit::Ok);
    assert_eq!(fake.state.asked("add_image"), [format!("add_image tiny {digest}")]);
}
