//! `Range` and `Content-Range`, as far as images need them: one range, in bytes. Pure.

use dewpoint_proto::cause::{Cause, Reason, shortened};

/// What a reader is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All of it.
    Whole,
    /// `first..=last`.
    Part { first: u64, last: u64 },
    /// Nothing of it is there: 416.
    Outside,
}

/// Reads a `Range` header for a file of `size` bytes. What we do not understand, several ranges included, asks for
/// the whole, as RFC 9110 (14.2) lets a server do.
pub(super) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some((first, last)) = header.and_then(|h| h.strip_prefix("bytes=")).and_then(|r| r.split_once('-'))
    else {
        return Wanted::Whole;
    };
    match (number(first), number(last)) {
        (Some(first), None) if last.is_empty() => part(first, size.saturating_sub(1), size),
        (Some(first), Some(last)) if first <= last => part(first, last.min(size.saturating_sub(1)), size),
        (None, Some(0)) if first.is_empty() => Wanted::Outside,
        (None, Some(count)) if first.is_empty() => {
            part(size.saturating_sub(count), size.saturating_sub(1), size)
        }
        _ => Wanted::Whole,
    }
}

fn part(first: u64, last: u64, size: u64) -> Wanted {
    if first < size { Wanted::Part { first, last } } else { Wanted::Outside }
}

/// Which bytes of a file a request brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Brought {
    /// Offset of its first byte.
    pub(super) start: u64,
    /// Offset behind its last.
    pub(super) end: u64,
    /// The whole file's length.
    pub(super) total: u64,
}

/// Reads `Content-Range: bytes START-END/TOTAL`; without it, `Content-Length` says that the whole file comes. The form
/// `bytes */TOTAL` brings nothing: all was sent before, and is to be verified.
///
/// # Errors
/// `INVALID` when neither is given, when they disagree, or when the numbers make no sense.
pub(super) fn brought(content_range: Option<&str>, content_length: Option<u64>) -> Result<Brought, Cause> {
    let Some(text) = content_range else {
        let total = content_length
            .filter(|&n| n > 0)
            .ok_or_else(|| invalid("neither Content-Range nor Content-Length says what comes".to_owned()))?;
        return Ok(Brought { start: 0, end: total, total });
    };
    let wrong = || invalid(format!("`{}` is not a Content-Range that can be taken", shortened(text)));
    let (range, total) = text.strip_prefix("bytes ").and_then(|t| t.split_once('/')).ok_or_else(wrong)?;
    if range == "*" {
        let total =
            number(total).filter(|&total| total > 0 && content_length.is_none_or(|length| length == 0));
        return total.map(|total| Brought { start: total, end: total, total }).ok_or_else(wrong);
    }
    let (start, last) = range.split_once('-').ok_or_else(wrong)?;
    let (start, last, total) = (number(start), number(last), number(total));
    let (Some(start), Some(last), Some(total)) = (start, last, total) else { return Err(wrong()) };
    if start > last || last >= total {
        return Err(wrong());
    }
    if content_length.is_some_and(|length| length != last - start + 1) {
        return Err(invalid("Content-Length and Content-Range disagree".to_owned()));
    }
    Ok(Brought { start, end: last + 1, total })
}

fn invalid(text: String) -> Cause {
    Cause::new(Reason::Invalid, text).advise("send `Content-Range: bytes START-END/TOTAL`")
}

/// Decimal digits alone: no sign, no blanks.
fn number(text: &str) -> Option<u64> {
    if text.is_empty() || !text.bytes().all(|b| b.is_ascii_digit()) { None } else { text.parse().ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_readers() {
        let part = |first, last| Wanted::Part { first, last };
        for (header, expected) in [
            ("bytes=0-0", part(0, 0)),
            ("bytes=2-", part(2, 9)),
            ("bytes=2-99", part(2, 9)),
            ("bytes=-3", part(7, 9)),
            ("bytes=-99", part(0, 9)),
            ("bytes=10-", Wanted::Outside),
            ("bytes=-0", Wanted::Outside),
            ("bytes=5-2", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=99999999999999999999-", Wanted::Whole),
            ("lines=1-2", Wanted::Whole),
        ] {
            assert_eq!(wanted(Some(header), 10), expected, "{header}");
        }
        assert_eq!(wanted(None, 10), Wanted::Whole);
    }

    #[test]
    fn ranges_of_writers() {
        assert_eq!(brought(None, Some(5)), Ok(Brought { start: 0, end: 5, total: 5 }));
        assert_eq!(brought(Some("bytes 2-4/9"), Some(3)), Ok(Brought { start: 2, end: 5, total: 9 }));
        assert_eq!(brought(Some("bytes */9"), Some(0)), Ok(Brought { start: 9, end: 9, total: 9 }));
        assert_eq!(brought(Some("bytes 2-4/9"), None), Ok(Brought { start: 2, end: 5, total: 9 }));
        for (range, length) in [
            (None, None),
            (None, Some(0)),
            (Some("bytes 4-2/9"), None),
            (Some("bytes 2-9/9"), None),
            (Some("bytes 2-4/*"), None),
            (Some("bytes */9"), Some(1)),
            (Some("bytes */0"), None),
            (Some("bytes -2-4/9"), None),
            (Some("bytes 2-4/9"), Some(4)),
            (Some("bytes 0-18446744073709551615/18446744073709551615"), None),
        ] {
            assert_eq!(brought(range, length).unwrap_err().reason, Reason::Invalid, "{range:?} {length:?}");
        }
    }
}
