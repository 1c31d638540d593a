//! Requests as tests make them: a small VM of the tiny image on the lab's network, and what else is asked of it.

use dewpoint_proto::ids::EventId;
use dewpoint_proto::limits::MIB;
use dewpoint_proto::wire::event::DiskMode;
use dewpoint_proto::wire::fleet::{
    CreateVmRequest, DestroyVmRequest, EventOptions, NicRequest, RebootVmRequest, RestoreVmRequest,
    SnapshotVmRequest, StopVmRequest, VmRequest,
};

/// The name of the tiny image in a test fleet's catalogue.
pub const IMAGE: &str = "tiny";
/// The name of a test fleet's network.
pub const NETWORK: &str = "lab";

/// A VM of 1 vCPU and 128 MiB with a NIC.
#[must_use]
pub fn vm(name: &str) -> CreateVmRequest {
    CreateVmRequest {
        options: fresh(),
        name: name.to_owned(),
        vcpus: 1,
        memory_bytes: 128 * MIB,
        image: IMAGE.to_owned(),
        nics: vec![NicRequest { network: NETWORK.to_owned(), ..NicRequest::default() }],
        ..CreateVmRequest::default()
    }
}

/// The same, with a guest that ignores the power button.
#[must_use]
pub fn stubborn_vm(name: &str) -> CreateVmRequest {
    CreateVmRequest { user_data: b"#tiny: ignore-power-button\n".as_slice().into(), ..vm(name) }
}

/// The same, with a guest agent.
#[must_use]
pub fn vm_with_agent(name: &str) -> CreateVmRequest {
    CreateVmRequest { user_data: b"#tiny: guest-agent\n".as_slice().into(), ..vm(name) }
}

/// The same, left off, without a NIC.
#[must_use]
pub fn vm_left_off(name: &str) -> CreateVmRequest {
    CreateVmRequest { leave_off: true, nics: Vec::new(), ..vm(name) }
}

/// The same with a disk that shares nothing with the image, which takes a while to make.
#[must_use]
pub fn vm_with_full_copy(name: &str) -> CreateVmRequest {
    CreateVmRequest { disk_mode: DiskMode::FullCopy.into(), ..vm(name) }
}

/// An event id of the caller's own.
#[must_use]
pub fn fresh() -> Option<EventOptions> {
    Some(EventOptions { event_id: EventId::fresh().to_string(), ..EventOptions::default() })
}

/// The event id in a request's options.
#[must_use]
pub fn id_of(options: &Option<EventOptions>) -> String {
    options.as_ref().map(|options| options.event_id.clone()).unwrap_or_default()
}

/// Start.
#[must_use]
pub fn start(vm: &str) -> VmRequest {
    VmRequest { options: fresh(), vm: vm.to_owned() }
}

/// Stop, leaving a guest that does not go.
#[must_use]
pub fn stop(vm: &str, timeout_seconds: u32) -> StopVmRequest {
    StopVmRequest { options: fresh(), vm: vm.to_owned(), force: false, timeout_seconds }
}

/// Stop, by force after the timeout.
#[must_use]
pub fn stop_by_force(vm: &str, timeout_seconds: u32) -> StopVmRequest {
    StopVmRequest { force: true, ..stop(vm, timeout_seconds) }
}

/// Reboot, asking the guest.
#[must_use]
pub fn soft_reboot(vm: &str) -> RebootVmRequest {
    RebootVmRequest { options: fresh(), vm: vm.to_owned(), hard: false, timeout_seconds: 60 }
}

/// Reboot by a power cycle.
#[must_use]
pub fn hard_reboot(vm: &str) -> RebootVmRequest {
    RebootVmRequest { hard: true, ..soft_reboot(vm) }
}

/// Snapshot under a name.
#[must_use]
pub fn snapshot(vm: &str, image_name: &str) -> SnapshotVmRequest {
    SnapshotVmRequest { options: fresh(), vm: vm.to_owned(), image_name: image_name.to_owned() }
}

/// Restore from an image.
#[must_use]
pub fn restore(vm: &str, image: &str) -> RestoreVmRequest {
    RestoreVmRequest { options: fresh(), vm: vm.to_owned(), image: image.to_owned() }
}

/// Destroy, disks to the recycle folder.
#[must_use]
pub fn destroy(vm: &str) -> DestroyVmRequest {
    DestroyVmRequest { options: fresh(), vm: vm.to_owned(), now: false }
}

/// Destroy, disks deleted.
#[must_use]
pub fn destroy_now(vm: &str) -> DestroyVmRequest {
    DestroyVmRequest { now: true, ..destroy(vm) }
}
