//! Lists in pages: a page goes on after the last key of the one before, so rows that come and go shift nothing.

use dewpoint_proto::cause::{Cause, Reason};

/// Items of a page when the caller does not say.
pub const PAGE_DEFAULT: u32 = 100;
/// Most items of a page.
pub const PAGE_MOST: u32 = 1000;

/// Which part of a list is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    size: u32,
    token: Option<String>,
}

impl Page {
    /// From a request: size 0 means [`PAGE_DEFAULT`], above [`PAGE_MOST`] is cut to it; an empty token is the beginning.
    ///
    /// # Errors
    /// `INVALID` for a token longer than any that was given out.
    pub fn parse(size: u32, token: &str) -> Result<Self, Cause> {
        if token.len() > 512 {
            return Err(bad_token());
        }
        let size = if size == 0 { PAGE_DEFAULT } else { size.min(PAGE_MOST) };
        Ok(Self { size, token: (!token.is_empty()).then(|| token.to_owned()) })
    }

    /// The first `size` items.
    #[must_use]
    pub fn first(size: u32) -> Self {
        Self { size: size.clamp(1, PAGE_MOST), token: None }
    }

    /// The page of the same size that begins at `token`.
    #[must_use]
    pub fn at(&self, token: String) -> Self {
        Self { size: self.size, token: Some(token) }
    }

    /// Most items wanted.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Where to go on; none: at the beginning.
    #[must_use]
    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

/// What is said of a page token that no list gave out.
#[must_use]
pub fn bad_token() -> Cause {
    Cause::new(Reason::Invalid, "the page token is not one that this list gave out")
        .advise("pass next_page_token of the answer before, or leave it empty")
        .with("field", "page_token")
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paged<T> {
    /// In the list's order.
    pub items: Vec<T>,
    /// Where the next page begins; none: this was the last.
    pub next: Option<String>,
}
