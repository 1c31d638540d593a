//! Events to and from the wire: parsing checks every bound, so what is in an [`Event`] may be believed.

use super::{
    Cancel, Create, Destroy, DiskDisposal, Event, InitialPower, Kind, Reboot, RebootManner, Restore,
    Snapshot, Stop, Stubborn,
};
use crate::cause::{Cause, Reason};
use crate::limits;
use crate::spec::{ImageRef, VmSpec};
use crate::time::Millis;
use crate::wire::event as wire;

impl TryFrom<wire::Event> for Event {
    type Error = Cause;

    fn try_from(event: wire::Event) -> Result<Self, Cause> {
        if event.note.len() > limits::NOTE_BYTES {
            return Err(Cause::new(Reason::TooLarge, format!("the note has {} bytes", event.note.len()))
                .advise(format!("give at most {} bytes", limits::NOTE_BYTES)));
        }
        let retry_of = if event.retry_of.is_empty() { None } else { Some(event.retry_of.parse()?) };
        let kind = event.kind.ok_or_else(|| {
            Cause::new(Reason::UnknownKind, "the event is of a kind that this version does not know")
                .advise("upgrade this side, then send the event again")
        })?;
        Ok(Self {
            id: event.event_id.parse()?,
            vm: event.vm_id.parse()?,
            accepted_at: Millis(event.accepted_at_ms),
            not_after: Millis::from_wire(event.not_after_ms),
            retry_of,
            note: event.note,
            kind: Kind::try_from(kind)?,
        })
    }
}

impl TryFrom<wire::event::Kind> for Kind {
    type Error = Cause;

    fn try_from(kind: wire::event::Kind) -> Result<Self, Cause> {
        use wire::event::Kind as Wire;
        Ok(match kind {
            Wire::Create(create) => Self::Create(Box::new(Create::try_from(create)?)),
            Wire::Start(_) => Self::Start,
            Wire::Stop(stop) => Self::Stop(Stop {
                stubborn: if stop.force { Stubborn::Force } else { Stubborn::Leave },
                timeout_seconds: timeout(stop.timeout_seconds)?,
            }),
            Wire::Reboot(reboot) => Self::Reboot(Reboot {
                manner: if reboot.hard { RebootManner::Hard } else { RebootManner::Soft },
                timeout_seconds: timeout(reboot.timeout_seconds)?,
            }),
            Wire::Snapshot(snapshot) => Self::Snapshot(Snapshot {
                image_name: match snapshot.image_name.as_str() {
                    "" => None,
                    name => Some(name.parse()?),
                },
            }),
            Wire::Restore(restore) => Self::Restore(Restore { source: source(restore.source)? }),
            Wire::Destroy(destroy) => Self::Destroy(Destroy {
                disks: if destroy.now { DiskDisposal::DeleteNow } else { DiskDisposal::Recycle },
            }),
            Wire::Cancel(cancel) => Self::Cancel(Cancel { target: cancel.target_event_id.parse()? }),
        })
    }
}

impl TryFrom<wire::Create> for Create {
    type Error = Cause;

    fn try_from(create: wire::Create) -> Result<Self, Cause> {
        let spec = create.spec.ok_or_else(|| missing("spec"))?;
        let spec = VmSpec::try_from(spec)?;
        let source = source(create.source)?;
        if spec.disk_bytes < source.virtual_size_bytes {
            return Err(Cause::new(
                Reason::Invalid,
                format!(
                    "disk_bytes is {}, the image's disk is {}",
                    limits::in_units(spec.disk_bytes),
                    limits::in_units(source.virtual_size_bytes)
                ),
            )
            .advise("give at least the image's virtual size")
            .with("field", "disk_bytes"));
        }
        let power = if create.start { InitialPower::On } else { InitialPower::Off };
        Ok(Self { spec, source, power })
    }
}

fn source(image: Option<wire::ImageRef>) -> Result<ImageRef, Cause> {
    ImageRef::try_from(image.ok_or_else(|| missing("source"))?)
}

fn missing(field: &str) -> Cause {
    Cause::new(Reason::Invalid, format!("{field} is missing")).advise("give it").with("field", field)
}

fn timeout(seconds: u32) -> Result<Option<u32>, Cause> {
    if seconds == 0 {
        return Ok(None);
    }
    if limits::GUEST_TIMEOUT_SECONDS.contains(&seconds) {
        return Ok(Some(seconds));
    }
    Err(Cause::new(Reason::TooLarge, format!("the guest's timeout is {seconds} s"))
        .advise(format!("give at most {} s", limits::GUEST_TIMEOUT_SECONDS.end()))
        .with("field", "timeout_seconds"))
}

impl From<Event> for wire::Event {
    fn from(event: Event) -> Self {
        Self {
            event_id: event.id.to_string(),
            vm_id: event.vm.to_string(),
            accepted_at_ms: event.accepted_at.0,
            not_after_ms: event.not_after.map_or(0, |at| at.0),
            retry_of: event.retry_of.map_or_else(String::new, |id| id.to_string()),
            note: event.note,
            kind: Some(event.kind.into()),
        }
    }
}

impl From<Kind> for wire::event::Kind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Create(create) => Self::Create(wire::Create {
                spec: Some(create.spec.into()),
                source: Some(create.source.into()),
                start: create.power == InitialPower::On,
            }),
            Kind::Start => Self::Start(wire::Start {}),
            Kind::Stop(stop) => Self::Stop(wire::Stop {
                force: stop.stubborn == Stubborn::Force,
                timeout_seconds: stop.timeout_seconds.unwrap_or(0),
            }),
            Kind::Reboot(reboot) => Self::Reboot(wire::Reboot {
                hard: reboot.manner == RebootManner::Hard,
                timeout_seconds: reboot.timeout_seconds.unwrap_or(0),
            }),
            Kind::Snapshot(snapshot) => Self::Snapshot(wire::Snapshot {
                image_name: snapshot.image_name.map(String::from).unwrap_or_default(),
            }),
            Kind::Restore(restore) => Self::Restore(wire::Restore { source: Some(restore.source.into()) }),
            Kind::Destroy(destroy) => {
                Self::Destroy(wire::Destroy { now: destroy.disks == DiskDisposal::DeleteNow })
            }
            Kind::Cancel(cancel) => Self::Cancel(wire::Cancel { target_event_id: cancel.target.to_string() }),
        }
    }
}
