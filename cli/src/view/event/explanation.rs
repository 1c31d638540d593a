//! How the scheduler came to its host.

use std::collections::BTreeMap;

use dewpoint_proto::wire::fleet::{Explanation, HostVerdict};
use serde::Serialize;

use crate::table::{Fit, Side, Table};
use crate::text::{Paint, instant};
use crate::view::filled;

/// A placement, as JSON.
#[derive(Serialize)]
pub(crate) struct ExplanationView {
    considered: u32,
    chosen_host_id: Option<String>,
    decided_at: Option<String>,
    hosts: Vec<VerdictView>,
}

#[derive(Serialize)]
struct VerdictView {
    host_id: String,
    hostname: String,
    rejected_by: Option<String>,
    text: String,
    score: f64,
    weights: BTreeMap<String, f64>,
}

impl From<&Explanation> for ExplanationView {
    fn from(explanation: &Explanation) -> Self {
        Self {
            considered: explanation.considered,
            chosen_host_id: filled(&explanation.chosen_host_id),
            decided_at: instant(explanation.decided_at_ms),
            hosts: explanation.hosts.iter().map(VerdictView::from).collect(),
        }
    }
}

impl From<&HostVerdict> for VerdictView {
    fn from(verdict: &HostVerdict) -> Self {
        Self {
            host_id: verdict.host_id.clone(),
            hostname: verdict.hostname.clone(),
            rejected_by: filled(&verdict.rejected_by),
            text: verdict.text.clone(),
            score: verdict.score,
            weights: verdict.weights.clone().into_iter().collect(),
        }
    }
}

/// The hosts considered, with what turned each away or how it scored.
pub(crate) fn table(explanation: &Explanation, paint: Paint) -> String {
    let mut table = Table::keyed("HOST")
        .column("VERDICT", Side::Left, Fit::Shrink(10))
        .column("SCORE", Side::Right, Fit::Whole)
        .column("WHY", Side::Left, Fit::Shrink(10));
    for host in &explanation.hosts {
        let verdict = match host.rejected_by.as_str() {
            "" if host.host_id == explanation.chosen_host_id => "chosen",
            "" => "fits",
            filter => filter,
        };
        let score = if host.rejected_by.is_empty() { format!("{:.3}", host.score) } else { "-".to_owned() };
        let name = if host.hostname.is_empty() { &host.host_id } else { &host.hostname };
        table.row([name.clone(), verdict.to_owned(), score, host.text.clone()]);
    }
    let hosts = if explanation.considered == 1 { "host" } else { "hosts" };
    format!("placement, {} {hosts} considered:\n{}", explanation.considered, table.render(paint))
}
