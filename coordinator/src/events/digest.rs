//! What makes two requests the same: their parsed form, options included, in one fixed order.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Destroy, DiskDisposal, InitialPower, RebootManner, Stubborn};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::spec::Restart;
use serde::Serialize;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::request::{CancelEvent, Change, ChangeVm, CreateVm, Options, RetryEvent};
use crate::store::RequestDigest;

/// Raised when the order or meaning of what is hashed changes.
const FORM: u8 = 1;

/// The VM that a create without VM id makes: always the same for the same event.
pub(super) fn vm_of(event: EventId) -> VmId {
    let hash: [u8; 32] =
        Sha256::new().chain_update(b"dewpoint vm of event").chain_update(event.0).finalize().into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    VmId(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// An event's id, as the caller gave it or fresh.
pub(super) fn event_id(options: &Options) -> EventId {
    options.event.unwrap_or_else(|| EventId(Uuid::now_v7()))
}

fn options(options: &Options) -> impl Serialize {
    (options.not_after, options.retry_of, options.note.clone())
}

fn hash(kind: &str, request: impl Serialize) -> Result<RequestDigest, Cause> {
    let bytes = serde_json::to_vec(&(FORM, kind, request))
        .map_err(|e| Cause::new(Reason::Internal, format!("a request cannot be hashed: {e}")))?;
    Ok(RequestDigest(Sha256::digest(bytes).into()))
}

pub(super) fn of_create(request: &CreateVm) -> Result<RequestDigest, Cause> {
    let r = request;
    let sizes = (r.vcpus, r.memory_bytes, r.disk_bytes, r.disk_mode);
    let guest = (&r.nics, &r.ssh_keys, &r.user_data, &r.labels);
    let where_and_how = (r.placement, r.power == InitialPower::On, r.only_host, r.when_full);
    let create = (options(&r.options), r.vm, &r.name, sizes, &r.image, guest, where_and_how);
    // As an older coordinator hashed it, which knew no policy: a request repeated across an upgrade is the same.
    if r.restart == Restart::default() { hash("create", create) } else { hash("create", (create, r.restart)) }
}

pub(super) fn of_change(request: &ChangeVm) -> Result<RequestDigest, Cause> {
    let common = (options(&request.options), &request.vm);
    match &request.change {
        Change::Start => hash("start", common),
        Change::Stop(stop) => hash("stop", (common, stop.stubborn == Stubborn::Force, stop.timeout_seconds)),
        Change::Reboot(reboot) => {
            hash("reboot", (common, reboot.manner == RebootManner::Hard, reboot.timeout_seconds))
        }
        Change::Snapshot(snapshot) => hash("snapshot", (common, &snapshot.image_name)),
        Change::Restore(image) => hash("restore", (common, image)),
        Change::Destroy(Destroy { disks }) => hash("destroy", (common, *disks == DiskDisposal::DeleteNow)),
    }
}

pub(super) fn of_cancel(request: &CancelEvent) -> Result<RequestDigest, Cause> {
    hash("cancel", (options(&request.options), request.target))
}

pub(super) fn of_retry(request: &RetryEvent) -> Result<RequestDigest, Cause> {
    hash("retry", (options(&request.options), request.target, request.when_full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_event_names_the_same_vm() {
        let event = EventId::fresh();
        assert_eq!(vm_of(event), vm_of(event));
        assert_ne!(vm_of(event), vm_of(EventId::fresh()));
        assert_eq!(vm_of(event).0.get_version_num(), 8);
    }

    #[test]
    fn another_note_is_another_request() {
        let cancel = |note: &str| CancelEvent {
            options: Options { note: note.into(), ..Options::default() },
            target: EventId(Uuid::from_u128(7)),
        };
        assert_eq!(of_cancel(&cancel("a")).unwrap(), of_cancel(&cancel("a")).unwrap());
        assert_ne!(of_cancel(&cancel("a")).unwrap(), of_cancel(&cancel("b")).unwrap());
    }
}
