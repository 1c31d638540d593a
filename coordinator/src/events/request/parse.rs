//! Requests from the wire. Total: whatever a caller sends comes out as a request or as a cause naming the field.

use std::str::FromStr;

use dewpoint_proto::cause::{Cause, Reason, shortened};
use dewpoint_proto::event::{
    Destroy, DiskDisposal, InitialPower, Reboot, RebootManner, Snapshot, Stop, Stubborn,
};
use dewpoint_proto::limits;
use dewpoint_proto::spec::{DiskMode, ImageDigest, Placement};
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::{event, fleet};

use super::{
    CancelEvent, Change, ChangeVm, CreateVm, HostSelector, NicRequest, Options, RetryEvent, WhenFull,
};
use crate::events::stage::ForcedAs;
use crate::store::ImageSelector;

/// Text that stands for nothing when empty.
pub(crate) fn optional<T: FromStr<Err = Cause>>(text: &str) -> Result<Option<T>, Cause> {
    if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
}

pub(crate) fn address<T: FromStr>(field: &str, text: &str) -> Result<Option<T>, Cause> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        Cause::new(Reason::Invalid, format!("{field} `{}` is not an address", shortened(text)))
            .advise("write it as 192.0.2.5 or 2001:db8::5, without a prefix length")
            .with("field", field)
    })
}

