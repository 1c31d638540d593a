//! What is shown: tables that fit, keys that can be copied, one JSON document, and no secrets.

use dewpoint::Exit;
use dewpoint_proto::wire::event::{self as event, Cause, Incident, IncidentKind, Nic, Power, VmState};
use dewpoint_proto::wire::fleet::{
    Act, EventRecord, Explanation, FleetRecord, Host, HostVerdict, Image, Network, Vm, WatchVmsResponse,
};

use crate::fake::{EVENT, Fake, record};
use crate::run::run;

fn vm(name: &str, id: &str) -> Vm {
    Vm {
        vm_id: id.to_owned(),
        name: name.to_owned(),
        hostname: "hypervisor-17.rack-4.region-north.example.net".to_owned(),
        vcpus: 512,
        memory_bytes: (16 << 40) - 1,
        nics: vec![Nic {
            addresses: vec!["2001:db8:1234:5678:9abc:def0:1234:5678/64".into()],
            ..Nic::default()
        }],
        observed: Some(VmState { power: Power::ShuttingDown.into(), ..VmState::default() }),
        unfinished_event_id: EVENT.to_owned(),
        ..Vm::default()
    }
}

fn fleet() -> Fake {
    let fake = Fake::start();
    let long = "v".repeat(63);
    fake.with(|script| {
        script.vms = vec![vm(&long, "id-1"), vm("web", "id-2"), vm("web", "id-3")];
        script.hosts = vec![
            Host {
                host_id: "018f3c5e-0000-7000-8000-00000000000a".into(),
                hostname: format!("{}.example.net", "h".repeat(60)),
                liveness: "diverged".into(),
                cordoned: true,
                held: true,
                vms: 135,
                cpus: 512,
                claimed_vcpus: 2048,
                memory_bytes: (16 << 40) - 1,
                claimed_memory_bytes: (15 << 40) - 1,
                disk_bytes: (64 << 40) - 1,
                claimed_disk_bytes: (63 << 40) - 1,
                diverged: Some(event::Cause {
                    reason: "DIVERGED".into(),
                    text: "x".repeat(200),
                    ..Default::default()
                }),
                ..Host::default()
            },
            Host { host_id: "1".into(), hostname: "hv1".into(), liveness: "alive".into(), ..Host::default() },
        ];
        script.images = vec![
            Image {
                digest: "ab".repeat(32),
                format: "qcow2".into(),
                size_bytes: (16 << 40) - 1,
                ..Image::default()
            },
            Image {
                digest: "cd".repeat(32),
                names: vec!["n".repeat(128), "m".repeat(128)],
                ..Image::default()
            },
        ];
        script.networks = vec![Network {
            name: "n".repeat(63),
            subnet4: "255.255.255.255/32".into(),
            subnet6: "2001:db8:1234:5678:9abc:def0:1234:5678/128".into(),
            bridge: "br-0123456789ab".into(),
            addresses_used: u32::MAX,
            addresses_free: u64::MAX,
            ..Network::default()
        }];
        script.events = vec![
            EventRecord { vm_name: long, ..record("snapshot", "cancelled") },
            record("create", "assigned"),
        ];
    });
    fake
}

#[test]
fn every_table_fits_80_columns_and_keeps_what_is_copied() {
    let fake = fleet();
    for (noun, keys) in [
        ("vm", vec!["v".repeat(63), "web".into()]),
        ("host", vec![format!("{}.example.net", "h".repeat(60)), "hv1".into()]),
        ("image", vec!["ab".repeat(32)]),
        ("network", vec!["n".repeat(63)]),
        ("event", vec![EVENT.to_owned()]),
    ] {
        let ran = run(&fake.url, &[noun, "ls"]);
        assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
        for line in ran.out.lines().filter(|line| line.split_whitespace().count() > 1) {
            assert!(line.chars().count() <= 80, "{} columns: {line}", line.chars().count());
        }
        for key in keys {
            assert!(
                ran.out.lines().any(|line| line.split(' ').next() == Some(&key)),
                "{key} in\n{}",
                ran.out
            );
        }
    }
}

#[test]
fn a_name_that_two_vms_bear_comes_with_their_ids() {
    let ran = run(&fleet().url, &["vm", "ls"]);
    assert!(ran.out.contains("\n  id id-2\n") && ran.out.contains("\n  id id-3\n"), "{}", ran.out);
    assert!(!ran.out.contains("id-1"), "{}", ran.out);
}

