//! What programs and people are shown of the fleet: one file a noun, each with its JSON form and its text.
//!
//! JSON names are those of the wire, apart from instants (`..._at`, RFC 3339 in UTC instead of `..._at_ms`) and what is
//! empty on the wire (`null` here). They are as stable as the wire: added to, never renamed.

pub(crate) mod act;
pub(crate) mod event;
pub(crate) mod fleet;
pub(crate) mod host;
pub(crate) mod image;
pub(crate) mod network;
pub(crate) mod reconcile;
pub(crate) mod vm;

use std::collections::BTreeMap;

use dewpoint_proto::wire::event as wire;
use serde::Serialize;

/// Why, as JSON.
#[derive(Serialize)]
pub(crate) struct CauseView {
    reason: String,
    text: String,
    advice: String,
    fields: BTreeMap<String, String>,
}

impl From<&wire::Cause> for CauseView {
    fn from(cause: &wire::Cause) -> Self {
        Self {
            reason: cause.reason.clone(),
            text: cause.text.clone(),
            advice: cause.advice.clone(),
            fields: cause.fields.clone().into_iter().collect(),
        }
    }
}

/// `TEXT (REASON)`.
pub(crate) fn cause_line(cause: &wire::Cause) -> String {
    format!("{} ({})", cause.text, cause.reason)
}

/// What the wire leaves empty is `null` in JSON.
fn filled(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Which of the names are borne by more than one.
pub(crate) fn shared_names<'a>(names: impl Iterator<Item = &'a str>) -> std::collections::BTreeSet<String> {
    let mut seen = std::collections::BTreeSet::new();
    names.filter(|name| !seen.insert(*name)).map(str::to_owned).collect()
}
