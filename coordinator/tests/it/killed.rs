//! SIGKILL in the middle of `backup` and `restore`, at each place where it leaves other files behind: the database is whole,
//! nothing is half restored, and the same command again does what it is for. Promise 1.

use std::path::{Path, PathBuf};
use std::process::Command;

use rusqlite::{Connection, OpenFlags};

use crate::cut::{End, cut};
use crate::sigkill::Coordinator;
use crate::sigkill::agent::Agent;
use crate::upkeep::{error, json, upkeep_in};

/// More places than any command has: it would never end.
const TOO_MANY: usize = 60;

/// What a database says of itself: how many VMs it has, and whether it is a backup.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    vms: u64,
    is_backup: bool,
}

const PRESENT: Told = Told { vms: 2, is_backup: false };
const MONDAY: Told = Told { vms: 1, is_backup: true };

/// A whole database; one that is not fails here.
fn told(path: &Path) -> Told {
    // Read-only: nothing is settled that the command should find.
    let db = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let check: String = db.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(check, "ok", "{}", path.display());
    let row = "SELECT (SELECT count(*) FROM vms), restored IS NOT NULL FROM fleet";
    let (vms, is_backup): (i64, bool) = db.query_row(row, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    Told { vms: vms.unsigned_abs(), is_backup }
}

/// A data folder whose coordinator was killed, with two VMs, and a backup from when there was one.
async fn killed_coordinator() -> Coordinator {
    let mut world = Coordinator::start();
    world.image().await;
    let mut agent = Agent::new();
    let (mut link, _) = agent.connect(&world).await;
    world.build(&mut agent, &mut link, "web").await;
    json(&upkeep_in(world.folder.path(), "backup", &[&monday(world.folder.path())]).output().unwrap());
    world.build(&mut agent, &mut link, "after-the-backup").await;
    drop(link);
    world.stop();
    world
}

fn monday(folder: &Path) -> PathBuf {
    folder.join("monday.db")
}

fn database(folder: &Path) -> PathBuf {
    folder.join("data/coordinator.db")
}

/// The same folder once more, as it was found.
fn copy_of(world: &Coordinator) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let all = world.folder.path().join(".");
    assert!(Command::new("cp").arg("-a").args([all.as_path(), copy.path()]).status().unwrap().success());
    copy
}

fn agrees(folder: &Path) {
    let found = json(&upkeep_in(folder, "check", &[]).output().unwrap());
    assert_eq!(found["left"], 0, "{found}");
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Cuts a command off at its first place, its second one, and so on, each time on a copy; how many there were.
fn at_each_place(
    world: &Coordinator,
    command: impl Fn(&Path) -> Command,
    in_folder: &str,
    afterwards: impl Fn(&Path),
) -> usize {
    for nth in 1..TOO_MANY {
        let copy = copy_of(world);
        let watched = copy.path().join(in_folder);
        std::fs::create_dir_all(&watched).unwrap();
        match cut(&command(copy.path()), &watched, nth) {
            End::Killed => afterwards(copy.path()),
            End::Exited(code) => {
                assert_eq!(code, 0, "place {nth}: it was not cut off, and failed");
                return nth - 1;
            }
        }
    }
    panic!("it changes files without end");
}

#[tokio::test]
async fn a_backup_killed_anywhere_leaves_a_whole_copy_or_none_and_can_be_taken_again() {
    let world = killed_coordinator().await;
    let to = |folder: &Path| folder.join("copies/tuesday.db");
    let places = at_each_place(
        &world,
        |folder| upkeep_in(folder, "backup", &[&to(folder)]),
        "copies",
        |folder| {
            let to = to(folder);
            agrees(folder);
            assert_eq!(told(&database(folder)), PRESENT);
            let was_there = to.exists();
            let again = upkeep_in(folder, "backup", &[&to]).output().unwrap();
            if was_there {
                assert_eq!(error(&again)["reason"], "INVALID", "no backup replaces another");
            } else {
                json(&again);
            }
            assert_eq!(told(&to), Told { is_backup: true, ..PRESENT });
            assert_eq!(names(&folder.join("copies")), ["tuesday.db"], "nothing half is left");
        },
    );
    assert!(places >= 3, "{places}");
}

#[tokio::test]
async fn a_restore_killed_anywhere_is_done_or_not_begun_and_can_be_asked_for_again() {
    let world = killed_coordinator().await;
    let restore = |folder: &Path| upkeep_in(folder, "restore", &[&monday(folder)]);
    let places = at_each_place(&world, restore, "data", |folder| {
        agrees(folder);
        let found = told(&database(folder));
        assert!(
            [PRESENT, MONDAY].contains(&found),
            "half restored: {found:?}, {:?}",
            names(&folder.join("data"))
        );
        let restored = json(&restore(folder).output().unwrap());
        agrees(folder);
        assert_eq!(told(&database(folder)), MONDAY);
        let kept = PathBuf::from(restored["kept"].as_str().unwrap());
        assert_eq!(told(&kept), found, "what was there is kept, whole");
        let left = names(&folder.join("data"));
        assert!(
            !left.iter().any(|name| name.contains("restoring") || name == "coordinator.db-wal"),
            "{left:?}"
        );
    });
    assert!(places >= 5, "{places}");
}

/// Its log could neither be written into it nor go with it: without the log it is not whole.
#[tokio::test]
async fn a_database_that_is_read_is_not_replaced() {
    let world = killed_coordinator().await;
    let folder = world.folder.path();
    let reader = Connection::open_with_flags(database(folder), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM vms;").unwrap();
    let restore = || upkeep_in(folder, "restore", &[&monday(folder)]).output().unwrap();
    let held = error(&restore());
    assert!(held["reason"] == "HELD" && held["text"].as_str().unwrap().contains("being read"), "{held}");
    assert!(
        !names(&folder.join("data")).iter().any(|name| name.contains(".restored-")),
        "no receipt of nothing"
    );
    drop(reader);
    assert_eq!(told(&database(folder)), PRESENT);
    json(&restore());
    assert_eq!(told(&database(folder)), MONDAY);
}
