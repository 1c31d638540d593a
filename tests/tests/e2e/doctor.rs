//! `doctor` on a real host: what a person or another program did behind our back is found, told, and repaired when asked.

use std::os::unix::fs::PermissionsExt;
use std::process::Output;

use dewpoint_proto::ids::VmId;
use dewpoint_tests::agent::{Agent, Link};
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::guest::Guest;
use dewpoint_tests::host::{Libvirt, rules, started};
use dewpoint_tests::lab::{Lab, tiny_image};
use dewpoint_tests::wait::{EVENT, until};
use dewpoint_tests::{request, shell};
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

fn create(lab: &Lab, vm: VmId) -> String {
    format!(
        "kind = 'create'\nvm = '{vm}'\nname = '{name}'\nvcpus = 1\nmemory = '128MiB'\nimage = '{image}'\n\
         [[nics]]\nmac = '52:54:00:12:34:58'\naddresses = ['{address}']\ngateway4 = '{gateway}'\n",
        name = lab.name("ill"),
        image = tiny_image().display(),
        address = lab.cidr4(9),
        gateway = lab.ip4(1),
    )
}

/// The findings' codes, sorted, and the exit status.
fn found(agent: &Agent, args: &[&str]) -> (Vec<String>, i32, Value) {
    let args: Vec<_> = ["doctor", "--json"].iter().chain(args).copied().collect();
    let done = agent.command(&args);
    let document: Value =
        serde_json::from_slice(&done.stdout).unwrap_or_else(|error| panic!("{error}: {}", said(&done)));
    let codes = document["findings"].as_array().unwrap().iter();
    let mut codes: Vec<String> = codes.map(|found| found["code"].as_str().unwrap().to_owned()).collect();
    codes.sort();
    (codes, done.status.code().unwrap_or(-1), document)
}

fn nothing(found: (Vec<String>, i32, Value)) {
    assert_eq!((found.0, found.1), (Vec::new(), 0), "{}", found.2);
}

#[tokio::test]
async fn what_was_done_behind_our_back_is_found_and_repaired_and_the_guest_never_notices() {
    let lab = Lab::new();
    let mut agent = Agent::new(&lab, Link::Alone);
    agent.start().await;
    let vm = VmId::fresh();
    submit(&lab, &agent, "create.toml", &create(&lab, vm));
    let guest = Guest::at(lab.ip4(9));
    let before = guest.until_up().await;
    let libvirt = Libvirt::connect();
    let domain = libvirt.domain(&vm.to_string()).unwrap();
    let run = domain.qemu_pid().and_then(started);
    nothing(found(&agent, &[]));

    // A network restart, a firewall, an eager colleague, a restored backup, a crash.
    let tap = domain.tap().unwrap();
    shell::run("ip", ["link", "set", "dev", &tap, "nomaster"]);
    shell::run("nft", ["delete", "table", "bridge", &lab.table()]);
    shell::run("virsh", ["-c", "qemu:///system", "autostart", &vm.to_string()]);
    let folder = agent.vm_dir(&vm.to_string());
    let disk = folder.join(format!("{}.qcow2", domain.mark("disk").unwrap()));
    std::fs::set_permissions(&disk, std::fs::Permissions::from_mode(0o600)).unwrap();
    let part = folder.join(format!("{}.qcow2.part", VmId::fresh()));
    std::fs::write(&part, "half").unwrap();
    let all = ["access", "autostart", "leftover-files", "shield-missing", "tap-off-bridge"];
    let (codes, status, document) = found(&agent, &[]);
    assert_eq!((codes, status), (all.map(str::to_owned).to_vec(), 1), "{document}");
    for finding in document["findings"].as_array().unwrap() {
        assert!(
            !finding["evidence"].as_array().unwrap().is_empty() && finding["repair"].is_string(),
            "{finding}"
        );
    }
    let text = said(&agent.command(&["doctor"]));
    assert!(text.contains("2 severe, 2 warnings, 1 note\n") && text.contains("--repair"), "{text}");

    // Looking changed nothing, and nobody was asked.
    let refused = agent.command(&["doctor", "--repair"]);
    assert_eq!(refused.status.code(), Some(4), "{}", said(&refused));
    assert!(said(&refused).contains("--yes"), "{}", said(&refused));
    assert_eq!(found(&agent, &[]).0.len(), all.len());

    let (codes, status, document) = found(&agent, &["--repair", "--yes"]);
    assert_eq!((codes, status), (vec!["quarantined".to_owned()], 0), "{document}");
    assert_eq!(document["repairs"].as_array().map(Vec::len), Some(all.len()), "{document}");
    assert!(rules(&lab).contains(&tap), "{}", rules(&lab));
    assert!(!part.exists() && disk.exists());
    let log = std::fs::read_to_string(agent.data().join("mended.log")).unwrap();
    assert!(all.iter().all(|code| log.contains(code)), "{log}");
    let after = guest.until_up().await;
    assert_eq!(after.boot_id, before.boot_id, "the guest was never disturbed");
    assert_eq!(libvirt.domain(&vm.to_string()).unwrap().qemu_pid().and_then(started), run);
}

