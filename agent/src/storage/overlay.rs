//! Empty overlays, remembered: what `qemu-img create` makes for one image and size is the same bytes each time, as the
//! base is named relatively, by its digest. The first is QEMU's own work; those after it are written from memory, which
//! spares each create a process.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use dewpoint_proto::spec::ImageDigest;

/// How many are remembered; each takes some 20 KiB.
const MOST: usize = 16;
/// What is not zero is kept in pieces of this size, in bytes.
const PIECE: usize = 4096;
/// Larger ones are not kept. An overlay's first clusters and its table take some 200 KiB, and 8 KiB more for each TiB.
const LARGEST: u64 = 4 * 1024 * 1024;

/// What an overlay's bytes depend on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) image: ImageDigest,
    /// Of the virtual disk.
    pub(super) size_bytes: u64,
}

/// An empty overlay's bytes, without the holes.
#[derive(Debug)]
pub(super) struct Template {
    length: u64,
    pieces: Vec<(u64, Vec<u8>)>,
}

/// The overlays that were made last.
#[derive(Debug, Default)]
pub(super) struct Templates(Mutex<VecDeque<(Key, Arc<Template>)>>);

impl Template {
    /// Reads one that `qemu-img` has just made; none: it is larger than an empty overlay has any reason to be.
    pub(super) fn read(made: &File) -> io::Result<Option<Self>> {
        let length = made.metadata()?.len();
        if length > LARGEST {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        made.take(LARGEST).read_to_end(&mut bytes)?;
        let pieces =
            bytes.chunks(PIECE).zip(0_u64..).filter(|(piece, _)| piece.iter().any(|byte| *byte != 0));
        let pieces = pieces.map(|(piece, nth)| (nth * PIECE as u64, piece.to_vec())).collect();
        Ok(Some(Self { length, pieces }))
    }

    /// Writes it into a new, empty file. Not synced.
    pub(super) fn write(&self, empty: &File) -> io::Result<()> {
        empty.set_len(self.length)?;
        self.pieces.iter().try_for_each(|(at, piece)| empty.write_all_at(piece, *at))
    }
}

impl Templates {
    pub(super) fn of(&self, key: Key) -> Option<Arc<Template>> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let at = known.iter().position(|(of, _)| *of == key)?;
        let found = known.remove(at)?;
        let template = Arc::clone(&found.1);
        known.push_back(found);
        Some(template)
    }

    /// Remembers one, and forgets the one that was not used for longest.
    pub(super) fn keep(&self, key: Key, template: Template) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(of, _)| *of != key);
        if known.len() == MOST {
            known.pop_front();
        }
        known.push_back((key, Arc::new(template)));
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn key(n: u64) -> Key {
        Key { image: ImageDigest([7; 32]), size_bytes: n }
    }

    fn template(length: u64) -> Template {
        Template { length, pieces: Vec::new() }
    }

    #[test]
    fn what_is_written_is_what_was_read_holes_included() {
        let made = tempfile::tempfile().unwrap();
        made.set_len(200_000).unwrap();
        made.write_all_at(b"QFI\xfb", 0).unwrap();
        made.write_all_at(b"table", 131_070).unwrap();
        made.write_all_at(b"end", 199_997).unwrap();
        let again = tempfile::tempfile().unwrap();
        Template::read(&made).unwrap().unwrap().write(&again).unwrap();
        let bytes = |mut file: &File| {
            let mut bytes = vec![0; 200_000];
            file.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(file.read(&mut [0; 1]).map(|_| file.metadata().unwrap().len()).unwrap(), 200_000);
            bytes
        };
        assert_eq!(bytes(&made), bytes(&again));
        assert!(again.metadata().unwrap().blocks() * 512 <= 4 * PIECE as u64, "holes stay holes");
    }

    #[test]
    fn a_large_one_is_not_kept() {
        let made = tempfile::tempfile().unwrap();
        made.set_len(LARGEST + 1).unwrap();
        assert!(Template::read(&made).unwrap().is_none());
    }

    #[test]
    fn the_one_that_was_not_used_for_longest_is_forgotten() {
        let known = Templates::default();
        for n in 0..MOST as u64 {
            known.keep(key(n), template(n));
        }
        assert!(known.of(key(0)).is_some());
        known.keep(key(99), template(99));
        assert!(known.of(key(1)).is_none(), "the oldest");
        assert_eq!(known.of(key(0)).unwrap().length, 0, "used since");
        assert_eq!(known.of(key(99)).unwrap().length, 99);
    }
}
