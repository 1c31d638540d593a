//! What the file system says, in our words: one place that knows which errors mean a full disk.

use std::fmt::Display;
use std::io;
use std::path::Path;

use dewpoint_common::image;
use dewpoint_proto::cause::{Cause, Reason, shortened};
use nix::libc;

/// Whether an error says that there is no room.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
        || matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// A file operation that failed: `doing` completes "could not ...".
pub(super) fn failed(doing: impl Display, path: &Path, error: &io::Error) -> Cause {
    let text = format!("could not {doing}: {error}");
    let cause = match error.raw_os_error() {
        _ if is_full(error) => disk_full(text),
        Some(libc::EROFS) => Cause::new(Reason::StorageError, text).advise(READ_ONLY),
        Some(libc::EIO) => Cause::new(Reason::StorageError, text).advise(
            "the disk fails: see the kernel's log (`journalctl -k`), and move the host's VMs away if it goes on",
        ),
        _ => Cause::new(Reason::StorageError, text)
            .advise("look at the path with `ls -la` and at the kernel's log for disk errors; then retry"),
    };
    cause.with("path", path.display())
}

/// The way out for a file system that lets nobody write.
pub(super) const READ_ONLY: &str = "the file system is read-only; see the kernel's log (`journalctl -k`). If somebody \
                                    mounted it so, `mount -o remount,rw` is enough. After an error it has to be checked \
                                    while nothing uses it: stop the agent and the VMs on it, then `umount`, `fsck`, \
                                    `mount`, and start the agent; or boot the host into a check. Guests cannot write until then";

/// No room on the disk.
pub(super) fn disk_full(text: String) -> Cause {
    Cause::new(Reason::DiskFull, text)
        .advise("free space on the host's data disk, destroy VMs with --now, or create on another host")
}

/// Something there that is not what we made: told, and left alone.
pub(super) fn not_ours(path: &Path, what: impl Display) -> Cause {
    Cause::new(Reason::StorageError, format!("`{}` {what}", shortened(&path.display().to_string())))
        .advise("look at it and move it away by hand; nothing was changed there")
        .with("path", path.display())
}

/// An image that may not be used.
pub(super) fn refused(what: impl Display) -> Cause {
    image::refused(what, image::CONVERT)
}

/// `map_err` with [`failed`].
pub(super) trait OrFailed<T> {
    /// The cause when it failed; `doing` completes "could not ...".
    fn or_failed(self, doing: impl Display, path: &Path) -> Result<T, Cause>;
}

impl<T> OrFailed<T> for io::Result<T> {
    fn or_failed(self, doing: impl Display, path: &Path) -> Result<T, Cause> {
        self.map_err(|error| failed(doing, path, &error))
    }
}
