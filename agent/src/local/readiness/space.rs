//! Room for disks, images and the journal.

use std::path::{Path, PathBuf};

use super::{Judged, bad, good, note};
use crate::config::Config;

/// Less room than this beyond the reserve is soon gone.
const LITTLE: u64 = 20 << 30;

pub(super) fn check(config: &Config) -> Judged {
    let folder = nearest(&config.data_dir);
    match nix::sys::statvfs::statvfs(&folder) {
        Ok(stat) => judge(&folder, stat.blocks_available() * stat.fragment_size(), config.storage.reserve.0),
        Err(error) => bad(
            format!("{} cannot be asked for its space: {error}", folder.display()),
            "mount it; see `dmesg`",
        ),
    }
}

fn judge(folder: &Path, free: u64, reserve: u64) -> Judged {
    let folder = folder.display();
    let found = format!("{} free at {folder}, {} kept in reserve", gib(free), gib(reserve));
    match free.saturating_sub(reserve) {
        0 => bad(found, "no VM can be built: make room, or set data_dir to a file system that has it"),
        room if room < LITTLE => note(found, "soon full: images and disks go there; see `df -h`"),
        _ => good(found),
    }
}

fn gib(bytes: u64) -> String {
    format!("{}.{} GiB", bytes >> 30, (bytes >> 20) % 1024 * 10 / 1024)
}

/// The folder, or the nearest above it that is there.
fn nearest(folder: &Path) -> PathBuf {
    folder.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn what_is_in_reserve_is_not_room() {
        let of = |free| judge(Path::new("/"), free, 1 << 30).0;
        assert_eq!(of(1 << 30), Verdict::Bad);
        assert_eq!(of(2 << 30), Verdict::Note);
        assert_eq!(of(100 << 30), Verdict::Good);
        assert_eq!(nearest(Path::new("/nonexistent/data")), Path::new("/"));
    }
}
