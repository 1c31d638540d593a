//! A VM that was destroyed by mistake comes back from the recycle folder, on the host alone and with a coordinator.

use std::process::Output;

use dewpoint_proto::ids::VmId;
use dewpoint_tests::agent::{Agent, Link};
use dewpoint_tests::guest::Guest;
use dewpoint_tests::lab::{Lab, tiny_image};
use serde_json::Value;

fn submit(agent: &Agent, file: &str) {
    let done = agent.command(&["submit", file, "--timeout", "90s"]);
    assert!(done.status.success(), "{}", said(&done));
}

fn said(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

fn write(lab: &Lab, name: &str, text: &str) -> String {
    let path = lab.dir().join(name);
    std::fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

fn create(lab: &Lab, vm: VmId) -> String {
    format!(
        "kind = 'create'\nvm = '{vm}'\nname = '{name}'\nvcpus = 1\nmemory = '128MiB'\nimage = '{image}'\n\
         [[nics]]\nmac = '52:54:00:12:34:57'\naddresses = ['{address}']\ngateway4 = '{gateway}'\n",
        name = lab.name("lost"),
        image = tiny_image().display(),
        address = lab.cidr4(9),
        gateway = lab.ip4(1),
    )
}

fn one(listed: &Value) -> &Value {
    match listed.as_array().map(Vec::as_slice) {
        Some([one]) => one,
        _ => panic!("one disk was expected: {listed}"),
    }
}

#[tokio::test]
async fn a_vm_destroyed_by_mistake_is_back_with_two_commands() {
    let lab = Lab::new();
    let mut agent = Agent::new(&lab, Link::Alone);
    agent.start().await;
    let vm = VmId::fresh();
    submit(&agent, &write(&lab, "create.toml", &create(&lab, vm)));
    let guest = Guest::at(lab.ip4(9));
    let before = guest.until_up().await;
    guest.mark("precious").await;
    submit(&agent, &write(&lab, "destroy.toml", &format!("kind = 'destroy'\nvm = '{vm}'\n")));

    // With the daemon down, too: what is there, and the copy.
    agent.stop().await;
    let listed = agent.json(&["recycle", "ls"]);
    let kept = one(&listed);
    assert_eq!((&kept["vm_id"], &kept["name"]), (&vm.to_string().into(), &lab.name("lost").into()));
    let id = kept["disk"].as_str().unwrap();
    let destroy = agent.json(&["events"])[0]["event_id"].clone();
    assert_eq!(kept["by"], destroy, "the event that put it there");
    for args in [&["recycle", "ls"][..], &["recycle", "show", id]] {
        let text = said(&agent.command(args));
        let wide = text.lines().find(|line| line.chars().count() > 80 && !line.contains('/'));
        assert!(text.contains(id) && wide.is_none(), "{args:?} fits 80 columns: {text}");
    }
    let to = lab.dir().join("back.qcow2").to_string_lossy().into_owned();
    let restored = agent.json(&["recycle", "restore", id, "--to", &to]);
    assert_eq!(restored["event_kind"], "create");

    agent.start().await;
    submit(&agent, restored["event_file"].as_str().unwrap());
    let after = guest.until_up().await;
    assert_eq!(after.marker.as_deref(), Some("precious"), "what was on the disk is back");
    assert_eq!((after.hostname, after.instance_id), (before.hostname, before.instance_id));
    assert_eq!(after.boots, before.boots + 1, "the same disk, started once more");
    one(&agent.json(&["recycle", "ls"]));

    // Nothing goes for good without a word.
    let refused = agent.command(&["recycle", "purge", id]);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    assert!(said(&refused).contains("--yes"), "{}", said(&refused));
    assert!(String::from_utf8_lossy(&refused.stdout).contains(id), "it says what it would delete");
    one(&agent.json(&["recycle", "ls"]));
    let kept = agent.json(&["recycle", "purge", "--older-than", "1h", "--yes"]);
    assert_eq!(kept["purged"], Value::Array(Vec::new()), "it is younger");
    let purged = agent.json(&["recycle", "purge", id, "--yes"]);
    assert_eq!(one(&purged["purged"])["disk"], id);
    assert_eq!(agent.json(&["recycle", "ls"]), Value::Array(Vec::new()));
    let empty = said(&agent.command(&["recycle", "ls"]));
    assert!(empty.contains("nothing is in recycle; kept for 7days within 100 GiB"), "{empty}");
    let receipts = std::fs::read_to_string(agent.data().join("recycle/receipts.log")).unwrap();
    assert!(receipts.contains("\"why\":\"person\"") && receipts.contains(id), "{receipts}");
    assert!(guest.facts().await.is_ok(), "the VM that was built from it lives on");
}