#[test]
fn lists_for_programs_are_one_document_of_all_pages() {
    let fake = fleet();
    let vms = run(&fake.url, &["vm", "ls", "--json", "--label", "a=1", "--label", "b=2"]).json();
    assert_eq!(vms["vms"].as_array().unwrap().len(), 3);
    assert_eq!(vms["more"], false);
    assert_eq!(vms["vms"][0]["observed"]["power"], "shutting-down");
    assert_eq!(fake.state.asked("list_vms"), ["list_vms  a=1,b=2 ", "list_vms  a=1,b=2 2"]);
    let some = run(&fake.url, &["vm", "ls", "--json", "--limit", "2"]).json();
    assert_eq!((some["vms"].as_array().unwrap().len(), &some["more"]), (2, &serde_json::json!(true)));
    for noun in ["host", "image", "network", "event"] {
        let list = run(&fake.url, &[noun, "ls", "--json"]).json();
        assert_eq!(run(&fake.url, &[noun, "list", "--json"]).json(), list);
        assert!(!list[format!("{noun}s")].as_array().unwrap().is_empty(), "{noun}");
    }
}

#[test]
fn an_event_is_shown_with_its_placement_and_without_its_secrets() {
    let fake = Fake::start();
    let spec = event::VmSpec {
        name: "web".into(),
        vcpus: 2,
        user_data: b"password: hunter2".to_vec().into(),
        ssh_keys: vec!["ssh-ed25519 AAAA".into()],
        ..Default::default()
    };
    let create = event::Create { spec: Some(spec), source: None, start: true };
    let verdict = |name: &str, rejected_by: &str, text: &str| HostVerdict {
        host_id: name.into(),
        hostname: name.into(),
        rejected_by: rejected_by.into(),
        text: text.into(),
        score: 0.5,
        ..HostVerdict::default()
    };
    let explanation = Explanation {
        hosts: vec![verdict("hv1", "", ""), verdict("hv2", "memory", "1 GiB free of 2 GiB asked")],
        chosen_host_id: "hv1".into(),
        considered: 2,
        ..Explanation::default()
    };
    fake.with(|script| {
        script.events.push(EventRecord {
            body: Some(event::Event {
                kind: Some(event::event::Kind::Create(create)),
                note: "for\u{1b}[2J".into(),
                ..Default::default()
            }),
            explanation: Some(explanation),
            ..record("create", "running")
        });
    });
    let text = run(&fake.url, &["event", "show", EVENT]).out;
    assert!(text.contains("hv1   chosen   0.500\n"), "{text}");
    assert!(text.contains("hv2   memory       -  1 GiB free of 2 GiB asked\n"), "{text}");
    assert!(!text.contains('\u{1b}'), "{text}");
    let json = run(&fake.url, &["event", "show", EVENT, "--json"]);
    assert!(!json.out.contains("hunter2") && !text.contains("hunter2"));
    assert_eq!(json.json()["asked"]["spec"]["user_data_bytes"], 17);
    assert_eq!(json.json()["outcome"], serde_json::Value::Null);
}

#[test]
fn hosts_are_cordoned_and_held_by_name_and_never_all_by_mistake() {
    let fake = fleet();
    let cordoned = run(&fake.url, &["host", "cordon", "hv1", "--reason", "disk", "--json"]).json();
    assert_eq!((&cordoned["cordoned"], &cordoned["cordon_reason"]), (&true.into(), &"disk".into()));
    assert_eq!(run(&fake.url, &["host", "hold", "hv1", "--reason", "fire"]).out, "1 host held\n");
    assert_eq!(run(&fake.url, &["host", "release", "--fleet"]).out, "1 host released\n");
    assert_eq!(fake.state.asked("set_hold"), ["set_hold [hv1] true fire", "set_hold [] false "]);
}

