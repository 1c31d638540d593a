//! Durations and sizes as people write them in configuration files.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason, shortened};
use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A duration as people write it: `30s`, `5m`, `7d`. Never zero when read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span(pub Duration);

impl Span {
    /// That many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// As people write it on a command line.
impl FromStr for Span {
    type Err = Cause;

    fn from_str(text: &str) -> Result<Self, Cause> {
        match humantime::parse_duration(text) {
            Ok(span) if !span.is_zero() => Ok(Self(span)),
            _ => Err(Cause::new(
                Reason::Invalid,
                format!("`{}` is no duration: give {SPANS}", shortened(text)),
            )
            .advise("write it as 30s, 5m or 7d")),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SpanText)
    }
}

const SPANS: &str = "a duration above zero, written as \"30s\", \"5m\" or \"7d\"";

struct SpanText;

impl Visitor<'_> for SpanText {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(SPANS)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        text.parse().map_err(|_: Cause| E::invalid_value(Unexpected::Str(&shortened(text)), &self))
    }
}

/// A number of bytes as people write it: `512MiB`, `2GiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

const UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fits = |(_, factor): &(&str, u64)| self.0.is_multiple_of(*factor);
        let (unit, factor) = UNITS.into_iter().find(fits).unwrap_or(("B", 1));
        serializer.collect_str(&format_args!("{}{unit}", self.0 / factor))
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(SizeText)
    }
}

struct SizeText;

impl Visitor<'_> for SizeText {
    type Value = Size;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a size in B, KiB, MiB, GiB or TiB, written as \"512MiB\" or \"2GiB\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Size, E> {
        let parsed = UNITS.into_iter().find_map(|(unit, factor)| {
            let number = text.strip_suffix(unit)?.trim_end();
            number.parse::<u64>().ok()?.checked_mul(factor)
        });
        parsed.map(Size).ok_or_else(|| E::invalid_value(Unexpected::Str(&shortened(text)), &self))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct File {
        span: Span,
        size: Size,
    }

    fn read(text: &str) -> Result<File, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (span, size) in [(1, 1), (90, 1 << 10), (86_400, 3 << 30), (61, (1 << 20) + 1)] {
            let file = File { span: Span::seconds(span), size: Size(size) };
            assert_eq!(read(&toml::to_string(&file).unwrap()).unwrap(), file);
        }
    }

    #[test]
    fn what_is_no_duration_or_size_says_how_to_write_it() {
        for (text, says) in [
            ("span = '0s'\nsize = '1B'", "30s"),
            ("span = 'soon'\nsize = '1B'", "30s"),
            ("span = '1s'\nsize = '1 apple'", "512MiB"),
            ("span = '1s'\nsize = '99999999999999TiB'", "512MiB"),
        ] {
            assert!(read(text).unwrap_err().message().contains(says), "{text}");
        }
    }
}
