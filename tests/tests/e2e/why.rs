//! `dewpoint-agent why`: a VM's story from the real thing, with the daemon up and down.

use dewpoint_proto::ids::VmId;
use dewpoint_tests::agent::{Agent, Link};
use dewpoint_tests::host::Libvirt;
use dewpoint_tests::lab::{Lab, tiny_image};
use dewpoint_tests::wait::{SOON, until};
use serde_json::Value;

fn submit(lab: &Lab, agent: &Agent, name: &str, text: &str) {
    let path = lab.dir().join(name);
    std::fs::write(&path, text).unwrap();
    let done = agent.command(&["submit", &path.to_string_lossy(), "--timeout", "60s"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

fn of<'a>(story: &'a Value, what: &'a str) -> impl Iterator<Item = &'a Value> {
    story["items"].as_array().into_iter().flatten().filter(move |item| item["what"] == what)
}

fn names(story: &Value, what: &str, name: &str) -> Vec<String> {
    of(story, what).filter_map(|item| item[name].as_str().map(str::to_owned)).collect()
}

#[tokio::test]
async fn a_vms_story_has_its_steps_calls_and_states_with_the_daemon_up_and_down() {
    let lab = Lab::new();
    let mut agent = Agent::new(&lab, Link::Alone);
    agent.start().await;
    let (vm, name) = (VmId::fresh(), lab.name("why"));
    let create = format!(
        "kind = 'create'\nvm = '{vm}'\nname = '{name}'\nvcpus = 1\nmemory = '128MiB'\nimage = '{}'\n",
        tiny_image().display()
    );
    submit(&lab, &agent, "create.toml", &create);
    // QEMU is killed behind the agent's back: libvirt tells, and the next look sees it.
    let qemu = Libvirt::connect().domain(&vm.to_string()).and_then(|domain| domain.qemu_pid()).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(qemu).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let up = until("the story has the crash", SOON, async || {
        let story = agent.json(&["why", &name]);
        let crashed = names(&story, "told", "words").iter().any(|words| words.starts_with("stopped/"));
        if crashed { Ok(story) } else { Err(story.to_string()) }
    })
    .await;
    submit(&lab, &agent, "start.toml", &format!("kind = 'start'\nvm = '{vm}'"));

    let steps = names(&up, "step", "step");
    for step in ["make-disk", "define", "start"] {
        assert!(steps.iter().any(|known| known == step), "{step}: {steps:?}");
    }
    assert!(of(&up, "step").all(|step| step["end"]["end"] == "returned" && step["took_ms"].is_u64()), "{up}");
    for call in ["define", "start", "observe"] {
        let made =
            of(&up, "call").find(|known| known["call"] == call).unwrap_or_else(|| panic!("{call}: {up}"));
        assert!(made["took_us"].as_u64().is_some_and(|took| took > 0) && made["result"] == "well", "{made}");
    }
    assert!(names(&up, "state", "now").contains(&"running".to_owned()), "{up}");
    assert_eq!(up["now"]["daemon_down"], Value::Null);

    // The log says the same, with the same fields in every line.
    let log = std::fs::read_to_string(agent.log()).unwrap();
    let (event, vm_id) = (names(&up, "accepted", "event_id").remove(0), format!("vm_id={vm}"));
    for said in ["accepted", "begun", "step begun", "step returned", "succeeded"] {
        let is = |line: &&str| line.contains(&format!(" INFO {said} ")) && line.contains(&event);
        let line = log.lines().find(is).unwrap_or_else(|| panic!("no line says `{said}` of {event}:\n{log}"));
        assert!(line.contains(&vm_id) && line.contains("kind=create"), "{line}");
    }

    agent.kill();
    let down = agent.json(&["why", &vm.to_string()]);
    assert_eq!(down["now"]["daemon_down"]["reason"], "UNREACHABLE");
    assert_eq!(down["now"]["observed"]["power"], "running", "libvirt is asked: {down}");
    assert_eq!(names(&down, "ended", "kind"), ["create", "start"]);
    let text = agent.command(&["why", &name]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert_eq!(text.lines().find(|line| line.chars().count() > 80), None, "fits 80 columns:\n{text}");
    for part in ["create", "libvirt start", "state: ", "libvirt tells: stopped/", "now, ", "next"] {
        assert!(text.contains(part), "{part}:\n{text}");
    }
    let nobody = agent.command(&["why", "no-such-vm"]);
    assert_eq!(nobody.status.code(), Some(4), "{}", String::from_utf8_lossy(&nobody.stderr));

    agent.start().await;
    submit(&lab, &agent, "destroy.toml", &format!("kind = 'destroy'\nvm = '{vm}'\nnow = true"));
    let gone = agent.json(&["why", &vm.to_string(), "--all"]);
    assert_eq!(gone["vm"]["presence"], "gone", "{gone}");
    assert_eq!(gone["now"]["observed"]["seen"], "absent");
}
