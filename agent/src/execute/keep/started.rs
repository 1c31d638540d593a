//! What is kept of a start by policy: that it is asked for, and what came of it. Pure.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::RunId;
use dewpoint_proto::vm_state::{Incident, IncidentKind};

use crate::journal::kept::{Kept, Noted};
use crate::journal::moment::Moment;

/// A start by policy is about to be asked for.
#[must_use]
pub fn begun(kept: &Kept, run: RunId, now: Moment) -> Kept {
    let restarts = kept.restarts.saturating_add(1);
    Kept { restarts, last: Some(now), run: Some(run), starting: true, ..kept.clone() }
}

/// It was answered well.
#[must_use]
pub fn answered(kept: &Kept) -> Kept {
    Kept { noted: None, starting: false, ..kept.clone() }
}

/// It failed: what it was started for stands, and the next one waits longer.
#[must_use]
pub fn failed(kept: &Kept, cause: &Cause, now: Moment) -> Kept {
    let what = kept.noted.as_ref().map_or(IncidentKind::StartFailed, |noted| noted.what);
    let run = kept.run;
    let incident =
        Incident { kind: IncidentKind::StartFailed, at: now.wall, detail: cause.text.clone(), run };
    Kept {
        incident: Some(incident),
        noted: Some(Noted { what, run, at: now }),
        starting: false,
        ..kept.clone()
    }
}
