//! VMs that the journal does not know, as after a copy from before them was put back: found by their marks, adopted by a
//! person, and never disturbed.

use std::process::Output;

use dewpoint_proto::ids::VmId;
use dewpoint_tests::agent::{Agent, Link};
use dewpoint_tests::guest::Guest;
use dewpoint_tests::host::{Libvirt, started};
use dewpoint_tests::lab::{Lab, tiny_image};
use dewpoint_tests::wait::{BOOT, until};
use serde_json::Value;

fn said(done: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr))
}

fn submit(lab: &Lab, agent: &Agent, name: &str, text: &str) {
    let path = lab.dir().join(name);
    std::fs::write(&path, text).unwrap();
    let done = agent.command(&["submit", &path.to_string_lossy(), "--timeout", "90s"]);
    assert!(done.status.success(), "{}", said(&done));
}

fn create(lab: &Lab, vm: VmId, address: u8) -> String {
    format!(
        "kind = 'create'\nvm = '{vm}'\nname = '{name}'\nvcpus = 1\nmemory = '128MiB'\nimage = '{image}'\n\
         restart = 'always'\n[[nics]]\nmac = '52:54:00:12:35:{address:02x}'\naddresses = ['{cidr}']\ngateway4 = '{gateway}'\n",
        name = lab.name("stray"),
        image = tiny_image().display(),
        cidr = lab.cidr4(address),
        gateway = lab.ip4(1),
    )
}

#[tokio::test]
async fn vms_that_the_journal_lost_are_adopted_and_never_disturbed() {
    let lab = Lab::new();
    let mut agent = Agent::new(&lab, Link::Alone);
    agent.start().await;
    let (kept, unwanted) = (VmId::fresh(), VmId::fresh());
    submit(&lab, &agent, "kept.toml", &create(&lab, kept, 9));
    submit(&lab, &agent, "unwanted.toml", &format!("start = false\n{}", create(&lab, unwanted, 10)));
    let guest = Guest::at(lab.ip4(9));
    let before = guest.until_up().await;
    let libvirt = Libvirt::connect();
    let run = || libvirt.domain(&kept.to_string()).and_then(|domain| domain.qemu_pid()).and_then(started);
    let (running, row) = (run(), agent.json(&["vms"]));
    let row = row.as_array().unwrap().iter().find(|row| row["vm_id"] == kept.to_string()).unwrap().clone();
    assert_eq!(agent.json(&["orphans", "ls"])["orphans"], Value::Array(Vec::new()));

    agent.stop().await;
    let db = rusqlite::Connection::open(agent.data().join("agent.db")).unwrap();
    assert_eq!(db.execute("DELETE FROM vms", []).unwrap(), 2);
    drop(db);
    agent.start().await;
    assert_eq!(agent.json(&["vms"]), Value::Array(Vec::new()), "nothing is inferred");
    let listed = agent.json(&["orphans", "ls"]);
    assert_eq!(listed["orphans"].as_array().map(Vec::len), Some(2), "{listed}");
    let found = agent.command(&["doctor"]);
    assert_eq!(found.status.code(), Some(1));
    assert!(said(&found).contains("domain-orphan"), "{}", said(&found));

    let adopted = agent.command(&["orphans", "adopt", &kept.to_string()]);
    assert!(adopted.status.success(), "{}", said(&adopted));
    let again = agent.json(&["vms"]);
    assert_eq!(again[0], row, "as it was: generation, run, disk, wanted");
    assert_eq!(run(), running, "the VM was never touched");
    let told = agent.json(&["why", &kept.to_string()]);
    assert_eq!(told["now"]["keeping"]["policy"], "always", "with its policy: {told}");
    submit(&lab, &agent, "reboot.toml", &format!("kind = 'reboot'\nvm = '{kept}'\ntimeout = '60s'\n"));
    guest.until_rebooted(&before).await;

    let refused = agent.command(&["orphans", "remove", &unwanted.to_string()]);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    let ours = agent.command(&["orphans", "remove", &kept.to_string(), "--yes"]);
    assert_eq!(ours.status.code(), Some(4), "a VM of the journal is no orphan: {}", said(&ours));
    let removed = agent.command(&["orphans", "remove", &unwanted.to_string(), "--yes"]);
    assert!(removed.status.success(), "{}", said(&removed));
    assert_eq!(libvirt.domain(&unwanted.to_string()), None);
    let recycled = agent.json(&["recycle", "ls"]);
    assert_eq!(recycled[0]["vm_id"], unwanted.to_string(), "{recycled}");
    assert_eq!(agent.json(&["orphans", "ls"])["orphans"], Value::Array(Vec::new()));
    let sound = agent.command(&["doctor"]);
    assert_eq!(sound.status.code(), Some(0), "{}", said(&sound));
}

#[tokio::test]
async fn a_vm_that_somebody_undefined_is_back_when_a_person_says_so() {
    let lab = Lab::new();
    let mut agent = Agent::new(&lab, Link::Alone);
    agent.start().await;
    let vm = VmId::fresh();
    submit(&lab, &agent, "web.toml", &create(&lab, vm, 11));
    let guest = Guest::at(lab.ip4(11));
    let before = guest.until_up().await;
    let libvirt = Libvirt::connect();
    let domain = libvirt.domain(&vm.to_string()).unwrap();
    let mark = ["generation", "disk", "seed"].map(|name| domain.mark(name));
    libvirt.remove(&domain);
    let found = agent.command(&["doctor"]);
    assert!(said(&found).contains("domain-missing"), "{}", said(&found));
    assert_eq!(libvirt.domain(&vm.to_string()), None, "nobody has said so yet");

    until("the domain is defined again", BOOT, async || {
        let mended = agent.command(&["doctor", "--repair", "--yes"]);
        libvirt.domain(&vm.to_string()).map(drop).ok_or_else(|| said(&mended))
    })
    .await;
    let domain = libvirt.domain(&vm.to_string()).unwrap();
    assert_eq!(["generation", "disk", "seed"].map(|name| domain.mark(name)), mark);
    guest.until_rebooted(&before).await;
    until("all sides agree", BOOT, async || {
        let sound = agent.command(&["doctor"]);
        if sound.status.code() == Some(0) { Ok(()) } else { Err(said(&sound)) }
    })
    .await;
}
