//! What an unfinished event waits for, in words: from its stage, and from what is known of its host.

use dewpoint_proto::wire::event::Progress;

use super::Inner;
use super::liveness::Liveness;
use super::stage::Stage;
use crate::store::EventRecord;

impl Inner {
    /// None: it has ended.
    pub(super) fn waiting_for(&self, record: &EventRecord, progress: Option<&Progress>) -> Option<String> {
        match record.stage {
            Stage::Pending => return Some("a host that fits".to_owned()),
            Stage::Assigned | Stage::Accepted | Stage::Running => {}
            Stage::Succeeded
            | Stage::Failed
            | Stage::Refused
            | Stage::Expired
            | Stage::Cancelled
            | Stage::Unknown => return None,
        }
        let host = record.host?;
        let name = record.hostname.clone().unwrap_or_else(|| host.to_string());
        Some(self.hindrance(record, &name).unwrap_or_else(|| match record.stage {
            Stage::Assigned => format!("{name} to take it"),
            Stage::Accepted => format!("{name} to begin it"),
            _ => work(&name, progress),
        }))
    }

    /// Why its host does nothing for it; none: it does.
    fn hindrance(&self, record: &EventRecord, name: &str) -> Option<String> {
        let fleet = self.fleet();
        let view = fleet.view(record.host?)?;
        if view.diverged {
            return Some(format!("a person to reconcile {name}"));
        }
        if view.held {
            return Some(format!("a person to release {name}"));
        }
        let now = self.now();
        match Liveness::of(view.last_heartbeat, now, self.rules.liveness) {
            Liveness::Late | Liveness::Lost => {
                let silent = view.last_heartbeat.map_or(0, |last| now.since(last).as_secs());
                Some(format!("{name}, which is silent for {silent} s"))
            }
            Liveness::NeverSeen | Liveness::Retired => Some(format!("{name} to connect")),
            Liveness::Alive | Liveness::Diverged => None,
        }
    }
}

fn work(host: &str, progress: Option<&Progress>) -> String {
    match progress {
        Some(progress) if !progress.waiting_for.is_empty() => progress.waiting_for.clone(),
        Some(progress) if !progress.step.is_empty() => format!("{host} to finish {}", progress.step),
        _ => format!("{host} to finish it"),
    }
}
