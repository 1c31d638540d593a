//! Exit statuses, and errors that name the cause and the next thing to do.

use dewpoint::{Exit, Sink, Streams};
use dewpoint_proto::cause::Reason;
use serde_json::{Value, json};
use tonic::Status;

use crate::fake::{Answer, Fake, refusal};
use crate::run::{ClosedPipe, Ran, run};

const NOBODY: &str = "http://127.0.0.1:1";

#[track_caller]
fn error_of(ran: &Ran) -> Value {
    assert_eq!(ran.out, "", "an error is no result");
    let error: Value = serde_json::from_str(&ran.err).unwrap_or_else(|error| panic!("{error}: {ran:?}"));
    error["error"].clone()
}

#[test]
fn a_command_line_that_cannot_be_understood_is_usage() {
    for args in [
        &["vm", "explode"][..],
        &["vm"],
        &[],
        &["vm", "ls", "--frobnicate"],
        &["vm", "create", "web"],
        &["host", "hold"],
    ] {
        let ran = run(NOBODY, args);
        assert_eq!(ran.exit, Exit::Usage, "{args:?}: {ran:?}");
        assert_eq!(ran.out, "", "{args:?}");
        assert!(ran.err.contains("Usage:"), "{args:?}: {}", ran.err);
    }
    assert_eq!(error_of(&run(NOBODY, &["vm", "ls", "--json", "--frobnicate"]))["reason"], "USAGE");
}

#[test]
fn help_and_version_are_results() {
    let version = run(NOBODY, &["--version"]);
    assert_eq!(
        (version.exit, version.out.as_str()),
        (Exit::Ok, concat!("dewpoint ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    let help = run(NOBODY, &["vm", "create", "--help"]);
    assert_eq!(help.exit, Exit::Ok);
    assert!(help.out.contains("--wait-for-capacity") && help.err.is_empty());
}

#[test]
fn a_value_that_does_not_fit_is_refused_before_anything_is_sent() {
    let ran = run(NOBODY, &["vm", "create", "Web!", "--image", "debian-12"]);
    assert_eq!(ran.exit, Exit::Refused);
    assert_eq!(
        ran.err,
        "error: `Web!` is not a VM name (INVALID)\n  next: use 1 to 63 lower-case letters, digits and `-`, neither \
         first nor last a `-` (RFC 1123)\n"
    );
    for (args, word) in [
        (&["vm", "create", "web", "--image", "x", "--memory", "2GB"][..], "2GB"),
        (&["vm", "create", "web", "--image", "x", "--memory", "1MiB"], "memory_bytes"),
        (&["vm", "create", "web", "--image", "x", "--vcpus", "0"], "vcpus"),
        (&["vm", "create", "web", "--image", "x", "--network", "lan,ip=300.0.0.1"], "ip="),
        (&["vm", "create", "web", "--image", "x", "--label", "a=1", "--label", "a=2"], "given twice"),
        (&["vm", "create", "web", "--image", "x", "--user-data", "/nonexistent"], "/nonexistent"),
        (&["vm", "stop", "web", "--timeout", "3h"], "cannot be given"),
        (
            &["network", "create", "lan", "--subnet4", "192.0.2.0/24", "--gateway4", "10.0.0.1"],
            "not in 192.0.2.0/24",
        ),
        (&["network", "create", "lan", "--subnet4", "2001:db8::/64"], "other family"),
        (&["event", "show", "7"], "is not an event id"),
    ] {
        let ran = run(NOBODY, args);
        assert_eq!(ran.exit, Exit::Refused, "{args:?}: {ran:?}");
        assert!(ran.err.contains(word), "{args:?}: {}", ran.err);
    }
}

#[test]
fn a_coordinator_that_is_not_there_is_told_from_one_that_refuses() {
    let ran = run(NOBODY, &["vm", "ls"]);
    assert_eq!(ran.exit, Exit::Unreachable);
    assert!(
        ran.err.starts_with("error: the coordinator at http://127.0.0.1:1 does not answer: "),
        "{}",
        ran.err
    );
    assert!(ran.err.contains("refused") && ran.err.contains("(UNREACHABLE)\n  next: "), "{}", ran.err);
    assert_eq!(run("unix:///nonexistent.sock", &["vm", "ls"]).exit, Exit::Unreachable);
}

#[test]
fn a_unix_socket_will_do() {
    let folder = tempfile::tempdir().unwrap();
    let fake = Fake::start();
    let url = fake.also_at(&folder.path().join("c.sock"));
    let ran = run(&url, &["vm", "ls"]);
    assert_eq!((ran.exit, ran.out.split_whitespace().next()), (Exit::Ok, Some("NAME")), "{ran:?}");
}

#[test]
fn plaintext_beyond_this_machine_is_refused_unless_asked_for() {
    let ran = run("http://192.0.2.1:7400", &["vm", "ls", "--json"]);
    assert_eq!(ran.exit, Exit::Refused);
    assert_eq!(error_of(&ran)["reason"], "PLAINTEXT_REFUSED");
}

#[test]
fn what_the_coordinator_refuses_comes_with_its_reason_and_advice() {
    let fake = Fake::start();
    let refuse = || {
        Answer::Refuse(refusal(Reason::NoCapacity, "no host fits: 3 of 3 lack memory", "ask for less memory"))
    };
    fake.with(|script| script.answers.extend([refuse(), refuse()]));
    let args = ["vm", "create", "web", "--image", "debian-12"];
    let ran = run(&fake.url, &args);
    assert_eq!(ran.exit, Exit::Refused);
    assert_eq!(
        ran.err,
        "error: no host fits: 3 of 3 lack memory (NO_CAPACITY)\n  next: ask for less memory\n"
    );
    let ran = run(&fake.url, &[&args[..], &["--json"]].concat());
    assert_eq!(
        error_of(&ran),
        json!({"reason": "NO_CAPACITY", "text": "no host fits: 3 of 3 lack memory", "advice": "ask for less memory", "fields": {}})
    );
    for args in [
        &["vm", "show", "db"][..],
        &["host", "show", "hv9"],
        &["image", "show", "x"],
        &["network", "show", "x"],
        &["network", "rm", "lan"],
    ] {
        assert_eq!(run(&fake.url, args).exit, Exit::Refused, "{args:?}");
    }
}

#[test]
fn what_broke_inside_is_a_failure() {
    let fake = Fake::start();
    fake.with(|script| script.answers.push_back(Answer::Refuse(Status::internal("a bug"))));
    let ran = run(&fake.url, &["vm", "start", "web"]);
    assert_eq!((ran.exit, ran.err.as_str()), (Exit::Failed, "error: a bug (INTERNAL)\n"));
}

#[test]
fn a_reader_that_went_away_ends_it_quietly() {
    let fake = Fake::start();
    let mut err = Vec::new();
    let mut streams =
        Streams { out: &mut ClosedPipe, err: &mut err, out_is: Sink::Plain, err_is: Sink::Plain };
    let line = ["dewpoint", "--coordinator", &fake.url, "vm", "ls"].map(Into::into);
    assert_eq!(dewpoint::run(line, &mut streams), Exit::Ok);
    assert!(err.is_empty(), "{}", String::from_utf8_lossy(&err));
}
