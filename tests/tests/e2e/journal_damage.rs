//! A damaged journal: the agent does not act, says what it found and how to go on, and no VM notices. Promises 4, 5, 9.

use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::host::started;
use dewpoint_tests::process::signal;
use dewpoint_tests::request;
use dewpoint_tests::wait::{BOOT, until};
use nix::sys::signal::Signal;

#[tokio::test]
async fn an_agent_whose_journal_is_damaged_stops_says_so_and_a_person_goes_on() {
    let mut fleet = Fleet::start().await;
    let vm = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await.vm_id;
    let run = |fleet: &Fleet| fleet.domain(&vm).qemu_pid().and_then(started);
    let before = run(&fleet);
    assert!(before.is_some());
    fleet.agent.stop().await;
    let journal = fleet.agent.data().join("agent.db");
    let mut bytes = std::fs::read(&journal).unwrap();
    bytes[..4096].fill(0xff);
    std::fs::write(&journal, &bytes).unwrap();

    // systemd would start it again and again: nothing gets worse.
    for command in [&["run"][..], &["run"], &["journal", "check"]] {
        let ended = fleet.agent.command(command);
        let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert_eq!(ended.status.code(), Some(65), "{command:?}: {errors}");
        assert!(errors.contains("JOURNAL_DAMAGED") && errors.contains("journal new"), "{errors}");
        assert_eq!(std::fs::read(&journal).unwrap(), bytes);
    }
    assert_eq!(run(&fleet), before);

    let anew = fleet.agent.json(&["journal", "new", "--reason", "a test spoiled it"]);
    let aside = anew["anew"]["aside"].as_str().unwrap();
    assert_eq!(std::fs::read(aside).unwrap(), bytes, "the old one is kept");
    fleet.agent.start().await;
    until("the VM is taken over", BOOT, async || {
        let vms = fleet.agent.json(&["vms"]);
        if vms[0]["vm_id"] == vm.as_str() { Ok(()) } else { Err(vms.to_string()) }
    })
    .await;
    until("the coordinator says that the logs differ", BOOT, async || match fleet.caller.all_hosts().await {
        Ok(hosts) if hosts[0].liveness == "diverged" => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert_eq!(run(&fleet), before, "nothing was done to it");

    // The old journal could not be read: what the VM is made of, and its policy, came from its folder.
    signal(fleet.domain(&vm).qemu_pid().unwrap(), Signal::SIGKILL);
    until("its policy starts it again", BOOT, async || match run(&fleet) {
        now if now.is_some() && now != before => Ok(()),
        _ => Err(fleet.agent.json(&["why", &vm])["now"].to_string()),
    })
    .await;
}

#[tokio::test]
async fn a_journal_of_a_newer_version_is_left_alone() {
    let mut fleet = Fleet::start().await;
    fleet.agent.stop().await;
    let journal = fleet.agent.data().join("agent.db");
    // By SQLite itself: what is written over the file's header is not seen while a log beside it has that page.
    let db = rusqlite::Connection::open(&journal).unwrap();
    db.pragma_update(None, "user_version", 9999).unwrap();
    db.close().unwrap();
    let bytes = std::fs::read(&journal).unwrap();
    let ended = fleet.agent.command(&["run"]);
    let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(65), "{errors}");
    assert!(errors.contains("JOURNAL_NEWER") && errors.contains("9999"), "{errors}");

    // What the preinst of a package asks: 4, whatever else is wrong.
    let ended = fleet.agent.command(&["upgrade-check"]);
    let errors = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(4), "{errors}");
    assert!(errors.contains("JOURNAL_NEWER") && errors.contains("a newer one"), "{errors}");
    assert!(String::from_utf8_lossy(&ended.stdout).contains("9999"));
    assert_eq!(std::fs::read(&journal).unwrap(), bytes);
}
