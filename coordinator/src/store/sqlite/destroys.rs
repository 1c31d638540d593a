//! How many VMs may be destroyed in a minute: a bound on what one mistake can do before a person looks.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::time::Millis;
use rusqlite::Connection;

use super::audit;
use super::rows::{change, columns, one};
use super::writer::Effect;
use crate::store::{About, Act, AuditEntry, StoreResult, Word};

/// How far the limit looks back.
const MINUTE_MS: i64 = 60_000;

/// Counts a destroy that is about to be admitted; why it is not, when the limit is reached. `configured` holds unless a
/// person set another; 0 is none.
pub(super) fn admit(db: &Connection, at: Millis, configured: u32) -> StoreResult<Option<Cause>> {
    // A clock that was set back leaves times ahead of it: they count for nothing.
    let past = "DELETE FROM destroys WHERE at <= ?1 OR at > ?2";
    change(db, past, &[&(at.0 - MINUTE_MS), &(at.0 + MINUTE_MS)])?;
    let (count, oldest) = one(db, "SELECT count(*) AS c, min(at) AS oldest FROM destroys", &[], |row| {
        let columns = columns("destroys", row);
        Ok((columns.count("c")?, columns.time("oldest")?))
    })?
    .unwrap_or_default();
    let limit = super::hosts::fleet(db)?.destroy_limit.unwrap_or(configured);
    if limit > 0 && count >= u64::from(limit) {
        return Ok(Some(reached(limit, oldest.unwrap_or(at), at)));
    }
    change(db, "INSERT INTO destroys (at) VALUES (?1)", &[&at.0])?;
    Ok(None)
}

fn reached(limit: u32, oldest: Millis, at: Millis) -> Cause {
    let wait = (oldest.0 + MINUTE_MS - at.0).clamp(1, MINUTE_MS).unsigned_abs();
    let seconds = wait.div_ceil(1000);
    Cause::new(Reason::DestroyLimit, format!("{limit} VMs were destroyed within a minute, which is the fleet's limit"))
        .advise(format!(
            "look with `dewpoint event ls` whether all of that is wanted; then wait {seconds} s, or raise it with \
             `dewpoint fleet destroy-limit`"
        ))
        .with("limit", limit)
        .with("retry_after_seconds", seconds)
}

/// Sets the limit; none: the configuration's holds again.
pub(super) fn set_limit(db: &Connection, limit: Option<u32>, word: Word) -> StoreResult<Effect<()>> {
    change(db, "UPDATE fleet SET destroy_limit = ?1", &[&limit])?;
    let detail = match limit {
        None => "as configured".to_owned(),
        Some(0) => "none".to_owned(),
        Some(limit) => format!("{limit} a minute"),
    };
    audit::record(db, &AuditEntry { act: Act::DestroyLimit, about: About::default(), detail, word })?;
    Ok(Effect::Keep(()))
}
