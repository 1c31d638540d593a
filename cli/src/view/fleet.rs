//! What holds for all hosts.

use dewpoint_proto::wire::fleet::FleetRecord;
use serde::Serialize;

use super::{CauseView, cause_line, filled};
use crate::table::fields;

/// The fleet, as JSON.
#[derive(Serialize)]
pub(crate) struct FleetView {
    held: bool,
    hold_reason: Option<String>,
    recovering: Option<CauseView>,
    destroy_limit: u32,
    destroy_limit_set: bool,
}

impl From<&FleetRecord> for FleetView {
    fn from(record: &FleetRecord) -> Self {
        Self {
            held: record.held,
            hold_reason: filled(&record.hold_reason),
            recovering: record.recovering.as_ref().map(CauseView::from),
            destroy_limit: record.destroy_limit,
            destroy_limit_set: record.destroy_limit_set,
        }
    }
}

/// All of it.
pub(crate) fn show(record: &FleetRecord) -> String {
    let held = match (record.held, record.hold_reason.is_empty()) {
        (false, _) => "no".to_owned(),
        (true, true) => "yes".to_owned(),
        (true, false) => format!("yes: {}", record.hold_reason),
    };
    let by = if record.destroy_limit_set { "set by a person" } else { "as configured" };
    let limit = match record.destroy_limit {
        0 => format!("no limit ({by})"),
        limit => format!("{limit} a minute ({by})"),
    };
    let recovering = record.recovering.as_ref();
    fields([
        ("held", held),
        ("recovering", recovering.map_or_else(|| "no".to_owned(), cause_line)),
        ("next", recovering.map(|cause| cause.advice.clone()).unwrap_or_default()),
        ("destroys", limit),
    ])
}
