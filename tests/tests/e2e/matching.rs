//! Logs that do not match, with the real daemons: nothing is redone or destroyed, the difference is shown, and a person's
//! word puts it right.

use std::path::Path;
use std::process::Output;

use dewpoint_tests::fleet::Fleet;
use dewpoint_tests::journal::Journal;
use dewpoint_tests::process::binary;
use dewpoint_tests::wait::{EVENT, until};
use dewpoint_tests::{request, shell};
use serde_json::Value;

fn dewpoint(fleet: &Fleet, args: &[&str]) -> Output {
    let at = ["--coordinator", fleet.coordinator.url()];
    shell::output(&binary("dewpoint").to_string_lossy(), args.iter().copied().chain(at))
}

fn json(fleet: &Fleet, args: &[&str]) -> Result<Value, String> {
    let args: Vec<_> = args.iter().copied().chain(["--json"]).collect();
    let done = dewpoint(fleet, &args);
    let (said, errors) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    if !done.status.success() {
        return Err(errors.into_owned());
    }
    Ok(serde_json::from_str(&said).unwrap())
}

/// A database with what SQLite keeps beside it; those whose name begins with it.
fn companions(database: &Path) -> Vec<std::path::PathBuf> {
    let name = database.file_name().unwrap().to_string_lossy().into_owned();
    let folder = std::fs::read_dir(database.parent().unwrap()).unwrap();
    folder
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().is_some_and(|found| found.to_string_lossy().starts_with(&name)))
        .collect()
}

/// Its host's name.
async fn until_diverged(fleet: &Fleet) -> String {
    until("the host is diverged, and has told what it has", EVENT, async || {
        let hosts = fleet.caller.all_hosts().await.map_err(|cause| cause.to_string())?;
        let diverged = hosts.iter().find(|host| host.liveness == "diverged").ok_or(format!("{hosts:?}"))?;
        json(fleet, &["host", "reconcile", &diverged.host_id])?;
        Ok::<_, String>(diverged.host_id.clone())
    })
    .await
}

#[tokio::test]
async fn a_lost_journal_is_reconciled_and_its_vms_go_on() {
    let mut fleet = Fleet::start().await;
    let web = fleet.caller.done(request::vm_left_off(&fleet.lab.name("web"))).await;
    let domain = fleet.domain(&web.vm_id);
    fleet.agent.kill();
    for file in companions(&fleet.agent.data().join("agent.db")) {
        std::fs::remove_file(file).unwrap();
    }
    fleet.agent.start().await;
    let host = until_diverged(&fleet).await;
    let refused = fleet.caller.ask(request::start(&web.vm_id)).await.unwrap_err();
    assert_eq!(refused.reason, dewpoint_proto::cause::Reason::Diverged, "nothing is delivered");
    assert_eq!(fleet.domain(&web.vm_id), domain, "its VM is as it was");

    let shown = json(&fleet, &["host", "reconcile", &host]).unwrap();
    assert_eq!(
        (&shown["carried_out"], &shown["vms"][0]["standing"]),
        (&false.into(), &"both".into()),
        "{shown}"
    );
    let plan = shown["digest"].as_str().unwrap();
    let order = ["host", "reconcile", &host, "--yes", "--reason", "the journal was lost", "--plan", plan];
    assert_eq!(json(&fleet, &order).unwrap()["carried_out"], true);
    fleet.until_alive().await;

    let other = fleet.caller.done(request::vm_left_off(&fleet.lab.name("db"))).await;
    assert_eq!(other.seq, web.seq + 1, "the queue goes on");
    assert_eq!(
        Journal::of(&fleet.agent).queue(),
        [i64::try_from(other.seq).unwrap()],
        "and nothing comes again"
    );
    fleet.caller.done(request::destroy_now(&web.vm_id)).await;
    fleet.assert_gone(&web.vm_id, None);
    let acts = json(&fleet, &["audit", "ls"]).unwrap();
    assert_eq!(acts["acts"][0]["act"], "reconcile", "{acts}");
}

