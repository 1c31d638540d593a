//! Every way a command ends badly, and the exit status that says so.
//!
//! The status depends on what happened, not on where it was found out: a name that is not valid is `refused` whether
//! this side or the coordinator says it.

use std::io;
use std::process::ExitCode;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::status::from_status;
use tonic::{Code, Status};

/// The exit status of the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Ok,
    /// 1: an event ended otherwise than `succeeded`, or something broke.
    Failed,
    /// 2: the command line cannot be understood; nothing was sent.
    Usage,
    /// 3: the coordinator is not reachable.
    Unreachable,
    /// 4: refused: not valid, not found, in conflict, no capacity.
    Refused,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Exit {
    /// The number that the process ends with.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Unreachable => 3,
            Self::Refused => 4,
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line cannot be understood; the text is whole and already says how to go on.
    Usage(String),
    /// Refused or failed, here or at the coordinator.
    Cause(Box<Cause>, Exit),
    /// What was to be printed cannot be written. A closed pipe is no failure: who reads has seen enough.
    Output(io::Error),
}

impl Failure {
    /// An event that ended otherwise than `succeeded`, whatever its reason.
    pub(crate) fn ended(cause: Cause) -> Self {
        Self::Cause(Box::new(cause), Exit::Failed)
    }

    /// What the coordinator answered.
    pub(crate) fn answered(status: &Status) -> Self {
        let cause = from_status(status);
        // A reason that only a newer coordinator knows still has its gRPC code.
        let exit = match &cause.reason {
            Reason::Other(_) => exit_of_code(status.code()),
            known => exit_of(known),
        };
        Self::Cause(Box::new(cause), exit)
    }

    /// A bug, or a machine without the resources for even this.
    pub(crate) fn internal(error: impl std::fmt::Display) -> Self {
        Cause::new(Reason::Internal, error.to_string()).into()
    }

    /// The exit status that says it.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Cause(_, exit) => *exit,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
            Self::Output(_) => Exit::Failed,
        }
    }
}

impl From<Cause> for Failure {
    fn from(cause: Cause) -> Self {
        let exit = exit_of(&cause.reason);
        Self::Cause(Box::new(cause), exit)
    }
}

fn exit_of(reason: &Reason) -> Exit {
    match reason {
        Reason::Unreachable => Exit::Unreachable,
        // The file is not what its digest says, or is no image: it is refused, nothing broke.
        Reason::DigestMismatch => Exit::Refused,
        other => exit_of_code(other.code()),
    }
}

fn exit_of_code(code: Code) -> Exit {
    match code {
        Code::Ok => Exit::Ok,
        Code::InvalidArgument
        | Code::OutOfRange
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::Unimplemented => Exit::Refused,
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => Exit::Failed,
    }
}

/// This command stopped waiting; what it waited for goes on. Said here alone, so not among the shared reasons.
pub(crate) fn wait_timed_out(text: impl Into<String>) -> Cause {
    Cause::new(Reason::Other("WAIT_TIMED_OUT".to_owned()), text)
}

/// A value that does not fit, found before anything was sent.
pub(crate) fn invalid(text: impl Into<String>) -> Cause {
    Cause::new(Reason::Invalid, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_failures_and_silence_have_their_own_status() {
        let exit = |reason: Reason| Failure::from(Cause::new(reason, "x")).exit();
        for refused in [
            Reason::Invalid,
            Reason::NoCapacity,
            Reason::VmBusy,
            Reason::VmNotFound,
            Reason::EventIdReused,
            Reason::PlaintextRefused,
            Reason::DiskFull,
        ] {
            assert_eq!(exit(refused.clone()), Exit::Refused, "{refused}");
        }
        assert_eq!(exit(Reason::Unreachable), Exit::Unreachable);
        assert_eq!(exit(Reason::Internal), Exit::Failed);
        assert_eq!(exit(Reason::JournalError), Exit::Failed);
    }

    #[test]
    fn a_reason_of_a_newer_coordinator_keeps_the_meaning_of_its_code() {
        let newer = Cause::new(Reason::Other("QUOTA_EXCEEDED".into()), "no");
        let mut status = dewpoint_proto::status::to_status(newer);
        assert_eq!(Failure::answered(&status).exit(), Exit::Failed, "its code is UNKNOWN");
        status = Status::with_details(Code::ResourceExhausted, "no", status.details().to_vec().into());
        assert_eq!(Failure::answered(&status).exit(), Exit::Refused);
    }

    #[test]
    fn a_closed_pipe_is_no_failure() {
        assert_eq!(Failure::Output(io::ErrorKind::BrokenPipe.into()).exit(), Exit::Ok);
        assert_eq!(Failure::Output(io::ErrorKind::StorageFull.into()).exit(), Exit::Failed);
    }
}
