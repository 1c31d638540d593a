//! The edge to gRPC: a [`Cause`] travels as `google.rpc.Status` with `ErrorInfo`, and comes back whole.

use std::collections::HashMap;
use std::error::Error as _;

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use crate::cause::{Cause, Reason};

/// The `ErrorInfo` domain of our reasons.
pub const DOMAIN: &str = "dewpoint";
/// The metadata by which a caller names the person behind it. Not proven.
pub const WHO: &str = "dewpoint-who";
const ADVICE: &str = "advice";

/// A cause as callers see it.
#[must_use]
pub fn to_status(cause: Cause) -> Status {
    let code = cause.reason.code();
    let mut fields: HashMap<String, String> = cause.fields.into_iter().collect();
    if !cause.advice.is_empty() {
        fields.insert(ADVICE.to_owned(), cause.advice);
    }
    let details = ErrorDetails::with_error_info(cause.reason.as_str(), DOMAIN, fields);
    Status::with_error_details(code, cause.text, details)
}

/// The cause in a status; one without our `ErrorInfo` is put into our words.
#[must_use]
pub fn from_status(status: &Status) -> Cause {
    if let Some(info) = status.get_details_error_info().filter(|info| info.domain == DOMAIN) {
        let mut cause = Cause::new(Reason::from(info.reason), status.message());
        cause.fields = info.metadata.into_iter().collect();
        cause.advice = cause.fields.remove(ADVICE).unwrap_or_default();
        return cause;
    }
    // tonic's own client deadline surfaces as Cancelled "Timeout expired", not as DeadlineExceeded.
    let reason = match status.code() {
        tonic::Code::Unavailable | tonic::Code::DeadlineExceeded | tonic::Code::Cancelled => {
            Reason::Unreachable
        }
        tonic::Code::InvalidArgument | tonic::Code::OutOfRange => Reason::Invalid,
        tonic::Code::Unimplemented => Reason::UnknownKind,
        tonic::Code::ResourceExhausted => Reason::TooBusy,
        // What came over the wire has no source: this one was made here, when the connection broke under the request.
        _ if status.source().is_some() => Reason::Unreachable,
        _ => Reason::Internal,
    };
    Cause::new(reason, status.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_comes_back_whole() {
        let cause = Cause::new(Reason::VmBusy, "web has an unfinished event")
            .advise("wait for it")
            .with("event_id", 7);
        assert_eq!(from_status(&to_status(cause.clone())), cause);
    }

    #[test]
    fn a_connection_that_breaks_under_a_request_is_not_a_bug_of_the_other_side() {
        let broken = Status::from_error(Box::new(std::io::Error::other("connection reset")));
        assert_eq!(from_status(&broken).reason, Reason::Unreachable);
        assert_eq!(from_status(&Status::unknown("said by the other side")).reason, Reason::Internal);
    }
}
