//! Looks at the configurations of domains, for what somebody wrote into them while nobody listened.
//!
//! At all of them when the agent starts and when events of libvirt may have been lost; at one when an event of ours or somebody
//! else wrote it. Slower than a look at all domains, so at most once in [`super::Bounds::stock`], and never before a start.

use std::collections::BTreeSet;
use std::sync::Arc;

use dewpoint_proto::ids::VmId;
use tokio::time::Instant;

use super::ears::is_of_config;
use crate::execute::executor::Shared;
use crate::hypervisor::{Control, Domain, Domains, Seen};
use crate::journal::VmRow;
use crate::journal::admission::Presence;
use crate::journal::kept::ConfigSeen;

/// Which are to be looked at.
#[derive(Debug, Default)]
pub(super) struct Configs {
    /// Compared with what the journal has, since the agent started or was deaf.
    compared: BTreeSet<VmId>,
    /// When there is another look.
    due: Option<Instant>,
}

impl Configs {
    /// Something was told of a domain.
    pub(super) fn heard(&mut self, vm: VmId, word: &str) {
        if is_of_config(word) {
            self.compared.remove(&vm);
        }
    }

    /// libvirt may have told of something, and nobody heard.
    pub(super) fn all_may_be_edited(&mut self) {
        self.compared.clear();
        self.due = None;
    }

    /// Looks at those that are due, and has the lanes of those that are not as they were noted look as well.
    pub(super) async fn look(&mut self, shared: &Arc<Shared>, rows: &[VmRow], domains: &Domains) {
        if self.due.is_some_and(|due| Instant::now() < due) {
            return;
        }
        self.due = Some(Instant::now() + shared.parts.settings.keep.stock);
        self.compared.retain(|vm| domains.contains_key(vm));
        let due: Vec<_> = rows.iter().filter(|row| self.is_due(row, domains)).collect();
        for row in due {
            let begun = shared.ears.looks_at_config(row.vm);
            let Ok(found) = shared.parts.effects.hypervisor.inspect(Some(row.vm)).await else { return };
            let Some(Seen::There(details)) = found.get(&row.vm).map(|seen| &seen.details) else { continue };
            self.compared.insert(row.vm);
            let Some(digest) = details.config.clone() else { continue };
            let seen = ConfigSeen { generation: row.generation, digest };
            if row.kept.config.as_ref() != Some(&seen) {
                shared.ears.saw_config(row.vm, seen, begun);
                shared.look_at(row.vm);
            }
        }
    }

    fn is_due(&self, row: &VmRow, domains: &Domains) -> bool {
        let noted = row.kept.config.as_ref().is_some_and(|noted| noted.generation == row.generation);
        let asked = |domain: &Domain| domain.mark.there().is_some() && domain.control == Control::Idle;
        let settled = row.presence == Presence::There && !row.unfinished;
        settled && (!noted || !self.compared.contains(&row.vm)) && domains.get(&row.vm).is_some_and(asked)
    }
}
