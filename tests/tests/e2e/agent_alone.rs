//! An agent without any coordinator: events from files, and the commands, with the daemon up and down.

use dewpoint_proto::ids::VmId;
use dewpoint_tests::agent::{Agent, Link};
use dewpoint_tests::guest::Guest;
use dewpoint_tests::host::{Libvirt, files};
use dewpoint_tests::lab::{Lab, tiny_image};
use serde_json::Value;

struct Alone {
    agent: Agent,
    libvirt: Libvirt,
    lab: Lab,
}

impl Alone {
    async fn start() -> Self {
        let lab = Lab::new();
        let mut agent = Agent::new(&lab, Link::Alone);
        agent.start().await;
        Self { agent, libvirt: Libvirt::connect(), lab }
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.lab.dir().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_string_lossy().into_owned()
    }

    /// Submits, and waits for its end: exit status, what was printed, what was complained.
    fn submit(&self, name: &str, text: &str) -> (i32, String, String) {
        let file = self.file(name, text);
        let done = self.agent.command(&["submit", &file, "--timeout", "60s"]);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.code().unwrap_or(-1), text(&done.stdout), text(&done.stderr))
    }

    fn create(&self, vm: VmId) -> String {
        format!(
            "kind = 'create'\nvm = '{vm}'\nname = '{name}'\nvcpus = 1\nmemory = '128MiB'\nimage = '{image}'\n\
             [[nics]]\nmac = '52:54:00:12:34:56'\naddresses = ['{address}']\ngateway4 = '{gateway}'\n",
            name = self.lab.name("alone"),
            image = tiny_image().display(),
            address = self.lab.cidr4(9),
            gateway = self.lab.ip4(1),
        )
    }
}

#[tokio::test]
async fn events_from_files_build_reboot_snapshot_restore_and_remove_a_vm() {
    let alone = Alone::start().await;
    let vm = VmId::fresh();
    let (status, said, errors) = alone.submit("create.toml", &alone.create(vm));
    assert_eq!(status, 0, "{said}{errors}");
    let guest = Guest::at(alone.lab.ip4(9));
    let before = guest.until_up().await;
    assert_eq!((before.hostname, before.instance_id), (alone.lab.name("alone"), vm.to_string()));
    let before = guest.until_up().await;

    let reboot = format!("{{\"kind\":\"reboot\",\"vm\":\"{vm}\",\"timeout\":\"60s\"}}");
    let (status, said, errors) = alone.submit("reboot.json", &reboot);
    assert_eq!(status, 0, "{said}{errors}");
    guest.until_rebooted(&before).await;

    guest.until_up().await;
    guest.mark("before the snapshot").await;
    let (status, said, errors) =
        alone.submit("snapshot.toml", &format!("kind = 'snapshot'\nvm = '{vm}'\nnote = 'to come back to'"));
    assert_eq!(status, 0, "{said}{errors}");
    assert!(said.contains("crash consistent"), "how far it can be trusted: {said}");
    let digest = said.lines().find_map(|line| line.trim().strip_prefix("image")).unwrap().trim();
    guest.mark("after the snapshot").await;
    let taken = guest.until_up().await;
    let (status, said, errors) =
        alone.submit("restore.toml", &format!("kind = 'restore'\nvm = '{vm}'\nimage = '{digest}'"));
    assert_eq!(status, 0, "{said}{errors}");
    let restored = guest.until_rebooted(&taken).await;
    assert_eq!(restored.marker.as_deref(), Some("before the snapshot"));

    let (status, _, errors) = alone.submit("again.toml", &alone.create(vm));
    assert_eq!(status, 4, "a VM that exists is refused: {errors}");
    assert!(errors.contains("VM_EXISTS"), "{errors}");
    let (status, _, errors) = alone.submit("wrong.toml", "kind = 'explode'");
    assert_eq!(status, 4, "{errors}");

    let (status, said, errors) =
        alone.submit("destroy.toml", &format!("kind = 'destroy'\nvm = '{vm}'\nnow = true"));
    assert_eq!(status, 0, "{said}{errors}");
    assert_eq!(alone.libvirt.domain(&vm.to_string()), None);
    assert!(files(&alone.agent.data().join("vms")).is_empty());
}

#[tokio::test]
async fn the_commands_that_read_work_with_the_daemon_up_and_down() {
    let mut alone = Alone::start().await;
    let vm = VmId::fresh();
    let create =
        format!("{}\nstart = false", alone.create(vm).replace("[[nics]]", "start = false\n[[nics]]"));
    let create = create.trim_end_matches("\nstart = false").to_owned();
    let (status, said, errors) = alone.submit("create.toml", &create);
    assert_eq!(status, 0, "{said}{errors}");

    let up = readings(&alone.agent);
    assert_eq!(up.status["daemon"], "up");
    assert_eq!(up.status["host_id"], up.host_id["host_id"]);
    alone.agent.kill();
    let down = readings(&alone.agent);
    assert_eq!(down.status["daemon"], "down");
    assert_eq!((&down.host_id, &down.events, &down.event), (&up.host_id, &up.events, &up.event));
    assert_eq!(down.vms[0]["vm_id"], vm.to_string());
    assert_eq!(down.vms[0]["power"], "off", "libvirt is asked, with the daemon down");
    assert_eq!(down.event["stage"], "finished");
    assert!(down.event["entries"].as_array().is_some_and(|entries| entries.len() > 3), "{}", down.event);

    let file = alone.file("stop.toml", &format!("kind = 'stop'\nvm = '{vm}'"));
    let refused = alone.agent.command(&["submit", &file]);
    assert_eq!(refused.status.code(), Some(3), "not reachable: {}", String::from_utf8_lossy(&refused.stderr));
    for args in [&["status"][..], &["vms"], &["events"], &["event", "show", up.id()], &["host-id"]] {
        let shown = alone.agent.command(args);
        let text = String::from_utf8_lossy(&shown.stdout).into_owned();
        assert!(shown.status.success() && !text.trim().is_empty(), "{args:?}");
        let wide = text.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{args:?} fits 80 columns");
    }
}

#[tokio::test]
async fn a_configuration_that_is_wrong_is_named_and_ends_with_78() {
    let alone = Alone::start().await;
    let good = alone.agent.json(&["check-config"]);
    assert_eq!(good["network"]["bridge"], alone.lab.bridge());
    let text = std::fs::read_to_string(alone.agent.config()).unwrap();
    std::fs::write(alone.agent.config(), format!("{text}\nbrigde = 'x'\n")).unwrap();
    for command in ["check-config", "run"] {
        let wrong = alone.agent.command(&[command]);
        assert_eq!(wrong.status.code(), Some(78), "{command}");
        let errors = String::from_utf8_lossy(&wrong.stderr).into_owned();
        assert!(errors.contains("brigde"), "{command} names the key: {errors}");
    }
}

struct Readings {
    status: Value,
    vms: Value,
    events: Value,
    event: Value,
    host_id: Value,
}

impl Readings {
    fn id(&self) -> &str {
        self.event["event_id"].as_str().unwrap()
    }
}

fn readings(agent: &Agent) -> Readings {
    let events = agent.json(&["events"]);
    let id = events[0]["event_id"].as_str().unwrap_or_else(|| panic!("no event: {events}")).to_owned();
    Readings {
        status: agent.json(&["status"]),
        vms: agent.json(&["vms"]),
        event: agent.json(&["event", "show", &id]),
        host_id: agent.json(&["host-id"]),
        events,
    }
}
