//! Promise 9: a full disk is reported, not made worse.

use super::super::fixture::SmallDisk;
use super::*;
use nix::mount::{MntFlags, umount2};

use crate::journal::Bounds;

#[tokio::test]
async fn on_a_full_disk_running_events_end_and_new_ones_are_withheld_until_there_is_room() {
    let Some(disk) = SmallDisk::of(24) else { return };
    let journal = disk.open();
    let proof = accepted(&journal, delivery(1, vm(1), create())).await;
    journal.append(&proof, vec![started(Step::MakeDisk)]).await.unwrap();
    disk.fill();

    let withheld = journal.admit(delivery(2, vm(2), create())).await.unwrap_err();
    assert!(matches!(withheld, JournalError::Withheld(_)), "{withheld:?}");
    let cause = journal.withheld().borrow().clone().unwrap();
    assert_eq!(cause.reason, Reason::JournalError);
    assert!(journal.ping().await.is_err());

    let stage = journal.append(&proof, vec![done(Step::MakeDisk), succeeded(id(1))]).await.unwrap();
    assert!(stage.is_finished());
    assert_eq!(journal.reports_after(ReportSeq(0), 9).await.unwrap().len(), 1);

    disk.empty();
    journal.ping().await.unwrap();
    assert!(journal.withheld().borrow().is_none());
    accepted(&journal, delivery(2, vm(2), create())).await;
    assert!(disk.path().join("journal.reserve").exists());
}

#[tokio::test]
async fn when_even_the_reserve_is_used_up_nothing_that_was_answered_is_lost() {
    let folder = Folder::new();
    let tight = Bounds { reserve_bytes: 1 << 20, most_pages: Some(48) };
    let journal = Journal::open_within(&folder.db(), super::super::fixture::settings(), tight).unwrap();
    let mut taken = 0;
    let error = loop {
        let seq = taken + 1;
        match journal.admit(delivery(seq, vm(seq.into()), create())).await {
            Ok(_) => taken = seq,
            Err(error) => break error,
        }
        assert!(taken < 1000);
    };
    assert!(matches!(error, JournalError::Withheld(_)), "{error:?}");
    // A write that cannot be left out fails as a whole, and says so.
    let unfinished = journal.unfinished().await.unwrap().events;
    assert_eq!(unfinished.len() as u64, taken);
    let mut refused = None;
    for event in &unfinished {
        let entries = std::iter::repeat_n(started(Step::MakeDisk), 40).collect();
        if let Err(error) = journal.append(&event.proof, entries).await {
            refused = Some(error);
            break;
        }
    }
    assert!(matches!(refused, Some(JournalError::Full(_))), "{refused:?}");
    drop(journal);

    let roomy = folder.open();
    assert_eq!(roomy.tail().await.unwrap().last, Some((Seq(taken), id(taken.into()))));
    assert!(roomy.unfinished().await.unwrap().parked.is_empty());
    accepted(&roomy, delivery(taken + 1, vm(500), create())).await;
}

/// A real ext4 on which the kernel gives up writing, as it does after an error: `errors=remount-ro`.
struct Failing {
    folder: Folder,
    image: tempfile::NamedTempFile,
}

impl Failing {
    fn mount() -> Option<Self> {
        let made = Self { folder: Folder::new(), image: tempfile::NamedTempFile::new().unwrap() };
        made.image.as_file().set_len(64 << 20).unwrap();
        let image = made.image.path().to_str().unwrap();
        let at = made.folder.path().to_str().unwrap();
        let done =
            run("mkfs.ext4", &["-q", image]) && run("mount", &["-o", "loop,errors=remount-ro", image, at]);
        if !done {
            eprintln!("skipped: a small ext4 cannot be mounted here");
        }
        done.then_some(made)
    }

