//! The fields of a message as values: its own, over those of the spans it was written in.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{LookupSpan, Scope};

/// Names with values, in the order in which they came; a name that comes again takes the place of the first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    /// All that a message says: its own fields, over those of the spans around it.
    pub(super) fn of<'a, S>(event: &Event<'_>, around: Option<Scope<'a, S>>) -> Self
    where
        S: LookupSpan<'a>,
    {
        let mut fields = Self::default();
        for span in around.into_iter().flat_map(Scope::from_root) {
            if let Some(known) = span.extensions().get::<Self>() {
                fields.take(known);
            }
        }
        event.record(&mut fields);
        fields
    }

    /// Keeps the fields of a new span with it.
    pub(super) fn keep<S>(attrs: &Attributes<'_>, id: &Id, cx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = cx.span(id) else { return };
        let mut fields = Self::default();
        attrs.record(&mut fields);
        span.extensions_mut().replace(fields);
    }

    /// Takes in what a span learnt later.
    pub(super) fn learn<S>(id: &Id, values: &Record<'_>, cx: &Context<'_, S>)
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = cx.span(id) else { return };
        if let Some(fields) = span.extensions_mut().get_mut::<Self>() {
            values.record(fields);
        }
    }

    /// Takes in the fields of an outer span, or of what lies in it.
    fn take(&mut self, other: &Self) {
        for (name, value) in &other.0 {
            self.put(name, value.clone());
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value)
    }

    /// A field as text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(plain)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }

    fn put(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }
}

/// A value without quotes.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), Value::String(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), Value::String(value.to_owned()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), value.into());
    }
}
