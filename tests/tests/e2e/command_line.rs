//! The operator's command against a real fleet: how it ends, what it prints for people and for programs.

use std::process::Output;

use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::lab::tiny_image;
use dewpoint_tests::process::binary;
use dewpoint_tests::shell;
use serde_json::Value;

const DONE: i32 = 0;
const FAILED: i32 = 1;
const USAGE: i32 = 2;
const UNREACHABLE: i32 = 3;
const REFUSED: i32 = 4;

struct Operator<'a>(&'a Fleet);

impl Operator<'_> {
    fn run(&self, args: &[&str]) -> Output {
        let at = ["--coordinator", self.0.coordinator.url()];
        shell::output(&binary("dewpoint").to_string_lossy(), args.iter().copied().chain(at))
    }

    /// Runs a command that must end so, and gives what it printed and what it complained of.
    fn ends(&self, status: i32, args: &[&str]) -> (String, String) {
        let done = self.run(args);
        let (said, errors) = (text(&done.stdout), text(&done.stderr));
        assert_eq!(done.status.code(), Some(status), "dewpoint {args:?}\n{said}{errors}");
        (said, errors)
    }

    /// Runs it with `--json`; it must print one document.
    fn json(&self, args: &[&str]) -> Value {
        let args: Vec<_> = args.iter().copied().chain(["--json"]).collect();
        let (said, _) = self.ends(DONE, &args);
        serde_json::from_str(&said).unwrap_or_else(|error| panic!("dewpoint {args:?}: {error}: {said}"))
    }

    /// A refusal names its reason for programs, and says to people what to do next.
    fn refused(&self, reason: &str, args: &[&str]) {
        let (_, errors) = self.ends(REFUSED, args);
        assert!(errors.contains(reason), "dewpoint {args:?} names {reason}: {errors}");
        let args: Vec<_> = args.iter().copied().chain(["--json"]).collect();
        let (_, errors) = self.ends(REFUSED, &args);
        let error: Value =
            serde_json::from_str(errors.trim()).unwrap_or_else(|e| panic!("{args:?}: {e}: {errors}"));
        let cause = error.get("error").unwrap_or(&error);
        assert_eq!(cause["reason"], reason, "{error}");
        assert!(
            cause["advice"].as_str().is_some_and(|advice| !advice.is_empty()),
            "what to do next: {error}"
        );
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn an_operator_does_everything_with_one_command() {
    let fleet = Fleet::start().await;
    let operator = Operator(&fleet);
    let image = tiny_image();
    operator.ends(DONE, &["image", "add", &image.to_string_lossy(), "--name", "again"]);
    let web = fleet.lab.name("web");
    let create =
        ["vm", "create", &web, "--image", "again", "--memory", "128MiB", "--network", "lab", "--wait"];
    operator.ends(DONE, &create);
    let vm = operator.json(&["vm", "show", &web]);
    let id = vm["vm_id"].as_str().unwrap_or_else(|| panic!("{vm}")).to_owned();
    assert!(fleet.domain(&id).active);

    operator.ends(DONE, &["vm", "reboot", &web, "--hard", "--wait"]);
    operator.ends(DONE, &["vm", "snapshot", &web, "--name", "taken", "--wait"]);
    operator.ends(DONE, &["vm", "restore", &web, "--image", "taken", "--wait"]);
    operator.ends(DONE, &["vm", "stop", &web, "--force", "--timeout", "1s", "--wait"]);
    assert!(!fleet.domain(&id).active);
    operator.ends(DONE, &["vm", "start", &web, "--wait"]);
    // Its guest has not booted, so it cannot hear: the event fails, and the command with it.
    let (said, errors) = operator.ends(FAILED, &["vm", "stop", &web, "--timeout", "1s", "--wait"]);
    assert!(format!("{said}{errors}").contains("GUEST_IGNORED_REQUEST"), "{said}{errors}");

    let events = operator.json(&["event", "ls"]);
    let newest = events["events"][0]["event_id"].as_str().unwrap_or_else(|| panic!("{events}")).to_owned();
    assert_eq!(operator.json(&["event", "show", &newest])["stage"], "failed");
    let lists: [&[&str]; 11] = [
        &["host", "ls"],
        &["vm", "ls"],
        &["vm", "show", &web],
        &["image", "ls"],
        &["image", "show", "taken"],
        &["network", "ls"],
        &["network", "show", "lab"],
        &["event", "ls"],
        &["event", "show", &newest],
        &["event", "ls", "--vm", &web],
        &["vm", "ls", "--gone"],
    ];
    for args in lists {
        let (said, _) = operator.ends(DONE, args);
        let wide = said.lines().find(|line| line.chars().count() > 80);
        assert!(!said.trim().is_empty() && wide.is_none(), "{args:?} fits 80 columns:\n{said}");
        operator.json(args);
    }

    operator.ends(DONE, &["vm", "destroy", &web, "--now", "--wait"]);
    fleet.assert_gone(&id, None);
    operator.ends(DONE, &["image", "rm", "taken"]);
}

#[tokio::test]
async fn every_way_to_fail_has_its_exit_status_and_names_its_cause() {
    let fleet = Fleet::start().await;
    let operator = Operator(&fleet);
    operator.ends(USAGE, &["vm", "explode"]);
    operator.ends(USAGE, &["vm", "create"]);
    operator.ends(USAGE, &["vm", "ls", "--colour"]);

    operator.refused("VM_NOT_FOUND", &["vm", "show", "nobody"]);
    operator.refused("EVENT_NOT_FOUND", &["event", "show", "018f3c5e-7c1a-7d3e-9a5b-2f6d8c4b1a90"]);
    operator.refused("IMAGE_NOT_FOUND", &["vm", "create", "web", "--image", "nothing"]);
    operator
        .refused("NETWORK_NOT_FOUND", &["vm", "create", "web", "--image", "tiny", "--network", "nothing"]);
    operator.refused("NO_CAPACITY", &["vm", "create", "web", "--image", "tiny", "--memory", "15TiB"]);
    operator.refused("INVALID", &["vm", "create", "../web", "--image", "tiny"]);
    operator.refused("HOST_NOT_FOUND", &["host", "cordon", "nowhere"]);

    let hosts = operator.json(&["host", "ls"]);
    let host = hosts["hosts"][0]["host_id"].as_str().unwrap_or_else(|| panic!("{hosts}")).to_owned();
    operator.ends(DONE, &["host", "cordon", &host, "--reason", "to be mended"]);
    operator.refused("NO_CAPACITY", &["vm", "create", "web", "--image", "tiny", "--memory", "128MiB"]);
    operator.ends(DONE, &["host", "uncordon", &host]);

    let nowhere = format!("http://{}", fleet.lab.listen(1));
    let lost =
        shell::output(&binary("dewpoint").to_string_lossy(), ["host", "ls", "--coordinator", &nowhere]);
    assert_eq!(lost.status.code(), Some(UNREACHABLE), "{}", text(&lost.stderr));
}
