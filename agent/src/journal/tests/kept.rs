//! What happened to VMs without an event: kept over starts, told anew by a boot of the host, and read from a journal of
//! the schema before.

use dewpoint_proto::vm_state::{Incident, IncidentKind};
use rusqlite::Connection;
use uuid::Uuid;

use super::super::fixture::settings;
use super::*;
use crate::hypervisor::ConfigDigest;
use crate::journal::kept::{ConfigSeen, Noted};

fn boot(n: u128) -> Settings {
    Settings { boot: BootId(Uuid::from_u128(n)), ..settings() }
}

fn kept(journal: &Journal, run: RunId) -> Kept {
    let (what, now) = (IncidentKind::QemuCrashed, journal.now());
    Kept {
        incident: Some(Incident {
            kind: what,
            at: now.wall,
            detail: "shutoff/crashed".into(),
            run: Some(run),
        }),
        noted: Some(Noted { what, run: Some(run), at: now }),
        restarts: 3,
        last: Some(now),
        run: Some(run),
        starting: true,
        config: Some(ConfigSeen {
            generation: Generation(1),
            digest: ConfigDigest { written_by: "libvirt 1".to_owned(), sha256: "aa".to_owned() },
        }),
    }
}

#[tokio::test]
async fn what_is_kept_comes_back_with_the_run_and_goes_with_the_vm() {
    let folder = Folder::new();
    let journal = folder.open();
    built(&journal).await;
    let run = RunId::fresh();
    let kept = kept(&journal, run);
    journal.keep(vm(1), kept.clone(), Some(run)).await.unwrap();
    let row = folder.open().vm(vm(1)).await.unwrap().unwrap();
    assert_eq!((row.run, &row.kept, row.unfinished), (Some(run), &kept, false));

    let proof = accepted(&journal, delivery(2, vm(1), destroy())).await;
    assert!(journal.vm(vm(1)).await.unwrap().unwrap().unfinished);
    journal.append(&proof, vec![started(Step::PowerOff), gone()]).await.unwrap();
    // A look that was under way.
    journal.keep(vm(1), kept, Some(run)).await.unwrap();
    let row = journal.vm(vm(1)).await.unwrap().unwrap();
    assert_eq!((row.run, row.kept), (None, Kept::default()));
}

#[tokio::test]
async fn a_boot_of_the_host_is_told_once_of_what_is_wanted_on() {
    let folder = Folder::new();
    let journal = Journal::open(&folder.db(), boot(1)).unwrap();
    built(&journal).await;
    let off = accepted(&journal, delivery(2, vm(2), create())).await;
    let leaves = Leaves::Vm { disk: id(2), seed: id(2), wanted: Wanted::Off, run: None };
    let end = Entry::Finished { outcome: Outcome::success(), vm: None, leaves: Some(leaves) };
    journal.append(&off, vec![started(Step::Define), end]).await.unwrap();
    accepted(&journal, delivery(3, vm(3), create())).await;
    journal.keep(vm(1), kept(&journal, RunId::fresh()), None).await.unwrap();

    let noted =
        async |journal: &Journal, n| journal.vm(vm(n)).await.unwrap().unwrap().kept.noted.map(|it| it.what);
    let again = Journal::open(&folder.db(), boot(1)).unwrap();
    assert_eq!(noted(&again, 1).await, Some(IncidentKind::QemuCrashed), "the same boot");
    let booted = Journal::open(&folder.db(), boot(2)).unwrap();
    assert_eq!(noted(&booted, 1).await, Some(IncidentKind::HostWentDown));
    let after = booted.vm(vm(1)).await.unwrap().unwrap().kept;
    assert_eq!(after.restarts, 0, "counted anew");
    assert!(after.config.is_some(), "an edit while the host was down is seen");
    assert_eq!((noted(&booted, 2).await, noted(&booted, 3).await), (None, None), "off, and half built");
    booted.keep(vm(1), Kept::default(), None).await.unwrap();
    assert_eq!(noted(&Journal::open(&folder.db(), boot(2)).unwrap(), 1).await, None, "told once");
}

#[tokio::test]
async fn a_journal_of_the_first_schema_is_read_as_it_is_and_migrated_by_a_start() {
    let folder = Folder::new();
    let journal = Journal::open(&folder.db(), boot(1)).unwrap();
    built(&journal).await;
    drop(journal);
    let db = Connection::open(folder.db()).unwrap();
    db.execute_batch(
        "DROP INDEX reports_unacked; DROP TABLE keeping; DELETE FROM meta WHERE key = 'boot';
         PRAGMA user_version = 1;",
    )
    .unwrap();
    assert_eq!(Reader::open(&folder.db()).unwrap().vms().unwrap().len(), 1);
    drop(db);
    // It was upgraded by a boot: the boot is told by what the older version wrote last.
    let migrated = Journal::open(&folder.db(), boot(2)).unwrap();
    let row = migrated.vm(vm(1)).await.unwrap().unwrap();
    assert_eq!(row.kept.noted.map(|noted| noted.what), Some(IncidentKind::HostWentDown));
}
