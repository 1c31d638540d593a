//! Observe-only: the host is reported, every event refused by name, and nothing on the host changes.

use std::path::{Path, PathBuf};

use dewpoint_proto::cause::Reason;
use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::host::{DomainSeen, files, rules};
use dewpoint_tests::process::signal;
use dewpoint_tests::request;
use dewpoint_tests::wait::{BOOT, until};
use nix::sys::signal::Signal;

/// What an agent could change: domains with their runs, rules, files but the journal's own.
#[derive(Debug, PartialEq, Eq)]
struct Everything {
    domains: Vec<(DomainSeen, Option<u32>)>,
    rules: String,
    files: Vec<PathBuf>,
}

fn everything(fleet: &Fleet) -> Everything {
    let mut domains = fleet.domains();
    domains.sort_by(|one, other| one.uuid.cmp(&other.uuid));
    let is_the_journals = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("agent.db") || name.starts_with("notes.db") || name.starts_with("journal.")
    };
    Everything {
        domains: domains.into_iter().map(|domain| (domain.clone(), domain.qemu_pid())).collect(),
        rules: rules(&fleet.lab),
        files: files(&fleet.agent.data()).into_iter().filter(|path| !is_the_journals(path)).collect(),
    }
}

/// Its QEMU dies, and libvirt has seen it.
async fn crash(fleet: &Fleet, vm: &str) {
    signal(fleet.domain(vm).qemu_pid().unwrap(), Signal::SIGKILL);
    until("libvirt has seen that QEMU died", BOOT, async || {
        let domain = fleet.domain(vm);
        if !domain.active && domain.qemu_pid().is_none() { Ok(()) } else { Err(domain.name) }
    })
    .await;
}

fn configure(config: &Path, observe_only: bool) {
    let text = std::fs::read_to_string(config).unwrap();
    let rest = text.trim_start_matches("observe_only = true\n");
    let line = if observe_only { "observe_only = true\n" } else { "" };
    std::fs::write(config, format!("{line}{rest}")).unwrap();
}

#[tokio::test]
async fn an_agent_that_only_observes_reports_and_changes_nothing() {
    let mut fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    fleet.agent.stop().await;
    let log = fleet.agent.data().join("agent.db-wal");
    assert!(
        std::fs::metadata(log).map_or(true, |log| log.len() == 0),
        "a stop in order leaves agent.db whole"
    );
    configure(&fleet.agent.config(), true);
    // Its policy would start it again, and nothing of it may.
    crash(&fleet, &vm).await;
    let before = everything(&fleet);
    assert_eq!(before.domains.len(), 1);

    fleet.agent.start().await;
    until("the host is shown as observing", BOOT, async || match fleet.caller.all_hosts().await {
        Ok(hosts) if hosts[0].observe_only && hosts[0].liveness == "alive" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    let refused = fleet.caller.ask(request::vm(&fleet.lab.name("more"))).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NoCapacity);
    assert!(refused.text.contains("observe"), "{refused:?}");
    let reboot = fleet.caller.ask(request::hard_reboot(&vm)).await.unwrap();
    let (stage, cause) = fleet.caller.did_not_succeed(&reboot.event_id).await;
    assert_eq!((stage.as_str(), cause.reason), ("refused", Reason::ObserveOnly));

    let file = fleet.lab.dir().join("destroy.toml");
    std::fs::write(&file, format!("kind = 'destroy'\nvm = '{vm}'\nnow = true")).unwrap();
    let submitted = fleet.agent.command(&["submit", &file.to_string_lossy()]);
    let errors = String::from_utf8_lossy(&submitted.stderr).into_owned();
    assert_eq!(submitted.status.code(), Some(4), "{errors}");
    assert!(errors.contains("OBSERVE_ONLY"), "{errors}");
    assert_eq!(fleet.agent.json(&["status"])["observe_only"], true);
    fleet.agent.stop().await;
    assert_eq!(everything(&fleet), before);

    // Told otherwise, it goes on where it was: the VM is started as its policy says.
    configure(&fleet.agent.config(), false);
    fleet.agent.start().await;
    until("the VM is started again", BOOT, async || match fleet.domain(&vm).qemu_pid() {
        Some(_) => Ok(()),
        None => Err(fleet.agent.json(&["why", &vm])["now"].to_string()),
    })
    .await;
    let reboot = fleet.caller.ask(request::hard_reboot(&vm)).await.unwrap();
    fleet.caller.succeeded(&reboot.event_id).await;
}
