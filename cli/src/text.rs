//! Values as people read them: sizes, instants, ages, names from outside.

use std::borrow::Cow;
use std::time::Duration;

use dewpoint_proto::time::Millis;

/// Whether text may carry colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    Colour,
}

/// What a word means to whoever looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Good,
    Bad,
    Under,
    Neutral,
}

impl Tone {
    /// Of an event's stage, a VM's power, or a host's liveness.
    pub(crate) fn of(word: &str) -> Self {
        match word.split(',').next().unwrap_or(word) {
            "succeeded" | "running" | "alive" => Self::Good,
            "failed" | "refused" | "expired" | "unknown" | "crashed" | "lost" | "diverged" => Self::Bad,
            "pending" | "assigned" | "accepted" | "late" | "paused" | "shutting-down" => Self::Under,
            _ => Self::Neutral,
        }
    }
}

impl Paint {
    /// The text in its tone's colour, where colour is allowed.
    pub(crate) fn tone(self, tone: Tone, text: &str) -> String {
        let code = match (self, tone) {
            (Self::Plain, _) | (Self::Colour, Tone::Neutral) => return text.to_owned(),
            (Self::Colour, Tone::Good) => 32,
            (Self::Colour, Tone::Bad) => 31,
            (Self::Colour, Tone::Under) => 33,
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Text from outside with its control characters written out, so that it stays on its line.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| c.is_control() || is_bidi_control(c);
    if !text.chars().any(harmful) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if harmful(c) { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

/// Characters that reorder what a person reads.
fn is_bidi_control(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// At most `most` characters, the last one `…` when some were left off.
pub(crate) fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(most.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// A size in binary units with one digit behind the point: `1.5 GiB`. Exact whole units come without it: `2 GiB`.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let power = (bytes.ilog2() / 10).min(6);
    let unit = 1u64 << (10 * power);
    let name = UNITS[(power - 1) as usize];
    let (whole, rest) = (bytes / unit, bytes % unit);
    let tenths = u128::from(rest) * 10 / u128::from(unit);
    if rest == 0 { format!("{whole} {name}") } else { format!("{whole}.{tenths} {name}") }
}

/// How long, in its largest unit or two: `850ms`, `12s`, `3m20s`, `5h10m`, `12d`.
pub(crate) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0 => format!("{}ms", span.as_millis()),
        1..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// How long ago: `-` when it never was; a clock ahead of ours counts as now.
pub(crate) fn age(at_ms: i64, now: Millis) -> String {
    match Millis::from_wire(at_ms) {
        Some(at) => {
            let since = now.since(at);
            if since < Duration::from_secs(1) { "now".to_owned() } else { span(since) }
        }
        None => "-".to_owned(),
    }
}

/// An instant and how long ago it was: `2026-11-21T10:00:00.000Z (5s ago)`; empty when it never was.
pub(crate) fn since(at_ms: i64, now: Millis) -> String {
    let Some(at) = instant(at_ms) else { return String::new() };
    match age(at_ms, now).as_str() {
        "now" => format!("{at} (just now)"),
        age => format!("{at} ({age} ago)"),
    }
}

/// An instant as RFC 3339 in UTC with milliseconds; none for 0 and what no calendar holds.
pub(crate) fn instant(at_ms: i64) -> Option<String> {
    let at = Millis::from_wire(at_ms)?;
    let timestamp = jiff::Timestamp::from_millisecond(at.0).ok()?;
    Some(format!("{timestamp:.3}"))
}

/// `-` for what is empty, in tables and lists.
pub(crate) fn or_dash(text: &str) -> Cow<'_, str> {
    if text.is_empty() { Cow::Borrowed("-") } else { visible(text) }
}

/// The wall-clock time of a line of a watch: `09:12:03`, UTC.
pub(crate) fn time_of_day(now: Millis) -> String {
    let seconds = now.0.div_euclid(1000).rem_euclid(86_400);
    format!("{:02}:{:02}:{:02}", seconds / 3600, seconds % 3600 / 60, seconds % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_short_and_never_rounded_up() {
        let sizes = [0, 1023, 1024, 1536, 512 << 20, 2 << 30, (2 << 30) - 1, u64::MAX].map(size);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1 KiB", "1.5 KiB", "512 MiB", "2 GiB", "1.9 GiB", "15.9 EiB"]
                .map(String::from)
        );
    }

    #[test]
    fn spans_and_ages() {
        let spans =
            [0, 850, 12_000, 200_000, 18_600_000, 90_000_000].map(|ms| span(Duration::from_millis(ms)));
        assert_eq!(spans, ["0ms", "850ms", "12s", "3m20s", "5h10m", "1d"].map(String::from));
        assert_eq!(age(0, Millis(5)), "-");
        assert_eq!(age(9_000, Millis(5_000)), "now");
        assert_eq!(age(5_000, Millis(10_000)), "5s");
        assert_eq!(since(5_000, Millis(10_000)), "1970-01-01T00:00:05.000Z (5s ago)");
        assert_eq!(since(9_500, Millis(10_000)), "1970-01-01T00:00:09.500Z (just now)");
        assert_eq!(since(0, Millis(10_000)), "");
    }

    #[test]
    fn instants_are_utc_with_milliseconds() {
        assert_eq!(instant(1_700_000_000_123).as_deref(), Some("2023-11-14T22:13:20.123Z"));
        assert_eq!(instant(0), None);
        assert_eq!(instant(i64::MAX), None);
    }

    #[test]
    fn what_moves_a_cursor_or_reorders_text_is_written_out() {
        assert_eq!(visible("plain ü"), "plain ü");
        assert_eq!(visible("a\u{1b}[31mb\u{202e}"), "a\\u{1b}[31mb\\u{202e}");
    }
}
