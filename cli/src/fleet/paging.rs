//! Lists, page by page, up to a bound that the caller chose.

use dewpoint_proto::cause::{Cause, Reason};

use crate::failure::Failure;

/// Entries asked for at once.
pub(crate) const PAGE: u32 = 100;

/// One page of a list.
pub(crate) struct Page<T> {
    pub(crate) entries: Vec<T>,
    pub(crate) next: String,
}

/// The first entries of a list.
pub(crate) struct Listed<T> {
    pub(crate) entries: Vec<T>,
    /// Whether there were more than the bound.
    pub(crate) more: bool,
}

/// At most `limit` entries; `page` is asked with each token, the first one empty.
///
/// # Errors
/// Those of `page`, and `INTERNAL` for a coordinator that answers with the token it was asked with.
pub(crate) async fn collect<T>(
    limit: usize,
    mut page: impl AsyncFnMut(String) -> Result<Page<T>, Failure>,
) -> Result<Listed<T>, Failure> {
    let mut entries = Vec::new();
    let mut token = String::new();
    loop {
        let Page { entries: found, next } = page(token.clone()).await?;
        entries.extend(found);
        if entries.len() > limit || (entries.len() == limit && !next.is_empty()) {
            entries.truncate(limit);
            return Ok(Listed { entries, more: true });
        }
        if next.is_empty() {
            return Ok(Listed { entries, more: false });
        }
        if next == token {
            return Err(Cause::new(Reason::Internal, "the coordinator gave the same page token twice").into());
        }
        token = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn listed(limit: usize) -> Listed<u32> {
        collect(limit, async |token: String| {
            let at: u32 = token.parse().unwrap_or(0);
            let next = if at < 4 { (at + 2).to_string() } else { String::new() };
            Ok(Page { entries: vec![at, at + 1], next })
        })
        .await
        .unwrap()
    }

    #[tokio::test]
    async fn pages_follow_each_other_up_to_the_bound() {
        let all = listed(100).await;
        assert_eq!((all.entries, all.more), (vec![0, 1, 2, 3, 4, 5], false));
        let exact = listed(6).await;
        assert_eq!((exact.entries.len(), exact.more), (6, false));
        let some = listed(4).await;
        assert_eq!((some.entries, some.more), (vec![0, 1, 2, 3], true));
    }

    #[tokio::test]
    async fn a_token_that_repeats_ends_in_an_error_not_in_a_loop() {
        let stuck = collect(100, async |_| Ok(Page { entries: vec![1], next: "x".into() })).await;
        assert!(matches!(stuck, Err(Failure::Cause(cause, _)) if cause.reason == Reason::Internal));
    }
}
