//! What people did.

use dewpoint_proto::wire::fleet::Act;
use serde::Serialize;

use super::filled;
use crate::table::{Fit, Side, Table};
use crate::text::{Paint, instant, or_dash};

/// An act, as JSON.
#[derive(Serialize)]
pub(crate) struct ActView {
    at: Option<String>,
    who: String,
    act: String,
    host_id: Option<String>,
    hostname: Option<String>,
    event_id: Option<String>,
    vm_id: Option<String>,
    detail: Option<String>,
    reason: Option<String>,
}

impl From<&Act> for ActView {
    fn from(act: &Act) -> Self {
        Self {
            at: instant(act.at_ms),
            who: act.who.clone(),
            act: act.act.clone(),
            host_id: filled(&act.host_id),
            hostname: filled(&act.hostname),
            event_id: filled(&act.event_id),
            vm_id: filled(&act.vm_id),
            detail: filled(&act.detail),
            reason: filled(&act.reason),
        }
    }
}

/// The acts, newest first, and below each to what and why.
pub(crate) fn table(acts: &[Act], paint: Paint) -> String {
    let mut table =
        Table::keyed("WHEN").column("ACT", Side::Left, Fit::Whole).column("WHO", Side::Left, Fit::Shrink(8));
    for act in acts {
        table.row([instant(act.at_ms).unwrap_or_default(), act.act.clone(), act.who.clone()]);
        table.note(&subject(act));
        for text in [&act.detail, &act.reason] {
            if !text.is_empty() {
                table.note(text);
            }
        }
    }
    table.render(paint)
}

/// To what: `host hv1`, `event ...`, or the fleet.
fn subject(act: &Act) -> String {
    let host = if act.hostname.is_empty() { &act.host_id } else { &act.hostname };
    let named = [("event", &act.event_id), ("VM", &act.vm_id), ("host", host)];
    let named: Vec<String> = named
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(what, text)| format!("{what} {}", or_dash(text)))
        .collect();
    if named.is_empty() { "the whole fleet".to_owned() } else { named.join(", ") }
}
