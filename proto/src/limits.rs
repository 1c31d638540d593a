//! The bounds on what comes from outside, enforced at both ends (design, section 8).

/// An encoded event.
pub const EVENT_BYTES: usize = 256 * 1024;
/// cloud-init user-data.
pub const USER_DATA_BYTES: usize = 64 * 1024;
/// Virtual CPUs of one VM.
pub const VCPUS: std::ops::RangeInclusive<u32> = 1..=512;
/// Memory of one VM.
pub const MEMORY_BYTES: std::ops::RangeInclusive<u64> = 64 * MIB..=16 * TIB;
/// Disk of one VM; also at least the image's virtual size.
pub const DISK_BYTES: std::ops::RangeInclusive<u64> = MIB..=64 * TIB;
/// An image file.
pub const IMAGE_BYTES: std::ops::RangeInclusive<u64> = 1..=16 * TIB;
/// Labels of one VM.
pub const LABELS: usize = 64;
/// A label's key or value.
pub const LABEL_BYTES: usize = 253;
/// SSH keys of one VM.
pub const SSH_KEYS: usize = 64;
/// One SSH key line.
pub const SSH_KEY_BYTES: usize = 8 * 1024;
/// Network interfaces of one VM.
pub const NICS: usize = 8;
/// Addresses of one network interface.
pub const ADDRESSES: usize = 16;
/// Nameservers of one network interface.
pub const NAMESERVERS: usize = 4;
/// A caller's note.
pub const NOTE_BYTES: usize = 1024;
/// How long a guest may be given to go down.
pub const GUEST_TIMEOUT_SECONDS: std::ops::RangeInclusive<u32> = 1..=3600;
/// VMs on one host.
pub const VMS_PER_HOST: u32 = 135;
/// Unaccepted events in flight to one host.
pub const DELIVERY_WINDOW: u32 = 32;
/// One message of an inventory.
pub const INVENTORY_CHUNK_BYTES: usize = 1024 * 1024;

/// 1024².
pub const MIB: u64 = 1024 * 1024;
/// 1024³.
pub const GIB: u64 = 1024 * MIB;
/// 1024⁴.
pub const TIB: u64 = 1024 * GIB;

/// A size as people write it, and exactly: in the largest unit that leaves no rest.
#[must_use]
pub fn in_units(bytes: u64) -> String {
    let units = [(TIB, "TiB"), (GIB, "GiB"), (MIB, "MiB"), (1024, "KiB")];
    match units.into_iter().find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", bytes / unit),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_told_exactly() {
        let told = [0, 3, 1024, 1025, 62 * MIB, 1024 * MIB, 16 * TIB].map(in_units);
        assert_eq!(told, ["0 bytes", "3 bytes", "1KiB", "1025 bytes", "62MiB", "1GiB", "16TiB"]);
    }
}
