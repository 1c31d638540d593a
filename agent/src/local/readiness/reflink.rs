//! Whether the file system of the disks can share extents, by sharing some.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::ask::ask;
use super::{Judged, good, note};
use crate::config::Config;

pub(super) async fn check(config: &Config) -> Judged {
    let folder = &config.data_dir;
    let Ok(probe) = Probe::make(folder) else {
        return note(
            format!("{} is not there, or may not be written by this user: not tried", folder.display()),
            "run this as root, once the agent has been started",
        );
    };
    let (from, to) = (probe.from.to_string_lossy(), probe.to.to_string_lossy());
    let answer = ask("cp", &["--reflink=always", &from, &to], "", Duration::from_secs(5)).await;
    judge(answer.map(|answer| answer.status.success()))
}

fn judge(shared: Option<bool>) -> Judged {
    match shared {
        Some(true) => good("the file system shares extents: full copies cost nothing"),
        Some(false) => note(
            "the file system shares no extents: full copies of disks are written out (overlays, the default, are not)",
            "for quick full copies and snapshots, put data_dir on XFS (mkfs.xfs -m reflink=1) or btrfs",
        ),
        None => note(
            "whether the file system shares extents could not be found out",
            "see `dmesg`: the disk may be hanging",
        ),
    }
}

/// Two names in the data folder, of a kind that is swept up; removed when dropped.
struct Probe {
    from: PathBuf,
    to: PathBuf,
}

impl Probe {
    fn make(folder: &Path) -> std::io::Result<Self> {
        let name = |end: &str| folder.join(format!("readiness-{}-{end}.part", std::process::id()));
        let probe = Self { from: name("a"), to: name("b") };
        std::fs::write(&probe.from, [7; 8192])?;
        Ok(probe)
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        // Nothing of value is in them; purging the package takes such names, too.
        let _ = std::fs::remove_file(&self.from);
        let _ = std::fs::remove_file(&self.to);
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[tokio::test]
    async fn the_probe_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config { data_dir: dir.path().to_owned(), ..Config::default() };
        let (verdict, found, _) = check(&config).await;
        assert!(verdict == Verdict::Good || found.contains("shares no extents"), "{found}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let nowhere = Config { data_dir: "/nonexistent".into(), ..Config::default() };
        assert_eq!(check(&nowhere).await.0, Verdict::Note);
    }
}
