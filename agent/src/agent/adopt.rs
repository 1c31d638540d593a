//! A new journal on a host that has VMs: those that bear our marks are taken over, and nothing is done to them.
//!
//! Both marks count: the domain's, which names disk, run and what was wanted, and the folder's, which names this host.
//! A VM with one of them alone is left to `orphans`. What the VM is made of is beside the folder's mark, and was in the old
//! journal where that can still be read. Where neither tells all of it, nothing is guessed: placement and restart policy
//! decide whether a VM is started, so events that need the spec are refused by name until the host is reconciled.

use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::spec::VmSpec;
use tokio::time::{MissedTickBehavior, interval};

use crate::hypervisor::{Domain, Hypervisor, Mark, Seen};
use crate::journal::admission::Presence;
use crate::journal::kept::Kept;
use crate::journal::{Journal, VmRow};
use crate::storage::{Described, Storage, Told};

/// Between two tries while libvirt or the disk does not answer.
const AGAIN: Duration = Duration::from_secs(5);

/// What is asked, and what is written to.
pub(super) struct Adoption {
    pub(super) journal: Journal,
    pub(super) hypervisor: Arc<dyn Hypervisor>,
    pub(super) storage: Arc<dyn Storage>,
}

impl Adoption {
    /// Until it is done, or found not to be needed. Then waits for ever.
    pub(super) async fn run(self) {
        let mut ticks = interval(AGAIN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match self.try_once().await {
                Ok(()) => return std::future::pending().await,
                Err(cause) => {
                    tracing::warn!(reason = %cause.reason, "the host's VMs cannot be looked at yet: {cause}");
                }
            }
        }
    }

    pub(super) async fn try_once(&self) -> Result<(), Cause> {
        if !self.journal.awaits_adoption().await.map_err(Cause::from)? {
            return Ok(());
        }
        let mut rows = Vec::new();
        for domain in self.hypervisor.list().await?.into_values() {
            rows.extend(self.row(&domain).await?);
        }
        let adopted = self.journal.adopt(rows).await.map_err(Cause::from)?;
        if adopted > 0 {
            tracing::warn!(adopted, "VMs that bear this host's marks were taken over into a new journal");
        }
        Ok(())
    }

    /// None: it does not bear both marks, or has no such disk here.
    async fn row(&self, domain: &Domain) -> Result<Option<VmRow>, Cause> {
        let Seen::There(mark) = &domain.mark else { return Ok(None) };
        match self.storage.observe(mark.vm).await {
            Seen::There(files) if files.disks.contains_key(&mark.disk) => {
                Ok(Some(VmRow { spec: self.spec(mark).await, ..row(domain, mark) }))
            }
            Seen::There(_) | Seen::Absent => {
                tracing::warn!(vm_id = %mark.vm, "a domain bears our mark and its disk is not in the data folder");
                Ok(None)
            }
            Seen::Unknown(why) => {
                tracing::warn!(vm_id = %mark.vm, why, "a domain bears our mark and its folder cannot be taken for ours");
                Ok(None)
            }
        }
    }

    /// All that the VM is made of; none: that is not told.
    async fn spec(&self, mark: &Mark) -> Option<VmSpec> {
        match self.storage.describe(mark.vm, mark.disk, mark.seed).await {
            Ok(Described { spec, told: Told::Whole }) => Some(spec),
            Ok(Described { told: Told::InPart, .. }) => {
                tracing::warn!(vm_id = %mark.vm, "what the VM is made of is told in part only: an older agent made it");
                None
            }
            Err(cause) => {
                tracing::warn!(vm_id = %mark.vm, reason = %cause.reason, "what the VM is made of is not told: {cause}");
                None
            }
        }
    }
}

fn row(domain: &Domain, mark: &Mark) -> VmRow {
    // The domain's name is the VM's and the end of its id.
    let name = domain.name.rsplit_once('.').and_then(|(name, _)| name.parse().ok());
    VmRow {
        vm: mark.vm,
        name,
        generation: mark.generation,
        presence: Presence::There,
        wanted: mark.wanted,
        disk: Some(mark.disk),
        seed: Some(mark.seed),
        run: domain.live.there().map_or(mark.run, |live| live.run),
        spec: None,
        kept: Kept::default(),
        unfinished: false,
    }
}

#[cfg(test)]
pub(super) mod tests;
