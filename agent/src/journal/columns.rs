//! Our types in SQLite's columns, and back. What does not parse is a damaged row, never a panic.

use std::error::Error;
use std::str::FromStr;

use dewpoint_proto::spec::{Placement, VmSpec};
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::event as wire;
use prost::Message;
use rusqlite::Row;
use rusqlite::types::{ToSql, ToSqlOutput, Type, ValueRef};
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use super::JournalError;
use super::moment::{BootId, Moment};

/// A column that does not hold what we write there.
pub(super) fn wrong(at: usize, error: impl Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(at, Type::Text, Box::new(error))
}

/// A counter as SQLite's 64-bit integer. Intake refuses what does not fit before it could be stored.
pub(super) fn int(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// An id as text, without a string of its own.
#[derive(Clone, Copy)]
pub(super) struct IdText([u8; Hyphenated::LENGTH]);

/// As it is written in the database.
pub(super) fn text(id: Uuid) -> IdText {
    let mut text = [0; Hyphenated::LENGTH];
    id.hyphenated().encode_lower(&mut text);
    IdText(text)
}

impl ToSql for IdText {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

/// A counter from a column.
pub(super) fn count(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    let value: i64 = row.get(at)?;
    u64::try_from(value).map_err(|error| wrong(at, error))
}

/// A counter that may be missing.
pub(super) fn maybe_count(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<u64>> {
    let value: Option<i64> = row.get(at)?;
    value.map(u64::try_from).transpose().map_err(|error| wrong(at, error))
}

/// An id or a name from a column.
pub(super) fn parsed<T>(row: &Row<'_>, at: usize) -> rusqlite::Result<T>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    let text: String = row.get(at)?;
    text.parse().map_err(|error: T::Err| wrong(at, error))
}

/// An id or a name that may be missing.
pub(super) fn maybe_parsed<T>(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<T>>
where
    T: FromStr,
    T::Err: Error + Send + Sync + 'static,
{
    let text: Option<String> = row.get(at)?;
    text.map(|text| text.parse()).transpose().map_err(|error: T::Err| wrong(at, error))
}

/// A JSON value that may be missing.
pub(super) fn maybe_json<T: DeserializeOwned>(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(at)?;
    text.map(|text| serde_json::from_str(&text)).transpose().map_err(|error| wrong(at, error))
}

/// A SHA-256 from a column.
pub(super) fn digest(row: &Row<'_>, at: usize) -> rusqlite::Result<[u8; 32]> {
    row.get(at)
}

/// A moment from three columns: wall clock, since boot, boot.
pub(super) fn moment(row: &Row<'_>, at: usize) -> rusqlite::Result<Moment> {
    let boot: String = row.get(at + 2)?;
    Ok(Moment {
        wall: Millis(row.get(at)?),
        since_boot_ms: count(row, at + 1)?,
        boot: BootId(Uuid::try_parse(&boot).map_err(|error| wrong(at + 2, error))?),
    })
}

/// A VM's placement, as its row has it.
pub(super) fn placement(spec: &VmSpec) -> &'static str {
    match spec.placement {
        Placement::Bound => "bound",
        Placement::Movable => "movable",
    }
}

/// What a VM is made of, as its row has it: an encoded `dewpoint.event.v1.VmSpec`.
pub(super) fn spec_bytes(spec: &VmSpec) -> Vec<u8> {
    wire::VmSpec::from(spec.clone()).encode_to_vec()
}

/// A value as JSON. Ours always have a JSON form; a failure is a bug, told as such.
pub(super) fn to_json<T: Serialize>(value: &T) -> Result<String, JournalError> {
    serde_json::to_string(value).map_err(|error| JournalError::Write(format!("no JSON form: {error}")))
}
