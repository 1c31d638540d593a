//! What goes wrong in libvirt, as causes.

use dewpoint_proto::cause::{Cause, Reason};
use virt::error::Error;
use virt_sys as sys;

/// Why a call on a connection failed.
#[derive(Debug)]
pub(super) enum Trouble {
    /// libvirt's own error; its meaning depends on the call.
    Libvirt(Error),
    /// Already said in our words.
    Cause(Box<Cause>),
}

impl From<Error> for Trouble {
    fn from(error: Error) -> Self {
        Self::Libvirt(error)
    }
}

impl From<Cause> for Trouble {
    fn from(cause: Cause) -> Self {
        Self::Cause(Box::new(cause))
    }
}

impl Trouble {
    /// As a cause for whoever asked for `what` (a verb phrase: "start the domain").
    pub(super) fn into_cause(self, what: &str) -> Cause {
        match self {
            Self::Cause(cause) => *cause,
            Self::Libvirt(error) => refused(what, &error),
        }
    }
}

/// The number of a libvirt error: `virErrorNumber`.
pub(super) fn code(error: &Error) -> u32 {
    error.code().to_raw()
}

/// libvirt answered that there is no such domain. Nothing else proves that.
pub(super) fn is_no_domain(error: &Error) -> bool {
    code(error) == sys::VIR_ERR_NO_DOMAIN
}

/// The call does not fit the domain's state, such as starting one that runs.
pub(super) fn is_wrong_state(error: &Error) -> bool {
    code(error) == sys::VIR_ERR_OPERATION_INVALID
}

/// The driver does not know the call.
pub(super) fn is_unsupported(error: &Error) -> bool {
    [sys::VIR_ERR_NO_SUPPORT, sys::VIR_ERR_OPERATION_UNSUPPORTED].contains(&code(error))
}

/// libvirt cannot be reached.
pub(super) fn down(uri: &str, error: &Error) -> Cause {
    Cause::new(Reason::HypervisorDown, format!("libvirt at {uri} is not reachable: {}", said(error)))
        .advise("see `systemctl status libvirtd` (or virtqemud) on the host; running VMs are not affected")
        .with("libvirt_code", code(error))
}

fn refused(what: &str, error: &Error) -> Cause {
    let cause = Cause::new(Reason::HypervisorError, format!("libvirt did not {what}: {}", said(error)))
        .with("libvirt_code", code(error));
    match code(error) {
        sys::VIR_ERR_OPERATION_TIMEOUT => cause
            .advise("another call or job holds the domain; see `virsh domcontrol` and `virsh domjobinfo`"),
        sys::VIR_ERR_AGENT_UNRESPONSIVE | sys::VIR_ERR_AGENT_UNSYNCED => {
            cause.advise("see qemu-guest-agent in the guest")
        }
        _ => cause.advise(
            "see the domain's log in /var/log/libvirt/qemu on the host, and libvirt's own: `journalctl -u libvirtd`",
        ),
    }
}

/// libvirt's message, on one line and no longer than an error message should be: guests and files can put text in it.
pub(super) fn said(error: &Error) -> String {
    let mut text: String =
        error.message().chars().map(|c| if c.is_control() { ' ' } else { c }).take(600).collect();
    text.truncate(text.trim_end().len());
    text
}
