//! Headers of any bytes: read or refused, never a panic, and never more trusted than they may be.

use proptest::prelude::*;

use super::*;

/// A version 3 header of a 1 GiB disk whose tables lie in the first MiB.
fn header() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, &MAGIC);
    put(4, &3u32.to_be_bytes());
    put(20, &16u32.to_be_bytes());
    put(24, &(1u64 << 30).to_be_bytes());
    put(36, &2u32.to_be_bytes());
    put(40, &0x3_0000u64.to_be_bytes());
    put(48, &0x1_0000u64.to_be_bytes());
    put(56, &1u32.to_be_bytes());
    put(96, &4u32.to_be_bytes());
    put(100, &112u32.to_be_bytes());
    bytes
}

#[test]
fn a_good_header_is_plain() {
    let parsed = Header::parse(&header()).unwrap();
    assert_eq!((parsed.virtual_size, &parsed.backing), (1 << 30, &None));
    assert_eq!(parsed.check_plain(1 << 20), Ok(()));
    assert!(parsed.check_plain(0x2_0000).is_err(), "its L1 table would lie outside");
}

#[test]
fn a_version_2_header_has_no_features() {
    let mut bytes = header();
    bytes[4..8].copy_from_slice(&2u32.to_be_bytes());
    // What version 3 would read as features.
    bytes[72..80].copy_from_slice(&0u64.to_be_bytes());
    assert_eq!(Header::parse(&bytes).unwrap().check_plain(1 << 20), Ok(()));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2048), length in any::<u64>()) {
        let mut magical = MAGIC.to_vec();
        magical.extend(&bytes);
        for bytes in [bytes, magical] {
            if let Ok(header) = Header::parse(&bytes) {
                let _ = header.check_plain(length);
            }
        }
    }

    #[test]
    fn what_passes_stands_alone(at in 4usize..200, value in any::<[u8; 8]>(), length in any::<u64>()) {
        let mut bytes = header();
        bytes[at..at + 8].copy_from_slice(&value);
        if let Ok(header) = Header::parse(&bytes)
            && header.check_plain(length).is_ok()
        {
            prop_assert_eq!(header.backing, None);
            prop_assert!(!header.names_data_file && header.incompatible & DATA_FILE == 0);
            prop_assert!(dewpoint_proto::limits::DISK_BYTES.contains(&header.virtual_size));
        }
    }
}
