//! An event is made once, and `--wait` ends with its outcome, whatever happens to the coordinator meanwhile.

use dewpoint::Exit;
use tonic::Status;

use crate::fake::{Answer, EVENT, Fake, Told, failed, record, running, succeeded};
use crate::run::{run, run_live, start};

const CREATE: [&str; 7] = ["vm", "create", "web", "--image", "debian-12", "--event-id", EVENT];

fn waiting(more: &[&'static str]) -> Vec<&'static str> {
    [&CREATE[..], &["--wait"], more].concat()
}

#[test]
fn without_waiting_the_event_is_named_and_left_to_go_on() {
    let fake = Fake::start();
    let ran = run(&fake.url, &CREATE);
    assert_eq!(ran.exit, Exit::Ok);
    assert!(ran.out.starts_with("create web: assigned on hv1\n"), "{}", ran.out);
    assert!(ran.out.contains(EVENT), "{}", ran.out);
    assert!(fake.state.asked("watch_events").is_empty());
}

#[test]
fn progress_goes_to_stderr_and_the_outcome_to_stdout() {
    let fake = Fake::start();
    fake.with(|script| {
        script.watches.push_back(vec![
            Told::Event(record("create", "assigned")),
            Told::SnapshotComplete,
            Told::Event(running("fetch-image", 0, 1 << 30)),
            Told::Event(running("fetch-image", 1 << 29, 1 << 30)),
            Told::Event(running("define", 0, 0)),
            Told::Event(succeeded()),
        ]);
    });
    let ran = run(&fake.url, &waiting(&[]));
    assert_eq!(ran.exit, Exit::Ok);
    assert!(ran.out.starts_with("create web: succeeded on hv1 after 12s\n"), "{}", ran.out);
    assert!(ran.err.contains("create web: running on hv1: fetch-image, 0% of 1 GiB\n"), "{}", ran.err);
    assert!(ran.err.contains("create web: running on hv1: define\n"), "{}", ran.err);
    // The answer to the request and the watch's first word say the same: it is said once.
    assert_eq!(ran.err.matches("create web: assigned on hv1\n").count(), 1, "{}", ran.err);
}

#[test]
fn at_a_terminal_the_outcome_is_in_colour_and_progress_leaves_no_lines() {
    let fake = Fake::start();
    fake.with(|script| {
        script.watches.extend([
            vec![Told::Event(running("fetch-image", 5, 10)), Told::Break],
            vec![Told::Event(running("define", 0, 0)), Told::Event(succeeded())],
        ]);
    });
    let ran = run_live(&fake.url, &waiting(&[]));
    assert_eq!(ran.exit, Exit::Ok);
    let green = "create web: \u{1b}[32msucceeded on hv1 after 12s\u{1b}[0m\n";
    // Whoever runs the tests may have asked for no colour.
    let wanted = if std::env::var_os("NO_COLOR").is_some() { "create web: succeeded" } else { green };
    assert!(ran.out.starts_with(wanted), "{:?}", ran.out);
    assert!(!ran.err.contains("define"), "{}", ran.err);
    assert!(ran.err.contains("lost the coordinator"), "{}", ran.err);
}

#[test]
fn with_json_stdout_is_the_event_as_it_ended_and_nothing_else() {
    let fake = Fake::start();
    fake.with(|script| {
        script.watches.push_back(vec![Told::Event(running("define", 0, 0)), Told::Event(succeeded())])
    });
    let ran = run(&fake.url, &waiting(&["--json"]));
    let event = ran.json();
    assert_eq!(event["event_id"], EVENT);
    assert_eq!(event["outcome"]["end"], "succeeded");
    assert_eq!(event["finished_at"], "2023-11-14T22:13:32.000Z");
    assert_eq!(ran.err, "");
}

#[test]
fn an_event_that_fails_fails_the_command_with_its_cause() {
    let fake = Fake::start();
    fake.with(|script| script.watches.push_back(vec![Told::Event(failed())]));
    let ran = run(&fake.url, &waiting(&[]));
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.out.starts_with("create web: failed on hv1\n"), "{}", ran.out);
    let error = "error: create web failed: the image could not be fetched (IMAGE_UNAVAILABLE)\n  next: check the image server\n";
    assert!(ran.err.ends_with(error), "{}", ran.err);
}

#[test]
fn a_broken_watch_is_opened_again_and_says_so() {
    let fake = Fake::start();
    fake.with(|script| {
        script.watches.extend([
            vec![Told::Event(running("define", 0, 0)), Told::Break],
            vec![Told::Event(running("start", 0, 0)), Told::Fail(Status::resource_exhausted("fell behind"))],
            // An end without a word.
            vec![],
            vec![Told::Event(succeeded())],
        ]);
    });
    let ran = run(&fake.url, &waiting(&[]));
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    assert!(ran.err.contains("lost the coordinator"), "{}", ran.err);
    assert!(ran.err.contains("the coordinator is back"), "{}", ran.err);
    assert_eq!(fake.state.asked("watch_events").len(), 4);
}

#[test]
fn the_outcome_is_not_lost_when_the_coordinator_is_killed_and_comes_back() {
    let fake = Fake::start();
    fake.with(|script| script.watches.push_back(vec![Told::Event(running("define", 0, 0)), Told::Silence]));
    let (url, address) = (fake.url.clone(), fake.address);
    let command = start(&url, &waiting(&["--timeout", "60s"]));
    fake.state.wait_until_asked("watch_events");
    drop(fake);
    let fake = Fake::at(address);
    fake.with(|script| script.watches.push_back(vec![Told::Event(succeeded())]));
    let ran = command.join().unwrap();
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    assert!(ran.out.starts_with("create web: succeeded"), "{}", ran.out);
}

#[test]
fn a_lost_answer_is_asked_for_again_with_the_same_id() {
    let fake = Fake::start();
    fake.with(|script| script.answers.push_back(Answer::Never));
    let (url, address) = (fake.url.clone(), fake.address);
    // No id is given: the command makes one.
    let command = start(&url, &["vm", "destroy", "web", "--now"]);
    fake.state.wait_until_asked("destroy");
    let first = fake.state.asked("destroy");
    drop(fake);
    let fake = Fake::at(address);
    let ran = command.join().unwrap();
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    assert!(ran.err.contains("asking again with the same event id"), "{}", ran.err);
    assert_eq!(fake.state.asked("destroy"), first);
}

#[test]
fn waiting_ends_with_its_bound_and_the_event_goes_on() {
    let fake = Fake::start();
    fake.with(|script| script.watches.push_back(vec![Told::Event(running("define", 0, 0)), Told::Silence]));
    let ran = run(&fake.url, &waiting(&["--timeout", "300ms"]));
    assert_eq!(ran.exit, Exit::Failed);
    assert!(ran.err.contains("(WAIT_TIMED_OUT)"), "{}", ran.err);
    assert!(ran.err.ends_with(&format!("follow it with `dewpoint event watch {EVENT}`\n")), "{}", ran.err);
}

#[test]
fn a_coordinator_that_stays_away_is_unreachable_in_the_end() {
    let fake = Fake::start();
    fake.with(|script| script.watches.push_back(vec![Told::Event(running("define", 0, 0)), Told::Silence]));
    let url = fake.url.clone();
    let command = start(&url, &waiting(&["--timeout", "2s"]));
    fake.state.wait_until_asked("watch_events");
    drop(fake);
    let ran = command.join().unwrap();
    assert_eq!(ran.exit, Exit::Unreachable, "{ran:?}");
    assert!(ran.err.contains(EVENT), "{}", ran.err);
}

#[test]
fn verbs_say_on_the_wire_what_was_asked() {
    let fake = Fake::start();
    let asked = |args: &[&str], method: &str| {
        let ran = run(&fake.url, &[args, &["--event-id", EVENT]].concat());
        assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
        fake.state.asked(method).pop().unwrap().replace(&format!("{method} {EVENT} "), "")
    };
    assert_eq!(asked(&["vm", "start", "web"], "start"), "web");
    assert_eq!(
        asked(&["vm", "stop", "web", "--force", "--timeout", "90s"], "stop"),
        "web force=true timeout=90"
    );
    assert_eq!(asked(&["vm", "reboot", "web", "--hard"], "reboot"), "web hard=true");
    assert_eq!(asked(&["vm", "snapshot", "web", "--name", "web-1"], "snapshot"), "web web-1");
    assert_eq!(asked(&["vm", "restore", "web", "--image", "web-1"], "restore"), "web web-1");
    assert_eq!(asked(&["vm", "destroy", "web"], "destroy"), "web now=false");
    assert_eq!(asked(&["event", "cancel", EVENT], "cancel"), EVENT);
}

#[test]
fn a_create_carries_everything_to_the_coordinator() {
    let fake = Fake::start();
    fake.with(|script| script.answers.push_back(Answer::With(record("create", "pending"))));
    let folder = tempfile::tempdir().unwrap();
    let (key, data) = (folder.path().join("id.pub"), folder.path().join("user-data"));
    std::fs::write(&key, "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ0 me\n").unwrap();
    std::fs::write(&data, b"#cloud-config\n\xff").unwrap();
    let args = [
        "--vcpus",
        "2",
        "--memory",
        "2GiB",
        "--disk",
        "10G",
        "--network",
        "lan,ip=192.0.2.5",
        "--network",
        "wan",
        "--ssh-key-file",
        key.to_str().unwrap(),
        "--user-data",
        data.to_str().unwrap(),
        "--label",
        "team=a",
        "--full-copy",
        "--movable",
        "--off",
        "--restart",
        "always",
        "--wait-for-capacity",
        "--not-after",
        "2023-11-14T22:13:20Z",
    ];
    assert_eq!(run(&fake.url, &[&CREATE[..], &args].concat()).exit, Exit::Ok);
    let sent = fake.with(|script| script.created.pop().unwrap());
    assert_eq!(sent.options.as_ref().unwrap().event_id, EVENT);
    assert_eq!(sent.options.as_ref().unwrap().not_after_ms, 1_700_000_000_000);
    assert_eq!((sent.vcpus, sent.memory_bytes, sent.disk_bytes), (2, 2 << 30, 10 << 30));
    assert_eq!(sent.nics[0].address4, "192.0.2.5");
    assert_eq!(sent.nics[1].network, "wan");
    assert_eq!(sent.ssh_keys, ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ0 me"]);
    assert_eq!(&sent.user_data[..], b"#cloud-config\n\xff");
    assert_eq!(sent.labels["team"], "a");
    assert!(sent.leave_off && sent.wait_for_capacity && sent.disk_mode == 1 && sent.placement == 1);
    assert_eq!(sent.restart(), dewpoint_proto::wire::event::Restart::Always);
}
