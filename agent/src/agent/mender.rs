//! What a person has done on the spot, while the daemon runs: by the daemon, so that nothing has two who change it.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, HostId, VmId};

use crate::config::Config;
use crate::doctor::look::Eyes;
use crate::doctor::orphans::{self, Orphaned};
use crate::doctor::repair::{Hands, Key, Receipt, mend};
use crate::doctor::world::{Configured, Daemon};
use crate::execute::apply::Effects;
use crate::execute::executor::Executor;
use crate::journal::Journal;
use crate::local::service::Mend;
use crate::storage::Files;

/// Where the kernel lists interfaces.
const LINKS: &str = "/sys/class/net";

/// The daemon's hands for `recycle`, `doctor` and `orphans`.
pub(super) struct Mender {
    /// None: the agent only observes.
    executor: Option<Executor>,
    pub(super) eyes: Eyes,
    hands: Hands,
    journal: Journal,
}

/// What a host is looked at through; also for commands, with no daemon or beside it.
#[must_use]
pub fn eyes(config: &Config, host: Option<HostId>, effects: &Effects, files: &Files) -> Eyes {
    Eyes {
        host,
        daemon: Daemon::Up,
        journal: config.data_dir.join("agent.db"),
        hypervisor: Arc::clone(&effects.hypervisor),
        files: files.clone(),
        shield: Arc::clone(&effects.shield),
        links: LINKS.into(),
        coordinator: None,
        configured: Configured {
            bridge: config.network.bridge.clone(),
            table: config.network.nft_table.clone(),
            recycle_budget: config.storage.recycle_budget.0,
        },
    }
}

/// What repairs are made with; also for commands that hold the data folder.
#[must_use]
pub fn hands(effects: &Effects, files: &Files) -> Hands {
    Hands {
        hypervisor: Arc::clone(&effects.hypervisor),
        files: files.clone(),
        shield: Arc::clone(&effects.shield),
        links: PathBuf::from(LINKS),
    }
}

/// What is asked of an agent that touches nothing.
#[must_use]
pub fn only_observes() -> Cause {
    Cause::new(Reason::ObserveOnly, "this host only observes: nothing is changed on it")
        .advise("set observe_only = false in the host's agent.toml, and restart its agent")
}

#[async_trait]
impl Mend for Mender {
    async fn purge_recycled(&self, disks: Vec<EventId>) -> Result<Vec<EventId>, Cause> {
        self.acting()?;
        let purged = self.hands.files.purge_recycled_disks(disks).await?;
        Ok(purged.into_iter().map(|kept| kept.disk).collect())
    }

    async fn repair(&self, key: Key) -> Result<Option<Receipt>, Cause> {
        let (eyes, hands) = (self.eyes.clone(), self.hands.clone());
        self.alone(key.vm, async move { mend(&key, &eyes, &hands).await }).await
    }

    async fn adopt_orphan(&self, vm: VmId) -> Result<String, Cause> {
        let (eyes, hands, journal) = (self.eyes.clone(), self.hands.clone(), self.journal.clone());
        self.alone(Some(vm), async move { Ok(orphans::adopt(vm, &eyes, &hands, &journal).await?.done) }).await
    }

    async fn remove_orphan(&self, what: Orphaned) -> Result<String, Cause> {
        let (eyes, hands) = (self.eyes.clone(), self.hands.clone());
        self.alone(what.vm(), async move { orphans::remove_named(&what, &eyes, &hands).await }).await
    }
}

impl Mender {
    /// Of an agent that only observes, until it has an executor.
    pub(super) fn new(
        config: &Config,
        host: HostId,
        (effects, files): (&Effects, &Files),
        journal: &Journal,
    ) -> Self {
        let eyes = eyes(config, Some(host), effects, files);
        Self { executor: None, eyes, hands: hands(effects, files), journal: journal.clone() }
    }

    /// With the executor whose lanes are held closed meanwhile.
    pub(super) fn with(self, executor: Option<Executor>) -> Self {
        Self { executor, ..self }
    }

    fn acting(&self) -> Result<&Executor, Cause> {
        self.executor.as_ref().ok_or_else(only_observes)
    }

    /// With no lane of the VM beside it. Also when whoever asked goes away: the lane opens when it is done, and not before.
    async fn alone<T: Send + 'static>(
        &self,
        vm: Option<VmId>,
        work: impl Future<Output = Result<T, Cause>> + Send + 'static,
    ) -> Result<T, Cause> {
        let executor = self.acting()?;
        let held = vm.map(|vm| executor.hold_lane(vm)).transpose()?;
        let working = tokio::spawn(async move {
            let _held = held;
            work.await
        });
        working.await.unwrap_or_else(|error| {
            Err(Cause::new(Reason::Internal, format!("what was asked broke down: {error}"))
                .advise("report this as a bug, with the agent's log"))
        })
    }
}
