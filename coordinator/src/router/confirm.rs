//! The word on movable VMs: after a boot of their host they are not started before the coordinator says that they are
//! still there. It answers from its rows, and says nothing while it does not know.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{Generation, HostId, VmId};
use dewpoint_proto::limits;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::to_agent;

use super::Shared;
use super::session::{End, Log, Session};
use crate::events::request::VmSelector;
use crate::store::VmRecord;

/// Answers what a heartbeat asks. A host whose log does not match ours gets no word.
pub(super) async fn answer(shared: &Shared, session: &Session, held: Vec<wire::Held>) -> Result<(), End> {
    if held.is_empty() || session.log == Log::Diverged {
        return Ok(());
    }
    let mut vms = Vec::new();
    for asked in held.into_iter().take(limits::VMS_PER_HOST as usize) {
        let Ok(id) = asked.vm_id.parse::<VmId>() else { continue };
        let refused = match shared.events.vm(VmSelector::Id(id)).await {
            Ok(vm) => match word(&vm, session.host, Generation(asked.generation)) {
                Some(refused) => refused,
                None => continue,
            },
            Err(cause) if cause.reason == Reason::VmNotFound => Some(unknown(id)),
            Err(cause) => return Err(cause.into()),
        };
        if let Some(cause) = &refused {
            tracing::warn!(vm_id = %id, reason = %cause.reason, "a movable VM is not to be started: {cause}");
        }
        vms.push(wire::Confirmed {
            vm_id: asked.vm_id,
            generation: asked.generation,
            refused: refused.map(Into::into),
        });
    }
    if vms.is_empty() {
        return Ok(());
    }
    session.outbound.send(to_agent::Message::Confirm(wire::Confirm { vms })).await
}

/// `Some(None)`: it may be started there. None: an event of a newer generation is on its way, and decides.
fn word(vm: &VmRecord, host: HostId, held: Generation) -> Option<Option<Cause>> {
    if vm.host != Some(host) {
        return Some(Some(elsewhere(vm)));
    }
    (vm.generation <= held).then_some(None)
}

fn elsewhere(vm: &VmRecord) -> Cause {
    let cause = match (vm.gone, vm.host) {
        (true, _) => Cause::new(Reason::VmElsewhere, "the coordinator counts the VM as gone"),
        (false, Some(host)) => {
            Cause::new(Reason::VmElsewhere, "the coordinator counts the VM to another host")
                .with("host_id", host)
        }
        (false, None) => Cause::new(Reason::VmElsewhere, "the coordinator counts the VM to no host"),
    };
    cause.advise("see `dewpoint vm show` for where it is; what is left of it here waits for a person")
}

fn unknown(vm: VmId) -> Cause {
    Cause::new(Reason::VmNotFound, "the coordinator does not know the VM")
        .advise("was its database restored from a backup? See `dewpoint host show`")
        .with("vm_id", vm)
}

#[cfg(test)]
mod tests {
    use dewpoint_proto::wire::agent::from_agent;
    use dewpoint_proto::wire::fleet;

    use super::*;
    use crate::testing::{Agent, Coordinator, Link};

    async fn asks(link: &mut Link, vm: &str, generation: u64) {
        let held = vec![wire::Held { vm_id: vm.to_owned(), generation }];
        let heartbeat = wire::Heartbeat { window: 32, held, ..Default::default() };
        link.send(from_agent::Message::Heartbeat(heartbeat)).await;
    }

    async fn told(link: &mut Link) -> Option<Reason> {
        let to_agent::Message::Confirm(confirm) = link.next().await else { panic!("no word") };
        assert_eq!(confirm.vms.len(), 1);
        confirm.vms[0].refused.clone().map(|cause| Cause::from(cause).reason)
    }

    /// Promise 11.
    #[tokio::test]
    async fn a_movable_vm_is_confirmed_to_the_host_that_has_it_alone_and_not_behind_its_events() {
        let coordinator = Coordinator::start().await;
        coordinator.image("tiny").await;
        let mut agent = Agent::new();
        let (mut link, _) = agent.connect(&coordinator).await;
        let created = coordinator.create("web").await;
        let deliver = link.deliver().await;
        agent.journal(&deliver);
        link.accept(1).await;
        let report = agent.succeeded(&deliver);
        link.report(report).await;
        assert_eq!(link.ack().await, 1);

        asks(&mut link, &created.vm_id, 1).await;
        assert_eq!(told(&mut link).await, None);
        let (mut elsewhere, _) = Agent::new().connect(&coordinator).await;
        asks(&mut elsewhere, &created.vm_id, 1).await;
        assert_eq!(told(&mut elsewhere).await, Some(Reason::VmElsewhere));
        asks(&mut elsewhere, &VmId::fresh().to_string(), 1).await;
        assert_eq!(told(&mut elsewhere).await, Some(Reason::VmNotFound));

        let reboot = fleet::RebootVmRequest { vm: created.vm_id.clone(), hard: true, ..Default::default() };
        coordinator.vms().reboot_vm(reboot).await.unwrap();
        assert_eq!(link.deliver().await.seq, 2);
        asks(&mut link, &created.vm_id, 1).await;
        link.is_quiet().await;
        asks(&mut link, &created.vm_id, 2).await;
        assert_eq!(told(&mut link).await, None);
    }
}
