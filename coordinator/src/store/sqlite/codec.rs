//! Between our types and SQLite's.

use dewpoint_proto::ids::{EventId, HostId, JournalId, VmId};
use dewpoint_proto::time::Millis;
use rusqlite::Row;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::store::{StoreError, StoreResult};

/// A database error, in our words.
pub(super) fn failed(doing: &'static str, error: &rusqlite::Error) -> StoreError {
    StoreError::Failed { doing, text: error.to_string() }
}

/// For `map_err` in the transitions, where the request's own name is told by the caller's log.
pub(super) fn sql(error: rusqlite::Error) -> StoreError {
    failed("read or write a row", &error)
}

/// An id as its 16 bytes.
pub(super) trait IdBytes: Copy {
    fn bytes(self) -> [u8; 16];
    fn from_uuid(id: Uuid) -> Self;
}

macro_rules! id_bytes {
    ($($id:ty),*) => {$(
        impl IdBytes for $id {
            fn bytes(self) -> [u8; 16] {
                *self.0.as_bytes()
            }
            fn from_uuid(id: Uuid) -> Self {
                Self(id)
            }
        }
    )*};
}

id_bytes!(EventId, VmId, HostId, JournalId);

/// Counters are unsigned with us and signed in SQLite; parsing from the wire keeps them below 2^62.
pub(super) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(super) fn json<T: Serialize>(table: &'static str, value: &T) -> StoreResult<String> {
    serde_json::to_string(value).map_err(|e| StoreError::Corrupt { table, text: e.to_string() })
}

/// A row of one table, whose columns come out as our types or as `Corrupt`.
pub(super) struct Columns<'a> {
    pub(super) table: &'static str,
    pub(super) row: &'a Row<'a>,
}

impl Columns<'_> {
    pub(super) fn corrupt(&self, column: &str, text: impl std::fmt::Display) -> StoreError {
        StoreError::Corrupt { table: self.table, text: format!("{column}: {text}") }
    }

    pub(super) fn get<T: rusqlite::types::FromSql>(&self, column: &'static str) -> StoreResult<T> {
        self.row.get(column).map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn count(&self, column: &'static str) -> StoreResult<u64> {
        let value: i64 = self.get(column)?;
        u64::try_from(value).map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn id<T: IdBytes>(&self, column: &'static str) -> StoreResult<T> {
        self.optional_id(column)?.ok_or_else(|| self.corrupt(column, "is null"))
    }

    pub(super) fn optional_id<T: IdBytes>(&self, column: &'static str) -> StoreResult<Option<T>> {
        let bytes: Option<Vec<u8>> = self.get(column)?;
        let parse = |bytes: Vec<u8>| Uuid::from_slice(&bytes).map_err(|e| self.corrupt(column, e));
        Ok(bytes.map(parse).transpose()?.map(T::from_uuid))
    }

    pub(super) fn digest(&self, column: &'static str) -> StoreResult<[u8; 32]> {
        let bytes: Vec<u8> = self.get(column)?;
        bytes.try_into().map_err(|_| self.corrupt(column, "is not of 32 bytes"))
    }

    pub(super) fn json<T: DeserializeOwned>(&self, column: &'static str) -> StoreResult<T> {
        let text: String = self.get(column)?;
        serde_json::from_str(&text).map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn optional_json<T: DeserializeOwned>(&self, column: &'static str) -> StoreResult<Option<T>> {
        let text: Option<String> = self.get(column)?;
        text.map(|text| serde_json::from_str(&text).map_err(|e| self.corrupt(column, e))).transpose()
    }

    pub(super) fn parsed<T: std::str::FromStr<Err = impl std::fmt::Display>>(
        &self,
        column: &'static str,
    ) -> StoreResult<T> {
        let text: String = self.get(column)?;
        text.parse().map_err(|e| self.corrupt(column, e))
    }

    pub(super) fn time(&self, column: &'static str) -> StoreResult<Option<Millis>> {
        Ok(self.get::<Option<i64>>(column)?.map(Millis))
    }
}
