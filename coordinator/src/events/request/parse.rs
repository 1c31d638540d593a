//! From the wire: `TryFrom` for each request, and for what agents send.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::wire::{agent, fleet};

use super::{CancelEvent, ChangeVm, CreateVm};
use crate::store::{Hello, HostCapacity, HostReport};

macro_rules! later {
    ($($wire:ty => $ours:ty),*) => {$(
        impl TryFrom<$wire> for $ours {
            type Error = Cause;
            fn try_from(_: $wire) -> Result<Self, Cause> {
                unimplemented!()
            }
        }
    )*};
}

later!(
    fleet::CreateVmRequest => CreateVm,
    fleet::StopVmRequest => ChangeVm,
    fleet::RebootVmRequest => ChangeVm,
    fleet::SnapshotVmRequest => ChangeVm,
    fleet::RestoreVmRequest => ChangeVm,
    fleet::DestroyVmRequest => ChangeVm,
    fleet::CancelEventRequest => CancelEvent,
    fleet::Network => crate::store::NetworkSpec,
    agent::Hello => Hello,
    agent::Report => HostReport,
    agent::Capacity => HostCapacity,
    agent::Heartbeat => crate::events::HostHeartbeat
);

impl ChangeVm {
    /// From the request of `StartVm`, which says no more than which VM.
    ///
    /// # Errors
    /// `INVALID`, naming the field.
    pub fn start(_: fleet::VmRequest) -> Result<Self, Cause> {
        unimplemented!()
    }
}
