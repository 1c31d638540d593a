//! Where a host's journal is, gone with its rig; and with the next run of these tests when a run was killed.

use std::path::Path;
use std::sync::Once;

/// A file system in memory.
const MEMORY: &str = "/dev/shm";
/// Of the folders there; the process that made one follows.
const PREFIX: &str = "dewpoint-crash-";

/// The memory disk, where there is one: thousands of journals are synced. What tests that were killed left there goes.
pub(crate) fn fresh() -> tempfile::TempDir {
    static SWEPT: Once = Once::new();
    SWEPT.call_once(|| sweep(Path::new(MEMORY)));
    let prefix = format!("{PREFIX}{}-", std::process::id());
    let mut builder = tempfile::Builder::new();
    builder.prefix(&prefix);
    builder.tempdir_in(MEMORY).or_else(|_| builder.tempdir()).expect("a directory")
}

fn sweep(memory: &Path) {
    for left in std::fs::read_dir(memory).into_iter().flatten().flatten() {
        let name = left.file_name();
        let rest = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
        let pid = rest.and_then(|rest| rest.split('-').next()?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists()) {
            // Somebody else's, or swept by another test meanwhile.
            let _ = std::fs::remove_dir_all(left.path());
        }
    }
}