/// Text of 64 hexadecimal digits (or `sha256:` and those) is a digest, all else a name.
impl FromStr for ImageSelector {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        match text.parse::<ImageDigest>() {
            Ok(digest) => Ok(Self::Digest(digest)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

/// Text that is a UUID, or else a hostname.
impl FromStr for HostSelector {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        let fits = (1..=253).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        if fits {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(Cause::new(Reason::Invalid, format!("`{}` is neither a host id nor a hostname", shortened(text)))
            .advise("give one that `dewpoint host list` shows")
            .with("field", "host"))
    }
}

impl TryFrom<Option<fleet::EventOptions>> for Options {
    type Error = Cause;

    fn try_from(options: Option<fleet::EventOptions>) -> Result<Self, Cause> {
        let options = options.unwrap_or_default();
        if options.note.len() > limits::NOTE_BYTES {
            return Err(Cause::new(Reason::TooLarge, format!("the note has {} bytes", options.note.len()))
                .advise(format!("give at most {} bytes", limits::NOTE_BYTES))
                .with("field", "note"));
        }
        Ok(Self {
            event: optional(&options.event_id)?,
            not_after: Millis::from_wire(options.not_after_ms),
            retry_of: optional(&options.retry_of)?,
            note: options.note,
        })
    }
}

impl TryFrom<fleet::CreateVmRequest> for CreateVm {
    type Error = Cause;

    fn try_from(create: fleet::CreateVmRequest) -> Result<Self, Cause> {
        let disk_mode = match create.disk_mode() {
            event::DiskMode::Overlay => DiskMode::Overlay,
            event::DiskMode::FullCopy => DiskMode::FullCopy,
        };
        let placement = match create.placement() {
            event::Placement::Bound => Placement::Bound,
            event::Placement::Movable => Placement::Movable,
        };
        let restart = create.restart().into();
        if create.nics.len() > limits::NICS {
            return Err(Cause::new(Reason::TooLarge, format!("nics has {} entries", create.nics.len()))
                .advise(format!("give at most {}", limits::NICS))
                .with("field", "nics"));
        }
        Ok(Self {
            options: create.options.try_into()?,
            vm: optional(&create.vm_id)?,
            name: create.name.parse()?,
            vcpus: create.vcpus,
            memory_bytes: create.memory_bytes,
            disk_bytes: (create.disk_bytes > 0).then_some(create.disk_bytes),
            disk_mode,
            image: create.image.parse()?,
            nics: create.nics.into_iter().map(NicRequest::try_from).collect::<Result<_, _>>()?,
            ssh_keys: create.ssh_keys,
            user_data: create.user_data.to_vec(),
            labels: create.labels.into_iter().collect(),
            placement,
            restart,
            power: if create.leave_off { InitialPower::Off } else { InitialPower::On },
            only_host: optional(&create.host_id)?,
            when_full: if create.wait_for_capacity { WhenFull::Wait } else { WhenFull::Refuse },
        })
    }
}

impl TryFrom<fleet::NicRequest> for NicRequest {
    type Error = Cause;

    fn try_from(nic: fleet::NicRequest) -> Result<Self, Cause> {
        Ok(Self {
            network: nic.network.parse()?,
            address4: address("address4", &nic.address4)?,
            address6: address("address6", &nic.address6)?,
        })
    }
}

impl ChangeVm {
    fn parse(options: Option<fleet::EventOptions>, vm: &str, change: Change) -> Result<Self, Cause> {
        Ok(Self { options: options.try_into()?, vm: vm.parse()?, change })
    }

    /// From the request of `StartVm`, which says no more than which VM.
    ///
    /// # Errors
    /// `INVALID`, naming the field.
    pub fn start(request: fleet::VmRequest) -> Result<Self, Cause> {
        Self::parse(request.options, &request.vm, Change::Start)
    }
}

impl TryFrom<fleet::StopVmRequest> for ChangeVm {
    type Error = Cause;

    fn try_from(stop: fleet::StopVmRequest) -> Result<Self, Cause> {
        let stubborn = if stop.force { Stubborn::Force } else { Stubborn::Leave };
        let timeout_seconds = timeout(stop.timeout_seconds)?;
        Self::parse(stop.options, &stop.vm, Change::Stop(Stop { stubborn, timeout_seconds }))
    }
}

impl TryFrom<fleet::RebootVmRequest> for ChangeVm {
    type Error = Cause;

    fn try_from(reboot: fleet::RebootVmRequest) -> Result<Self, Cause> {
        let manner = if reboot.hard { RebootManner::Hard } else { RebootManner::Soft };
        let timeout_seconds = timeout(reboot.timeout_seconds)?;
        Self::parse(reboot.options, &reboot.vm, Change::Reboot(Reboot { manner, timeout_seconds }))
    }
}

impl TryFrom<fleet::SnapshotVmRequest> for ChangeVm {
    type Error = Cause;

    fn try_from(snapshot: fleet::SnapshotVmRequest) -> Result<Self, Cause> {
        let image_name = optional(&snapshot.image_name)?;
        Self::parse(snapshot.options, &snapshot.vm, Change::Snapshot(Snapshot { image_name }))
    }
}

impl TryFrom<fleet::RestoreVmRequest> for ChangeVm {
    type Error = Cause;

    fn try_from(restore: fleet::RestoreVmRequest) -> Result<Self, Cause> {
        let image = restore.image.parse()?;
        Self::parse(restore.options, &restore.vm, Change::Restore(image))
    }
}

impl TryFrom<fleet::DestroyVmRequest> for ChangeVm {
    type Error = Cause;

    fn try_from(destroy: fleet::DestroyVmRequest) -> Result<Self, Cause> {
        let disks = if destroy.now { DiskDisposal::DeleteNow } else { DiskDisposal::Recycle };
        Self::parse(destroy.options, &destroy.vm, Change::Destroy(Destroy { disks }))
    }
}

impl TryFrom<fleet::CancelEventRequest> for CancelEvent {
    type Error = Cause;

    fn try_from(cancel: fleet::CancelEventRequest) -> Result<Self, Cause> {
        Ok(Self { options: cancel.options.try_into()?, target: cancel.event_id.parse()? })
    }
}

impl TryFrom<fleet::RetryEventRequest> for RetryEvent {
    type Error = Cause;

    fn try_from(retry: fleet::RetryEventRequest) -> Result<Self, Cause> {
        Ok(Self {
            options: retry.options.try_into()?,
            target: retry.event_id.parse()?,
            when_full: if retry.wait_for_capacity { WhenFull::Wait } else { WhenFull::Refuse },
        })
    }
}

/// What a person may say became of an event.
impl FromStr for ForcedAs {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        match text {
            "failed" => Ok(Self::Failed),
            "succeeded" => Ok(Self::Succeeded),
            "unknown" => Ok(Self::Unknown),
            _ => Err(Cause::new(Reason::Invalid, format!("`{}` is no end of an event", shortened(text)))
                .advise("give failed, succeeded or unknown")
                .with("field", "end")),
        }
    }
}

fn timeout(seconds: u32) -> Result<Option<u32>, Cause> {
    if seconds == 0 || limits::GUEST_TIMEOUT_SECONDS.contains(&seconds) {
        return Ok((seconds > 0).then_some(seconds));
    }
    Err(Cause::new(Reason::TooLarge, format!("the guest's timeout is {seconds} s"))
        .advise(format!("give at most {} s", limits::GUEST_TIMEOUT_SECONDS.end()))
        .with("field", "timeout_seconds"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create() -> fleet::CreateVmRequest {
        fleet::CreateVmRequest { name: "web".into(), image: "debian-12".into(), ..Default::default() }
    }

    #[test]
    fn what_is_empty_is_left_to_the_coordinator() {
        let parsed = CreateVm::try_from(create()).unwrap();
        assert_eq!((parsed.vm, parsed.disk_bytes, parsed.only_host), (None, None, None));
        assert_eq!(parsed.when_full, WhenFull::Refuse);
        assert_eq!(parsed.power, InitialPower::On);
    }

    #[test]
    fn a_digest_is_never_taken_for_a_name() {
        let digest = "ab".repeat(32);
        assert!(matches!(digest.parse(), Ok(ImageSelector::Digest(_))));
        assert!(matches!("debian-12".parse(), Ok(ImageSelector::Name(_))));
        assert!("../etc".parse::<ImageSelector>().is_err());
    }

    #[test]
    fn each_refusal_is_a_named_cause() {
        let wrong = [
            fleet::CreateVmRequest { name: "Web Server".into(), ..create() },
            fleet::CreateVmRequest { vm_id: "7".into(), ..create() },
            fleet::CreateVmRequest { image: "a b".into(), ..create() },
            fleet::CreateVmRequest { host_id: "h1".into(), ..create() },
            fleet::CreateVmRequest {
                nics: vec![fleet::NicRequest {
                    network: "lan".into(),
                    address4: "10.0.0".into(),
                    ..Default::default()
                }],
                ..create()
            },
        ];
        for request in wrong {
            assert_eq!(CreateVm::try_from(request).unwrap_err().reason, Reason::Invalid);
        }
    }
}
