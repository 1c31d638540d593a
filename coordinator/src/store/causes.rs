//! Causes that more than one part says, in one wording.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::names::NetworkName;

use super::ImageSelector;

/// What is said of an image that is not there.
pub(crate) fn no_image(image: &ImageSelector) -> Cause {
    let text = match image {
        ImageSelector::Digest(digest) => digest.to_string(),
        ImageSelector::Name(name) => name.to_string(),
    };
    Cause::new(Reason::ImageNotFound, format!("there is no image {text}"))
        .advise("see `dewpoint image ls`, or add it with `dewpoint image add`")
        .with("image", text)
}

/// What is said of a network that is not there.
pub(crate) fn no_network(name: &NetworkName) -> Cause {
    Cause::new(Reason::NetworkNotFound, format!("there is no network {name}"))
        .advise("see `dewpoint network ls`, or make it with `dewpoint network create`")
        .with("network", name)
}

/// What is said of an event id that came with another request.
pub(crate) fn reused(id: EventId) -> Cause {
    Cause::new(Reason::EventIdReused, format!("event {id} was another request"))
        .advise("give each request an event id of its own; repeat one only with all else the same")
        .with("event_id", id)
}

/// What is said of a host that is not there.
pub(crate) fn no_host(host: impl std::fmt::Display) -> Cause {
    Cause::new(Reason::HostNotFound, format!("there is no host {host}"))
        .advise("see `dewpoint host ls`")
        .with("host", host)
}

/// What is said of a VM that is not there, or is gone.
pub(crate) fn no_vm(vm: VmId) -> Cause {
    Cause::new(Reason::VmNotFound, format!("there is no VM {vm}, or it is gone"))
        .advise("see `dewpoint vm ls`; with --gone also those that are gone")
        .with("vm_id", vm)
}

/// What is said of an event that is not there.
pub(crate) fn no_event(event: EventId) -> Cause {
    Cause::new(Reason::EventNotFound, format!("there is no event {event}"))
        .advise("see `dewpoint event ls`")
        .with("event_id", event)
}
