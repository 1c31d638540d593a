//! An in-memory host for tests: domains, files and anti-spoofing rules of one [`World`], which outlives the agents that
//! act on it, as a real host does.
//!
//! [`fuse`] cuts an agent off at any point, [`script`] makes calls fail, hang or act late, and [`world`] keeps what tests
//! ask afterwards: which runs there were, and what became of each disk. The files are in [`crate::storage::fake`], the
//! rules in [`crate::network::fake`].

pub mod domain;
pub mod fuse;
pub mod script;
pub mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;
use tokio::sync::broadcast;

use super::{
    Call, CallKind, Consistency, Details, Domain, DomainEvent, Domains, Freeze, Hypervisor, Inspected, Seen,
};
use script::Fault;
use world::World;

/// The domains of a [`World`].
#[derive(Clone, Debug)]
pub struct FakeHypervisor(World);

impl FakeHypervisor {
    /// What is said of each call.
    pub const DEADLINE: Duration = Duration::from_secs(40);

    /// The domains of a world.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self(world)
    }
}

#[async_trait]
impl Hypervisor for FakeHypervisor {
    async fn observe(&self, vm: VmId) -> Seen<Domain> {
        self.0.fuse().point("observe-domain").await;
        match self.0.script().next("observe-domain") {
            Some(_) => Seen::Unknown("libvirt does not answer".to_owned()),
            None => self.0.change(|state| state.look(vm)),
        }
    }

    async fn list(&self) -> Result<Domains, Cause> {
        self.look("list-domains").await?;
        Ok(self.0.change(|state| state.look_at_all()))
    }

    async fn disk_files(&self) -> Result<BTreeMap<VmId, Vec<PathBuf>>, Cause> {
        Ok(self.0.change(|state| {
            let ours = state.domains.iter().filter_map(|(vm, domain)| Some((*vm, domain.spec.as_ref()?)));
            ours.map(|(vm, spec)| (vm, vec![spec.disk.clone(), spec.seed.clone()])).collect()
        }))
    }

    async fn inspect(&self, which: Option<VmId>) -> Result<BTreeMap<VmId, Inspected>, Cause> {
        self.look("inspect-domains").await?;
        let mut domains = self.list().await?;
        domains.retain(|vm, _| which.is_none_or(|which| which == *vm));
        let details = self.0.change(|state| domains.keys().map(|vm| (*vm, state.details(*vm))).collect());
        let mut details: BTreeMap<VmId, Seen<Details>> = details;
        let both = |(vm, domain)| {
            let details = details.remove(&vm).unwrap_or(Seen::Absent);
            (vm, Inspected { domain, details })
        };
        Ok(domains.into_iter().map(both).collect())
    }

    async fn apply(&self, call: Call) -> Result<Option<Consistency>, Cause> {
        let name = call.name();
        self.0.fuse().point(&format!("{name}: before")).await;
        if self.0.fuse().point_sent(&format!("{name}: sent")) {
            // The agent dies with the call on its way: libvirt carries it out later, if it would at all.
            if !matches!(self.0.script().next(name), Some(Fault::Before(_))) {
                self.0.change(|state| state.send_late(call));
            }
            return self.0.fuse().dead().await;
        }
        let fault = self.0.script().next(name);
        self.0.script().pass(name).await;
        let result = match fault {
            Some(Fault::Before(cause)) => return Err(cause),
            Some(Fault::Hang) => return std::future::pending().await,
            Some(Fault::Late) => {
                self.0.change(|state| state.send_late(call));
                return Err(Cause::new(Reason::CallOverran, format!("{name} overran its deadline")));
            }
            Some(Fault::After(cause)) => self.carry_out(call).await.and(Err(cause)),
            None if self.0.script().repeats() => {
                let first = self.carry_out(call.clone()).await;
                match (&first, &call) {
                    // Of a begin that was told to have failed nothing is believed, so the agent hears of the first.
                    (Ok(_), Call::BeginBackup { .. }) => self.carry_out(call).await.or(first),
                    // What libvirt says of the second time is the answer that the agent gets.
                    (Ok(_), _) => self.carry_out(call).await,
                    (Err(_), _) => first,
                }
            }
            None => self.carry_out(call).await,
        };
        self.0.fuse().point(&format!("{name}: after")).await;
        result
    }

    fn deadline(&self, _: CallKind) -> Duration {
        Self::DEADLINE
    }

    fn events(&self) -> broadcast::Receiver<DomainEvent> {
        self.0.events()
    }

    fn degraded(&self) -> Vec<Cause> {
        Vec::new()
    }
}

impl FakeHypervisor {
    /// A look that may go wrong, or be slow.
    async fn look(&self, name: &str) -> Result<(), Cause> {
        let fault = self.0.script().next(name);
        self.0.script().pass(name).await;
        fault.map_or(Ok(()), |fault| Err(fault.cause(name)))
    }

    async fn carry_out(&self, call: Call) -> Result<Option<Consistency>, Cause> {
        if let Call::BeginBackup { vm, freeze: Freeze::Not(why), .. } = &call {
            let begun = self.0.change(|state| state.carry_out(&call));
            self.0.fuse().point("begin-backup: begun").await;
            if self.0.change(|state| state.domains.get(vm).is_some_and(|domain| domain.frozen)) {
                self.0.change(|state| state.wrongs.push("a backup of a frozen guest".to_owned()));
            }
            return begun.map(|()| Some(Consistency::Crash(why.clone())));
        }
        if let Call::BeginBackup { vm, .. } = call {
            self.0.change(|state| state.freeze(vm))?;
            self.0.fuse().point("begin-backup: frozen").await;
            let begun = self.0.change(|state| state.carry_out(&call));
            self.0.fuse().point("begin-backup: begun").await;
            self.0.change(|state| state.thaw(vm));
            return begun.map(|()| Some(Consistency::FileSystem));
        }
        self.0.change(|state| state.carry_out(&call)).map(|()| None)
    }
}
