//! What the agent of a diverged host is told: by level, so that it hears it again after any crash.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{HostId, VmId};
use dewpoint_proto::limits;
use dewpoint_proto::spec::VmSpec;
use dewpoint_proto::wire::agent as wire;
use dewpoint_proto::wire::agent::to_agent::Message;
use prost::Message as _;

use super::super::{Events, Inner};
use crate::store::{HostRecord, NewQueue, VmRecord};
use dewpoint_proto::event::Kind;

/// What is said next in a diverged session.
#[derive(Clone, Debug, PartialEq)]
pub enum Order {
    /// The host is not diverged any more: it dials again, and is matched.
    Settled,
    /// Nothing: it is an older agent, and a person looks on the host.
    Nothing,
    /// These messages; the name is the same while they are.
    Say {
        /// Of the order.
        name: &'static str,
        /// In this order.
        messages: Vec<Message>,
    },
}

impl Events {
    /// What the agent of a diverged host is to be told now.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn order(&self, host: HostId) -> Result<Order, Cause> {
        let inner = &self.inner;
        let Some(record) = inner.store.host(host).await? else { return Ok(Order::Nothing) };
        let Some(told) = record.told.as_ref().filter(|told| told.protocol >= 2) else {
            return Ok(if record.diverged.is_some() { Order::Nothing } else { Order::Settled });
        };
        if let Some(old) = record.becomes {
            let message = Message::Become(wire::Become { host_id: old.to_string() });
            return Ok(Order::Say { name: "become", messages: vec![message] });
        }
        match record.reconciling.filter(|queue| queue.from == told.journal) {
            Some(queue) => inner.new_queue(&record, &queue).await,
            None if record.diverged.is_none() => Ok(Order::Settled),
            None => inner.ask(&record).await,
        }
    }
}

impl Inner {
    async fn ask(&self, record: &HostRecord) -> Result<Order, Cause> {
        let last = record.told.as_ref().map_or(record.last_seq, |told| told.last_seq);
        let after = if record.recovering { record.accepted_seq } else { last };
        let unfinished = self.unfinished_of(record.id).await?;
        let message = Message::AskAccount(wire::AskAccount {
            after_seq: after.0,
            event_ids: unfinished.iter().map(|event| event.id.to_string()).collect(),
        });
        Ok(Order::Say { name: "ask", messages: vec![message] })
    }

    async fn new_queue(&self, record: &HostRecord, queue: &NewQueue) -> Result<Order, Cause> {
        let empty = || wire::Reconcile {
            from_journal_id: queue.from.to_string(),
            journal_id: queue.to.to_string(),
            base_seq: queue.base.0,
            base_event_id: queue.base_event.to_string(),
            vms: Vec::new(),
            complete: false,
            end_unfinished: queue.end_unfinished,
        };
        let (mut messages, mut chunk, mut bytes) = (Vec::new(), empty(), 0);
        for vm in self.vms_of(record.id).await? {
            let adopted = self.adopted(&vm).await?;
            let more = adopted.encoded_len() + 8;
            if bytes + more > limits::INVENTORY_CHUNK_BYTES {
                messages.push(Message::Reconcile(std::mem::replace(&mut chunk, empty())));
                bytes = 0;
            }
            bytes += more;
            chunk.vms.push(adopted);
        }
        messages.push(Message::Reconcile(wire::Reconcile { complete: true, ..chunk }));
        Ok(Order::Say { name: "reconcile", messages })
    }

    async fn adopted(&self, vm: &VmRecord) -> Result<wire::Adopted, Cause> {
        Ok(wire::Adopted {
            vm_id: vm.id.to_string(),
            generation: vm.generation.0,
            spec: Some(self.spec_of(vm.id, vm).await?.into()),
            wanted_on: vm.wanted_on,
        })
    }

    /// As it was created; when those bytes are gone, what its row kept: no keys and no user-data.
    async fn spec_of(&self, id: VmId, vm: &VmRecord) -> Result<VmSpec, Cause> {
        if let Some(body) = self.store.create_of(id).await?
            && let Kind::Create(create) = &body.event().kind
        {
            return Ok(create.spec.clone());
        }
        let shape = vm.shape.clone();
        Ok(VmSpec {
            name: vm.name.clone(),
            vcpus: shape.vcpus,
            memory_bytes: shape.memory_bytes,
            disk_bytes: shape.disk_bytes,
            disk_mode: shape.disk_mode,
            nics: shape.nics,
            ssh_keys: Vec::new(),
            user_data: Vec::new(),
            labels: shape.labels,
            placement: shape.placement,
            restart: shape.restart,
        })
    }
}