#[test]
fn a_recovering_fleet_is_told_with_the_way_out_and_ends_by_a_persons_word() {
    let fake = fleet();
    let cause = event::Cause {
        reason: "DIVERGED".into(),
        text: "host hv1 knows events that this coordinator does not".into(),
        advice: "compare, then `dewpoint host end-recovery --reason TEXT`".into(),
        ..Default::default()
    };
    fake.with(|script| script.hosts[1].recovering = Some(cause));
    for command in [&["host", "ls"][..], &["host", "show", "hv1"]] {
        let shown = run(&fake.url, command).out;
        assert_eq!(shown.matches("The fleet is recovering").count(), 1, "{shown}");
        assert!(shown.contains("  next: compare, then `dewpoint host end-recovery"), "{shown}");
    }
    let json = run(&fake.url, &["host", "show", "hv1", "--json"]).json();
    assert_eq!(json["recovering"]["reason"], "DIVERGED");

    assert_eq!(run(&fake.url, &["host", "end-recovery"]).exit, Exit::Usage);
    let end = ["host", "end-recovery", "--reason", "backup of Monday, compared"];
    let ended = run(&fake.url, &end).out;
    assert!(ended.starts_with("recovery ended") && ended.contains("hv1 knows events"), "{ended}");
    assert!(run(&fake.url, &end).out.contains("not recovering"));
    assert_eq!(fake.state.asked("end_recovery")[0], "end_recovery backup of Monday, compared");
}

#[test]
fn a_person_answers_for_a_host_only_with_a_reason_and_that_is_shown() {
    let fake = fleet();
    let force = ["event", "force", EVENT, "--as", "failed", "--reason", "burnt"];
    assert_eq!(run(&fake.url, &force[..5]).exit, Exit::Usage);
    assert_ne!(run(&fake.url, &["event", "force", EVENT, "--as", "fine", "--reason", "x"]).exit, Exit::Ok);
    let ran = run(&fake.url, &force);
    assert_eq!(fake.state.asked("force"), [format!("force {EVENT} failed burnt")]);
    assert!(ran.out.contains("forced") && ran.out.contains("by ann@ops1: burnt\n"), "{}", ran.out);
    let json = run(&fake.url, &[&force[..], &["--json"]].concat()).json();
    assert_eq!(
        (&json["forced"]["reason"], &json["waiting_for"]),
        (&"burnt".into(), &serde_json::Value::Null)
    );
    assert_eq!(run(&fake.url, &["event", "retry", EVENT]).exit, Exit::Ok);
    assert_eq!(fake.state.asked("retry").len(), 1);
}

#[test]
fn what_an_unfinished_event_waits_for_is_shown_with_how_long() {
    let fake = Fake::start();
    let now = dewpoint_proto::time::Millis::now().0;
    let waits = EventRecord {
        waiting_for: "hv1, which is silent for 312 s".into(),
        accepted_at_ms: now - 400_000,
        stage_since_ms: now - 330_000,
        ..record("create", "accepted")
    };
    fake.with(|script| script.events = vec![waits, record("start", "succeeded")]);
    let list = run(&fake.url, &["event", "ls"]).out;
    assert!(list.contains("\n  waits for hv1, which is silent for 312 s, since 5m"), "{list}");
    assert_eq!(list.matches("waits for").count(), 1, "{list}");
    let shown = run(&fake.url, &["event", "show", EVENT]).out;
    assert!(shown.contains("waits for") && shown.contains("5m"), "{shown}");
}

#[test]
fn the_fleet_shows_its_limit_on_destroys_and_it_is_set_with_a_reason() {
    let fake = fleet();
    fake.with(|script| {
        script.fleet = FleetRecord { held: true, hold_reason: "fire".into(), ..Default::default() }
    });
    let shown = run(&fake.url, &["fleet", "show"]).out;
    assert!(
        shown.contains("held        yes: fire\n") && shown.contains("no limit (as configured)"),
        "{shown}"
    );
    assert_eq!(run(&fake.url, &["fleet", "destroy-limit", "5"]).exit, Exit::Usage);
    let set = |limit| run(&fake.url, &["fleet", "destroy-limit", limit, "--reason", "careful"]);
    assert!(set("5").out.contains("5 a minute (set by a person)\n"));
    assert!(set("config").out.contains("(as configured)"));
    assert_eq!(set("many").exit, Exit::Refused);
    let asked = fake.state.asked("set_destroy_limit");
    assert_eq!(asked, ["set_destroy_limit 5 false careful", "set_destroy_limit 0 true careful"]);
}

