//! How the data folder's files are changed, and who may open them: group and mode.

pub(super) use dewpoint_common::durable::{Durable, is_file, is_folder, open};

/// Written by QEMU.
pub(super) const DISK_MODE: u32 = 0o660;
/// Read by QEMU.
pub(super) const READ_MODE: u32 = 0o640;
/// An image of the cache: never changed again by anyone.
pub(super) const IMAGE_MODE: u32 = 0o440;
/// Ours alone.
pub(super) const OWN_MODE: u32 = 0o600;
/// A folder in which QEMU opens files by name. The group is inherited.
pub(super) const VM_FOLDER_MODE: u32 = 0o2750;
/// A folder that QEMU passes through.
pub(super) const PASSAGE_MODE: u32 = 0o2710;