#[tokio::test]
async fn with_the_daemon_down_the_doctor_looks_repairs_and_keeps_the_agent_out() {
    let lab = Lab::new();
    let mut agent = Agent::new(&lab, Link::Alone);
    agent.start().await;
    let vm = VmId::fresh();
    submit(&lab, &agent, "create.toml", &format!("start = false\n{}", create(&lab, vm)));
    agent.stop().await;
    nothing(found(&agent, &[]));

    // QEMU and libvirt died together: the tap is left. Somebody deleted the seed. Rules of a VM that is long gone.
    let tap = dewpoint_agent::network::tap_name(vm, 0).to_string();
    shell::run("ip", ["tuntap", "add", "dev", &tap, "mode", "tap"]);
    let folder = agent.vm_dir(&vm.to_string());
    let seed = std::fs::read_dir(&folder).unwrap().flatten().map(|entry| entry.path());
    let seed = seed.into_iter().find(|path| path.extension().is_some_and(|ext| ext == "seed")).unwrap();
    let before = std::fs::read(&seed).unwrap();
    std::fs::remove_file(&seed).unwrap();
    shell::run("nft", ["add", "element", "bridge", &lab.table(), "taps", "{", "\"dp0123456789a0\"", "}"]);
    let (codes, status, document) = found(&agent, &[]);
    assert_eq!(codes, ["seed-missing", "shield-stale", "tap-stale"], "{document}");
    assert_eq!(status, 1);

    let (codes, status, document) = found(&agent, &["--repair", "--yes"]);
    assert_eq!((codes, status), (Vec::<String>::new(), 0), "{document}");
    assert_eq!(std::fs::read(&seed).unwrap(), before, "the same seed: the guest sees no new instance");
    assert!(!shell::attempt("ip", ["link", "show", "dev", &tap]));
    submit_down(&lab, &mut agent, vm).await;
}

/// The VM starts from what was repaired.
async fn submit_down(lab: &Lab, agent: &mut Agent, vm: VmId) {
    agent.start().await;
    submit(lab, agent, "start.toml", &format!("kind = 'start'\nvm = '{vm}'\n"));
    Guest::at(lab.ip4(9)).until_up().await;
    nothing(found(agent, &["--vm", &vm.to_string()]));
}

#[tokio::test]
async fn the_coordinators_view_is_compared_too_and_missed_when_it_is_away() {
    let mut fleet = Fleet::start().await;
    fleet.caller.done(request::vm_left_off(&fleet.lab.name("web"))).await;
    // Until it has acknowledged the report, the two may differ.
    until("all sides agree", EVENT, async || {
        let (codes, _, document) = found(&fleet.agent, &[]);
        if codes.is_empty() { Ok(()) } else { Err(document) }
    })
    .await;
    fleet.coordinator.kill();
    let (codes, status, document) = found(&fleet.agent, &[]);
    assert_eq!((codes, status), (vec!["not-seen".to_owned()], 1), "{document}");
    assert_eq!(document["findings"][0]["subject"], "coordinator", "and nothing else is inferred");
}