#[test]
fn what_people_did_is_listed_with_who_to_what_and_why() {
    let fake = fleet();
    let held = Act {
        at_ms: 1_700_000_000_000,
        who: "ann@ops1 from 192.0.2.7".into(),
        act: "hold".into(),
        host_id: "id-1".into(),
        hostname: "hv1".into(),
        reason: format!("smoke {}", "x".repeat(200)),
        ..Act::default()
    };
    let ended =
        Act { act: "end-recovery".into(), host_id: String::new(), hostname: String::new(), ..held.clone() };
    fake.with(|script| script.acts = vec![ended, held]);
    let shown = run(&fake.url, &["audit", "ls"]).out;
    assert!(
        shown
            .contains("2023-11-14T22:13:20.000Z  hold          ann@ops1 from 192.0.2.7\n  host hv1\n  smoke"),
        "{shown}"
    );
    assert!(shown.contains("  the whole fleet\n"), "{shown}");
    assert!(shown.lines().all(|line| line.chars().count() <= 80), "{shown}");
    let json = run(&fake.url, &["audit", "ls", "--host", "hv1", "--json"]).json();
    assert_eq!(
        (&json["acts"][1]["act"], &json["acts"][0]["host_id"]),
        (&"hold".into(), &serde_json::Value::Null)
    );
    let asked = fake.state.asked("list_acts");
    assert!(asked[1].ends_with("[] by name") && asked[1] != asked[0], "{asked:?}");
}

#[test]
fn completions_and_man_pages_cover_every_command() {
    let bash = run("http://127.0.0.1:1", &["completion", "bash"]);
    assert!(
        bash.exit == Exit::Ok && bash.out.contains("dewpoint__subcmd__vm__subcmd__create"),
        "{}",
        bash.out.len()
    );
    let folder = tempfile::tempdir().unwrap();
    let ran = run("http://127.0.0.1:1", &["man", folder.path().to_str().unwrap()]);
    assert_eq!(ran.exit, Exit::Ok, "{ran:?}");
    for page in ["dewpoint.1", "dewpoint-vm-create.1", "dewpoint-event-watch.1"] {
        assert!(folder.path().join(page).exists(), "{page}");
    }
}

#[test]
fn what_happened_to_a_vm_by_itself_is_shown_with_what_becomes_of_it() {
    let run_id = "018f3c5e-7c1a-7d3e-9a5b-2f6d8c4b1a90";
    let crashed = VmState {
        power: Power::Off.into(),
        power_detail: "shutoff/crashed".into(),
        incident: Some(Incident {
            kind: IncidentKind::QemuCrashed.into(),
            at_ms: 1_700_000_000_000,
            detail: "shutoff/crashed".into(),
            run: run_id.into(),
        }),
        keeping: "to be started again, as QEMU died (1 of 10)".into(),
        restarts: 0,
        restart_at_ms: i64::MAX / 2,
        attention: Some(Cause { text: "somebody renamed its domain".into(), ..Cause::default() }),
        ..VmState::default()
    };
    let vm = Vm { name: "web".into(), wanted_on: true, observed: Some(crashed.clone()), ..Vm::default() };
    let again = VmState { power: Power::Running.into(), run: "another".into(), restarts: 1, ..crashed };
    let running = Vm { observed: Some(again), ..vm.clone() };
    let fake = Fake::start();
    fake.with(|script| {
        script.vms = vec![vm.clone()];
        let told = |vm| WatchVmsResponse { vm: Some(vm), snapshot_complete: false };
        script.vm_watches.push_back(vec![told(vm), told(running)]);
    });
    let shown = run(&fake.url, &["vm", "show", "web"]).out;
    for says in
        ["restart     on-crash", "QEMU died (shutoff/crashed)", "(1 of 10), in ", "renamed its domain"]
    {
        assert!(shown.contains(says), "{says}: {shown}");
    }
    let json = run(&fake.url, &["vm", "show", "web", "--json"]).json();
    assert_eq!(json["observed"]["incident"]["kind"], "qemu-crashed");
    assert_eq!((&json["restart"], &json["observed"]["restarts"]), (&"on-crash".into(), &0.into()));
    let watched = run(&fake.url, &["vm", "watch", "--timeout", "1s"]).out;
    let lines: Vec<&str> = watched.lines().map(|line| &line[10..]).collect();
    assert_eq!(
        lines,
        [
            "web: off (qemu-crashed) on -, wanted on, generation 0",
            "web: running on -, wanted on, generation 0"
        ],
        "a word is of the run that is on"
    );
}
