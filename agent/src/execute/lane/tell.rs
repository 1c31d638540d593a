//! What a lane logs: a line when a step begins and one when it returns, and one when the event ends.

use std::time::Instant;

use dewpoint_common::message;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::outcome::Outcome;

use crate::execute::step::Step;

/// Applies a step, and says so before and after.
pub(super) async fn told<T>(
    step: Step,
    attempt: u32,
    applying: impl Future<Output = Result<T, Cause>>,
) -> Result<T, Cause> {
    let began = Instant::now();
    tracing::info!(message_id = message::STEP_BEGUN, %step, attempt, "step begun");
    let result = applying.await;
    let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    match &result {
        Ok(_) => {
            tracing::info!(message_id = message::STEP_RETURNED, %step, attempt, took_ms, "step returned");
        }
        Err(cause) => {
            let reason = &cause.reason;
            tracing::warn!(message_id = message::STEP_FAILED, %step, attempt, took_ms, %reason, "step failed: {}", cause.text);
        }
    }
    result
}

/// Says how the event ended.
pub(super) fn ended(outcome: &Outcome) {
    let name = outcome.name();
    match outcome.cause() {
        None => tracing::info!(message_id = message::EVENT_ENDED, outcome = name, "{name}"),
        Some(cause) => {
            let (reason, advice) = (&cause.reason, &cause.advice);
            tracing::info!(message_id = message::EVENT_ENDED, outcome = name, %reason, advice, "{name}: {}", cause.text);
        }
    }
}