/// Yesterday's copy of `agent.db`: the agent finds it by itself, goes on with nothing, and no VM notices.
#[tokio::test]
async fn a_journal_put_back_from_a_copy_is_gone_on_with_by_a_persons_word_alone() {
    let mut fleet = Fleet::start().await;
    let web = fleet.caller.done(request::vm(&fleet.lab.name("web"))).await;
    let database = fleet.agent.data().join("agent.db");
    fleet.agent.kill();
    let copies: Vec<_> =
        companions(&database).into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect();
    fleet.agent.start().await;
    fleet.until_alive().await;
    let db = fleet.caller.done(request::vm(&fleet.lab.name("db"))).await;
    let reboot = fleet.caller.done(request::hard_reboot(&web.vm_id)).await;
    let before = [fleet.domain(&web.vm_id), fleet.domain(&db.vm_id)];
    fleet.agent.kill();
    let witness = |path: &Path| path.to_string_lossy().ends_with(".seen");
    for file in companions(&database).into_iter().filter(|path| !witness(path)) {
        std::fs::remove_file(file).unwrap();
    }
    for (bytes, path) in copies.into_iter().filter(|(_, path)| !witness(path)) {
        std::fs::write(path, bytes).unwrap();
    }
    fleet.agent.start().await;

    let host = until_diverged(&fleet).await;
    let refused = fleet.caller.ask(request::start(&web.vm_id)).await.unwrap_err();
    assert_eq!(refused.reason, dewpoint_proto::cause::Reason::Diverged, "nothing is delivered");
    let shown = json(&fleet, &["host", "reconcile", &host]).unwrap();
    assert_eq!(
        (&shown["carried_out"], shown["vms"].as_array().unwrap().len()),
        (&false.into(), 2),
        "{shown}"
    );
    assert_eq!([fleet.domain(&web.vm_id), fleet.domain(&db.vm_id)], before, "its VMs are as they were");
    let plan = shown["digest"].as_str().unwrap();
    let order = ["host", "reconcile", &host, "--yes", "--reason", "a copy was put back", "--plan", plan];
    assert_eq!(json(&fleet, &order).unwrap()["carried_out"], true);
    fleet.until_alive().await;
    assert_eq!([fleet.domain(&web.vm_id), fleet.domain(&db.vm_id)], before, "nothing is redone");

    let next = fleet.caller.done(request::hard_reboot(&db.vm_id)).await;
    assert_eq!(next.seq, reboot.seq + 1, "the queue goes on");
    for vm in [&web.vm_id, &db.vm_id] {
        fleet.caller.done(request::destroy_now(vm)).await;
        fleet.assert_gone(vm, None);
    }
}

/// Yesterday's backup, copied back by hand.
#[tokio::test]
async fn an_older_database_takes_over_what_its_host_knows_and_redoes_nothing() {
    let mut fleet = Fleet::start().await;
    let before = fleet.caller.done(request::vm_left_off(&fleet.lab.name("before"))).await;
    fleet.coordinator.kill();
    let database = fleet.coordinator.data().join("coordinator.db");
    let copies: Vec<_> =
        companions(&database).into_iter().map(|path| (std::fs::read(&path).unwrap(), path)).collect();
    fleet.coordinator.start().await;
    fleet.until_alive().await;
    let after = fleet.caller.done(request::vm_left_off(&fleet.lab.name("after"))).await;
    fleet.coordinator.kill();
    for file in companions(&database) {
        std::fs::remove_file(file).unwrap();
    }
    for (bytes, path) in copies {
        std::fs::write(path, bytes).unwrap();
    }
    fleet.coordinator.start().await;

    until("the fleet has recovered by itself", EVENT, async || {
        let hosts = fleet.caller.all_hosts().await.map_err(|cause| cause.to_string())?;
        let event = fleet.caller.event(&after.event_id).await.map_err(|cause| cause.to_string())?;
        match hosts.as_slice() {
            [host] if host.liveness == "alive" && host.recovering.is_none() && event.stage == "succeeded" => {
                Ok(())
            }
            hosts => Err(format!("{hosts:?} {event:?}")),
        }
    })
    .await;
    let journal = Journal::of(&fleet.agent);
    assert_eq!(
        (journal.reports(&before.event_id), journal.reports(&after.event_id)),
        (1, 1),
        "no event is redone"
    );
    assert_eq!(journal.queue(), [1, 2]);
    assert_eq!(fleet.domains().len(), 2);
    let next = fleet.caller.done(request::vm_left_off(&fleet.lab.name("next"))).await;
    assert_eq!(next.seq, 3);
    fleet.caller.done(request::destroy_now(&after.vm_id)).await;
    fleet.assert_gone(&after.vm_id, None);
}
