//! Finished events leave the table of those under way, so that what is looked at often does not grow with history.
//!
//! A row moves whole, and keeps its number: lists go over both tables. What its host has not acknowledged stays, for
//! it is still to be delivered. Ids and digests stay for good; bodies go after a time.

use dewpoint_proto::time::Millis;
use rusqlite::Connection;

use super::rows::{all, change, columns};
use super::writer::Effect;
use crate::store::StoreResult;

/// Rows that one call moves or clears, at most: some milliseconds of the writer's time.
const TOGETHER: u32 = 500;

/// Every column but the time of the move, in both tables.
macro_rules! moved {
    () => {
        "n, event_id, vm_id, vm_name, kind, stage, ended, host_id, seq, generation, body, digest, request, image, \
         outcome, unknown, contradicted, pending, only_host, explanation, accepted_at, not_after, begun_at, \
         finished_at, retry_of, stage_at, forced"
    };
}

/// Moves events that ended before `before`.
pub(super) fn move_finished(db: &Connection, before: Millis, at: Millis) -> StoreResult<Effect<u32>> {
    const MOVABLE: &str = "SELECT e.n AS n FROM events e LEFT JOIN hosts h ON h.host_id = e.host_id \
         WHERE e.ended = 1 AND coalesce(e.stage_at, e.accepted_at) <= ?1 \
         AND (e.seq IS NULL OR h.host_id IS NULL OR e.seq <= h.accepted_seq) ORDER BY e.n LIMIT ?2";
    const MOVE: &str = concat!(
        "INSERT INTO finished (",
        moved!(),
        ", moved_at) SELECT ",
        moved!(),
        ", ?2 FROM events WHERE n = ?1"
    );
    let rows = all(db, MOVABLE, &[&before.0, &TOGETHER], |row| columns("events", row).get::<i64>("n"))?;
    for n in &rows {
        change(db, MOVE, &[n, &at.0])?;
        change(db, "DELETE FROM events WHERE n = ?1", &[n])?;
    }
    Ok(Effect::Keep(u32::try_from(rows.len()).unwrap_or(TOGETHER)))
}

/// Removes what events asked for, which holds secrets, and how their hosts were chosen.
pub(super) fn forget_bodies(db: &Connection, before: Millis) -> StoreResult<Effect<u32>> {
    const FORGET: &str = "UPDATE finished SET body = NULL, explanation = NULL WHERE n IN \
         (SELECT n FROM finished WHERE body IS NOT NULL AND moved_at <= ?1 ORDER BY moved_at LIMIT ?2)";
    let forgotten = change(db, FORGET, &[&before.0, &TOGETHER])?;
    Ok(Effect::Keep(u32::try_from(forgotten).unwrap_or(TOGETHER)))
}
