//! Looks at the host: all sources at once, each with its own deadline, each failing by itself. Changes nothing.

mod coordinator;
mod journal;
mod links;

use std::path::PathBuf;
use std::sync::Arc;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::HostId;
use dewpoint_proto::time::Millis;

use super::world::{Configured, Coordinator, Daemon, Scope, World};
use crate::hypervisor::Hypervisor;
use crate::link::dial::Dial;
use crate::network::Shield;
use crate::storage::Files;

/// What a host is looked at through.
#[derive(Clone)]
pub struct Eyes {
    /// This host; none: the agent has never started.
    pub host: Option<HostId>,
    /// Whether the agent's daemon answers.
    pub daemon: Daemon,
    /// `agent.db`.
    pub journal: PathBuf,
    /// The domains.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The data folder.
    pub files: Files,
    /// Our nftables table.
    pub shield: Arc<dyn Shield>,
    /// Where the kernel lists interfaces: `/sys/class/net`.
    pub links: PathBuf,
    /// How the coordinator is reached; none: it is not asked.
    pub coordinator: Option<Arc<dyn Dial>>,
    /// What is configured.
    pub configured: Configured,
}

impl Eyes {
    /// One look.
    pub async fn look(&self, scope: Scope) -> World {
        let now = Millis::now();
        let vm = match scope {
            Scope::Host => None,
            Scope::Vm(vm) => Some(vm),
        };
        let (journal, libvirt, disk, shield, links, coordinator) = tokio::join!(
            blocking({
                let path = self.journal.clone();
                move || journal::look(&path, vm)
            }),
            self.hypervisor.inspect(vm),
            self.files.survey(vm, now),
            self.shield.survey(),
            blocking({
                let folder = self.links.clone();
                move || links::look(&folder)
            }),
            self.ask_coordinator(scope),
        );
        World {
            scope,
            now,
            host: self.host,
            daemon: self.daemon,
            journal,
            libvirt,
            disk,
            shield,
            links,
            coordinator,
            configured: self.configured.clone(),
        }
    }

    async fn ask_coordinator(&self, scope: Scope) -> Coordinator {
        match (&self.coordinator, self.host, scope) {
            (Some(dial), Some(host), Scope::Host) => coordinator::look(dial.as_ref(), host).await,
            _ => Coordinator::NotAsked,
        }
    }
}

async fn blocking<T: Send + 'static>(
    look: impl FnOnce() -> Result<T, Cause> + Send + 'static,
) -> Result<T, Cause> {
    tokio::task::spawn_blocking(look)
        .await
        .unwrap_or_else(|error| Err(Cause::new(Reason::Internal, format!("looking broke down: {error}"))))
}
