//! What was deleted for good, disks and images: a line of JSON each in `recycle/receipts.log`, twice after a crash.
//!
//! The log is bounded: a full one becomes `receipts.log.1`, in place of the one before. The agent's own log tells every
//! deletion as well.

use std::io;
use std::path::Path;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, HostId, VmId};
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::time::Millis;
use serde::{Deserialize, Serialize};

use crate::storage::failure::OrFailed;
use crate::storage::files::{Files, Inner};
use crate::storage::space::allocated;

const LOG: &str = "receipts.log";
const OLD: &str = ".1";
/// Some tens of thousands of lines.
const LOG_BYTES: u64 = 8 * 1024 * 1024;

/// Why a disk or an image was deleted for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(in crate::storage) enum Why {
    /// Its time was over.
    Time,
    /// The recycle folder, or the image cache, was over its budget.
    Budget,
    /// A new file needed the room.
    Room,
    /// An event asked for it.
    Now,
    /// A person asked for it, on the spot.
    Person,
}

/// What is known of a retired disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Receipt {
    pub(super) host: HostId,
    pub(super) vm: VmId,
    /// The event that had made the disk.
    pub(super) disk: EventId,
    /// The event that took it away; none: a person did, or an agent that did not note it yet.
    #[serde(default)]
    pub(super) by: Option<EventId>,
    #[serde(default)]
    pub(super) image: Option<ImageDigest>,
    pub(super) size_bytes: u64,
    pub(super) retired_at: Millis,
    pub(super) until: Millis,
}

/// A line of the log.
#[derive(Serialize)]
struct Deleted<'a, R> {
    deleted_at: Millis,
    why: Why,
    #[serde(flatten)]
    receipt: &'a R,
}

impl Files {
    /// Adds a line to `mended.log`: what a person had repaired. Bounded as the receipts are.
    ///
    /// # Errors
    /// `STORAGE_ERROR`, `DISK_FULL`.
    pub async fn note_receipt(&self, receipt: &impl Serialize) -> Result<(), Cause> {
        let line = serde_json::to_string(receipt).map_err(io::Error::from);
        self.short(move |inner| {
            let path = inner.layout.root.join("mended.log");
            let line = line.or_failed("write the receipt", &path)?;
            let written = inner.turn_over(&path).and_then(|()| inner.durable.append_line(&path, &line));
            written.or_failed("write the receipt", &path)
        })
        .await
    }
}

impl Inner {
    /// The receipt of a disk, then its deletion.
    pub(super) fn with_receipt(
        &self,
        why: Why,
        receipt: &Receipt,
        delete: impl FnOnce() -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        tracing::info!(vm_id = %receipt.vm, disk = %receipt.disk, ?why, size_bytes = receipt.size_bytes, "disk deleted");
        self.with_line(why, receipt, delete)
    }

    /// A line in the log, then the deletion. On a full disk the other way round: deleting is what makes room.
    pub(in crate::storage) fn with_line<R: Serialize>(
        &self,
        why: Why,
        receipt: &R,
        delete: impl FnOnce() -> Result<(), Cause>,
    ) -> Result<(), Cause> {
        match self.log(why, receipt) {
            Ok(()) => delete(),
            Err(cause) if cause.reason == Reason::DiskFull => {
                delete()?;
                self.log(why, receipt)
            }
            Err(cause) => Err(cause),
        }
    }

    fn log<R: Serialize>(&self, why: Why, receipt: &R) -> Result<(), Cause> {
        let path = self.layout.recycle().join(LOG);
        let line = serde_json::to_string(&Deleted { deleted_at: self.clock.wall(), why, receipt });
        line.map_err(io::Error::from)
            .and_then(|line| {
                self.turn_over(&path)?;
                self.durable.append_line(&path, &line)
            })
            .or_failed("write the receipt", &path)
    }

    /// A full log gives way to a new one. A crash in between costs the old one at most.
    fn turn_over(&self, path: &Path) -> io::Result<()> {
        let length = match std::fs::symlink_metadata(path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        if length < LOG_BYTES {
            return Ok(());
        }
        let mut old = path.as_os_str().to_owned();
        old.push(OLD);
        let old = std::path::PathBuf::from(old);
        self.durable.unlink(&old)?;
        self.durable.take_name(path, &old)
    }

    /// What is to be known of a disk that is retired now.
    pub(super) fn receipt(
        &self,
        vm: VmId,
        disk: EventId,
        by: Option<EventId>,
        path: &Path,
    ) -> Result<Receipt, Cause> {
        let retired_at = self.clock.wall();
        Ok(Receipt {
            host: self.settings.host,
            vm,
            disk,
            by,
            // A disk that cannot be read is retired all the same.
            image: self.backing(path).ok().flatten(),
            size_bytes: allocated(path).or_failed("look at the disk", path)?,
            retired_at,
            until: retired_at.plus(self.settings.recycle_for),
        })
    }
}
