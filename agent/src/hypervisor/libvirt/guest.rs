//! What is asked of a guest agent: a program of the guest's, which may answer late, never, or anything at all.
//!
//! A freeze that was not answered in time is on its way all the same, and is carried out whenever the agent comes to it.
//! So a guest is frozen only after its agent has answered a question that changes nothing; and once a freeze was sent, the
//! guest counts as thawed only by the agent's own answer to a thaw, which it comes to after the freeze.

use dewpoint_proto::cause::{Cause, Reason};
use quick_xml::XmlVersion;
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;
use virt::domain::Domain as Handle;
use virt::error::Error;
use virt_sys as sys;

use super::trouble::{Trouble, code, said};
use super::{Settings, ffi};
use crate::hypervisor::{Consistency, FreezeSent};

/// Tries of one call to thaw, each as long as the guest agent's timeout: together half a minute.
const THAWS: usize = 10;

/// What came of a question to the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Heard {
    /// It did it.
    Yes,
    /// It answered that it does not.
    Refused(String),
    /// The guest has no agent at work.
    NoAgent,
    /// There is an agent, and it did not answer in time: it may do it later.
    Nothing(String),
}

/// Freezes the guest's file systems if its agent answers. An error: it may be frozen.
pub(super) fn freeze(handle: &Handle, settings: &Settings) -> Result<Consistency, Trouble> {
    if let Err(why) = answers(handle, settings) {
        return Ok(Consistency::Crash(why));
    }
    let (sent, why) = match heard(handle, ffi::freeze(handle)) {
        Ok(Heard::Yes) => return Ok(Consistency::FileSystem),
        Ok(Heard::Refused(why)) => (FreezeSent::Perhaps, why),
        Ok(Heard::Nothing(why)) => (FreezeSent::Surely, why),
        Ok(Heard::NoAgent) => (FreezeSent::Surely, "its guest agent went away".to_owned()),
        Err(error) => {
            thaw(handle, settings, FreezeSent::Surely)?;
            return Err(error.into());
        }
    };
    tracing::warn!(error = why, "the guest did not freeze; its snapshot will be as after a power cut");
    thaw(handle, settings, sent)?;
    Ok(Consistency::Crash(why))
}

/// Thaws until the agent says that nothing is frozen, for half a minute.
pub(super) fn thaw(handle: &Handle, settings: &Settings, sent: FreezeSent) -> Result<(), Trouble> {
    ffi::set_agent_timeout(handle, settings.agent_seconds())?;
    let mut last = String::new();
    for _ in 0..THAWS {
        last = match heard(handle, ffi::thaw(handle))? {
            Heard::Yes => return Ok(()),
            // Whoever refuses to thaw, or is not there, has most likely not frozen either.
            Heard::Refused(_) | Heard::NoAgent if sent == FreezeSent::Perhaps => return Ok(()),
            Heard::Refused(why) => return Err(frozen(&why).into()),
            Heard::NoAgent => return Err(frozen("its guest agent went away").into()),
            Heard::Nothing(why) => why,
        };
    }
    Err(frozen(&last).into())
}

/// Asks the guest to go down; false: its agent does not, so that it is to be asked in another way.
pub(super) fn shut_down(handle: &Handle, settings: &Settings) -> Result<bool, Error> {
    // libvirt waits a minute for the answer to the request itself.
    if answers(handle, settings).is_err() {
        return Ok(false);
    }
    let asked = handle.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_GUEST_AGENT);
    Ok(heard(handle, asked)? == Heard::Yes)
}

/// Whether the agent answers at all; else why not. Changes nothing in the guest, so a question that it comes to late is
/// harmless.
fn answers(handle: &Handle, settings: &Settings) -> Result<(), String> {
    let asked = ffi::set_agent_timeout(handle, settings.agent_seconds()).and_then(|()| handle.time(0));
    match heard(handle, asked.map(drop)) {
        Ok(Heard::Yes | Heard::Refused(_)) => Ok(()),
        Ok(Heard::NoAgent) => Err("no guest agent answers".to_owned()),
        Ok(Heard::Nothing(why)) => Err(format!("the guest agent does not answer: {why}")),
        Err(error) => Err(format!("the guest agent cannot be asked: {}", said(&error))),
    }
}

/// What an answer means. An error is libvirt's own.
fn heard(handle: &Handle, answer: Result<(), Error>) -> Result<Heard, Error> {
    let Err(error) = answer else { return Ok(Heard::Yes) };
    match code(&error) {
        // The domain was defined without a channel for the agent (by an older version, or by hand).
        sys::VIR_ERR_ARGUMENT_UNSUPPORTED | sys::VIR_ERR_NO_SUPPORT => Ok(Heard::NoAgent),
        sys::VIR_ERR_AGENT_COMMAND_FAILED => Ok(Heard::Refused(said(&error))),
        // Before libvirt 11.2 a refusal has no code of its own,
        sys::VIR_ERR_INTERNAL_ERROR if error.message().contains("QEMU agent command") => {
            Ok(Heard::Refused(said(&error)))
        }
        // and a request that ran out of time has that of an agent that is not there.
        sys::VIR_ERR_AGENT_UNRESPONSIVE if is_away(handle) => Ok(Heard::NoAgent),
        sys::VIR_ERR_AGENT_UNRESPONSIVE
        | sys::VIR_ERR_AGENT_COMMAND_TIMEOUT
        | sys::VIR_ERR_AGENT_UNSYNCED => Ok(Heard::Nothing(said(&error))),
        _ => Err(error),
    }
}

/// Whether libvirt knows that nothing in the guest has the agent's channel open.
fn is_away(handle: &Handle) -> bool {
    handle.xml_desc(0).is_ok_and(|xml| is_closed(&xml))
}

fn is_closed(xml: &str) -> bool {
    let mut reader = Reader::from_str(xml);
    loop {
        match reader.read_event() {
            Ok(Event::Start(element) | Event::Empty(element))
                if element.local_name().as_ref() == "target"
                    && attribute(&element, "name").as_deref() == Some("org.qemu.guest_agent.0") =>
            {
                return attribute(&element, "state").as_deref() == Some("disconnected");
            }
            Ok(Event::Eof) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

fn attribute(element: &BytesStart<'_>, name: &str) -> Option<String> {
    let found = element.try_get_attribute(name).ok().flatten()?;
    found.normalized_value(XmlVersion::Implicit1_0).ok().map(|value| value.into_owned())
}

fn frozen(why: &str) -> Cause {
    Cause::new(
        Reason::GuestFrozen,
        format!("the guest agent took a freeze and does not thaw, so the guest may stand still: {why}"),
    )
    .advise(
        "see to qemu-guest-agent in the guest (fsfreeze -u thaws by hand); a hard reboot of the VM ends it in any case",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_channel_that_libvirt_calls_disconnected_is_away() {
        let with = |state: &str| {
            format!(
                "<domain><devices><channel type='unix'><target type='virtio' name='other.0' state='disconnected'/></channel>\
                 <channel type='unix'><source mode='bind'/><target type='virtio' name='org.qemu.guest_agent.0' {state}/>\
                 </channel></devices></domain>"
            )
        };
        assert!(is_closed(&with("state='disconnected'")));
        assert!(!is_closed(&with("state='connected'")));
        assert!(!is_closed(&with("")), "nobody knows");
        assert!(!is_closed("no xml at all"));
    }
}