    /// The kernel finds an error: nothing can be written from here on.
    fn fail(&self) -> bool {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let at = self.folder.path().to_str().unwrap();
        let line = mounts.lines().find(|line| line.split(' ').nth(1) == Some(at)).unwrap();
        let device = line.split(' ').next().unwrap().trim_start_matches("/dev/");
        std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "dewpoint test").is_ok()
    }

    /// What a person does: unmount, check, mount again.
    fn mend(&self) {
        let (image, at) = (self.image.path().to_str().unwrap(), self.folder.path().to_str().unwrap());
        assert!(run("umount", &[at]));
        run("fsck.ext4", &["-p", "-f", image]);
        assert!(run("mount", &["-o", "loop", image, at]));
    }
}

impl Drop for Failing {
    fn drop(&mut self) {
        let _ = umount2(self.folder.path(), MntFlags::MNT_DETACH);
    }
}

fn run(program: &str, arguments: &[&str]) -> bool {
    std::process::Command::new(program)
        .args(arguments)
        .stdout(std::process::Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

#[tokio::test]
async fn on_a_disk_that_turned_read_only_it_withholds_reads_on_and_loses_nothing() {
    let Some(disk) = Failing::mount() else { return };
    let clock = std::sync::Arc::new(super::super::fixture::TestClock::default());
    let settings = super::super::fixture::settings_with(clock.clone());
    let journal = Journal::open(&disk.folder.db(), settings).unwrap();
    let proof = accepted(&journal, delivery(1, vm(1), create())).await;
    journal.ping().await.unwrap();
    if !disk.fail() {
        eprintln!("skipped: this kernel lets no test make an ext4 fail");
        return;
    }
    // Nobody writes, and it is noticed all the same.
    clock.advance(Duration::from_secs(60));
    let cause = Cause::from(journal.ping().await.unwrap_err());
    assert_eq!(cause.reason, Reason::JournalError);
    assert!(cause.advice.contains("read-only") && cause.advice.contains("VMs"), "{cause:?}");
    let withheld = journal.admit(delivery(2, vm(2), create())).await.unwrap_err();
    assert!(matches!(withheld, JournalError::Disk(_) | JournalError::Withheld(_)), "{withheld:?}");
    let write = journal.append(&proof, vec![started(Step::MakeDisk)]).await.unwrap_err();
    assert!(matches!(write, JournalError::Disk(_)), "the lane waits and tries again: {write:?}");
    assert_eq!(journal.tail().await.unwrap().last, Some((Seq(1), id(1))), "what is known is still told");
    drop(journal);
    wait_until_free(&disk).await;

    disk.mend();
    let journal = Journal::open(&disk.folder.db(), super::super::fixture::settings()).unwrap();
    assert_eq!(journal.unfinished().await.unwrap().events.len(), 1);
    accepted(&journal, delivery(2, vm(2), create())).await;
    drop(journal);
    wait_until_free(&disk).await;
}

/// The journal's thread closes its files after the last handle is gone.
async fn wait_until_free(disk: &Failing) {
    let open = |path: &std::path::Path| {
        std::fs::read_dir("/proc/self/fd")
            .unwrap()
            .flatten()
            .any(|fd| std::fs::read_link(fd.path()).is_ok_and(|target| target.starts_with(path)))
    };
    for _ in 0..2000 {
        if !open(disk.folder.path()) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("the journal did not close");
}

#[tokio::test]
async fn on_a_disk_that_is_full_from_the_start_it_reports_and_takes_nothing() {
    let Some(disk) = SmallDisk::of(24) else { return };
    let journal = disk.open();
    accepted(&journal, delivery(1, vm(1), create())).await;
    drop(journal);
    disk.fill();
    let journal = disk.open();
    assert!(!disk.path().join("journal.reserve").exists(), "it gave way");
    assert!(matches!(journal.admit(delivery(2, vm(2), create())).await, Err(JournalError::Withheld(_))));
    assert_eq!(journal.unfinished().await.unwrap().events.len(), 1);
    disk.empty();
    journal.ping().await.unwrap();
    accepted(&journal, delivery(2, vm(2), create())).await;
}
