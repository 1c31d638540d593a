//! Whether a delivered event is accepted, refused, or there already: pure, called inside the journal's transaction.

use crate::journal::admission::{Known, Offer, Verdict};

/// Judges one delivery.
#[must_use]
pub fn judge(known: &Known, offer: &Offer<'_>) -> Verdict {
    let _ = (known, offer);
    unimplemented!()
}
