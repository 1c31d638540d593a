//! The conditions of a list's query: each is said only when it is asked for, so that each query has its index.

use rusqlite::types::ToSql;

/// Conditions that hold together. Their values are numbered, for a query over two tables says them twice.
#[derive(Default)]
pub(super) struct Conditions<'a> {
    text: Vec<String>,
    values: Vec<&'a dyn ToSql>,
}

impl<'a> Conditions<'a> {
    /// One without a value.
    pub(super) fn that(&mut self, condition: &str) {
        self.text.push(condition.to_owned());
    }

    /// One that ends with its value: `e.n <`.
    pub(super) fn with(&mut self, condition: &str, value: &'a dyn ToSql) {
        let place = self.value(value);
        self.text.push(format!("{condition} {place}"));
    }

    /// The same, when there is a value.
    pub(super) fn with_any<T: ToSql>(&mut self, condition: &str, value: &'a Option<T>) {
        if let Some(value) = value {
            self.with(condition, value);
        }
    }

    /// A value that no condition has: its place in the query's text.
    pub(super) fn value(&mut self, value: &'a dyn ToSql) -> String {
        self.values.push(value);
        format!("?{}", self.values.len())
    }

    /// For behind `WHERE`.
    pub(super) fn such(&self) -> String {
        if self.text.is_empty() { "1".to_owned() } else { self.text.join(" AND ") }
    }

    /// In the order of their numbers.
    pub(super) fn values(&self) -> &[&'a dyn ToSql] {
        &self.values
    }
}
