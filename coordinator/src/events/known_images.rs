//! What digests name: the sizes of images that were asked for lately.
//!
//! A digest never names anything else, so it is read once. Whether the image is still in the catalogue is not known
//! here: the store looks, in the transaction that needs it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use dewpoint_proto::spec::{ImageDigest, ImageRef};

/// Images known, at most; a fleet uses some dozens at a time.
const MOST: usize = 1024;

#[derive(Default)]
pub(super) struct KnownImages(Mutex<HashMap<ImageDigest, ImageRef>>);

impl KnownImages {
    pub(super) fn get(&self, digest: &ImageDigest) -> Option<ImageRef> {
        self.known().get(digest).cloned()
    }

    /// Begins anew when there are too many: reading one again costs little.
    pub(super) fn keep(&self, image: &ImageRef) {
        let mut known = self.known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(image.digest, image.clone());
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ImageDigest, ImageRef>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_was_asked_for_lately_and_never_more_than_it_may() {
        let images = KnownImages::default();
        let image = |n: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_be_bytes());
            let size = n as u64;
            ImageRef {
                digest: ImageDigest(digest),
                size_bytes: size,
                virtual_size_bytes: size,
                local_path: None,
            }
        };
        for n in 0..2 * MOST {
            images.keep(&image(n));
            assert_eq!(images.get(&image(n).digest), Some(image(n)));
            assert!(images.known().len() <= MOST);
        }
        assert_eq!(images.get(&image(0).digest), None);
    }
}
