//! Anti-spoofing rules of a fake host.

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::VmId;
use dewpoint_proto::names::InterfaceName;

use super::{Allowed, Rules, Seen, Shield, Survey};
use crate::hypervisor::fake::script::Fault;
use crate::hypervisor::fake::world::{State, World};

/// The rules of a [`World`].
#[derive(Clone, Debug)]
pub struct FakeShield(World);

impl FakeShield {
    /// The rules of a world.
    #[must_use]
    pub fn new(world: World) -> Self {
        Self(world)
    }

    async fn call(&self, name: &str, effect: impl Fn(&mut State)) -> Result<(), Cause> {
        self.0.fuse().point(&format!("{name}: before")).await;
        let fault = self.0.script().next(name);
        match &fault {
            Some(Fault::Before(cause)) => return Err(cause.clone()),
            Some(Fault::Hang) => return std::future::pending().await,
            Some(Fault::After(_) | Fault::Late) | None => self.0.change(effect),
        }
        self.0.fuse().point(&format!("{name}: after")).await;
        fault.map_or(Ok(()), |fault| Err(fault.cause(name)))
    }
}

#[async_trait]
impl Shield for FakeShield {
    async fn observe(&self, vm: VmId) -> Seen<Vec<Allowed>> {
        match self.0.script().next("observe-shield") {
            Some(_) => Seen::Unknown("nftables does not answer".to_owned()),
            None => self.0.change(|state| state.rules.get(&vm).cloned()).map_or(Seen::Absent, Seen::There),
        }
    }

    async fn survey(&self) -> Result<Survey, Cause> {
        let in_force: Vec<Allowed> = self.0.change(|state| state.rules.values().flatten().cloned().collect());
        let taps = in_force.iter().map(|allowed| allowed.tap.to_string()).collect();
        Ok(Survey { rules: Rules::Whole, in_force, taps })
    }

    async fn clear_taps(&self, taps: &[InterfaceName]) -> Result<(), Cause> {
        self.call("clear-taps", |state| {
            for rules in state.rules.values_mut() {
                rules.retain(|allowed| !taps.contains(&allowed.tap));
            }
            state.rules.retain(|_, rules| !rules.is_empty());
        })
        .await
    }

    async fn set(&self, vm: VmId, rules: &[Allowed]) -> Result<(), Cause> {
        self.call("set-shield", |state| {
            state.rules.insert(vm, rules.to_vec());
        })
        .await
    }

    async fn clear(&self, vm: VmId) -> Result<(), Cause> {
        self.call("clear-shield", |state| {
            state.rules.remove(&vm);
        })
        .await
    }
}
