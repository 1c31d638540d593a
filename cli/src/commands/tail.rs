//! Follows a watch and says what changes, until told to stop.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::time::Duration;

use tokio::time::timeout;
use tonic::{Response, Status, Streaming};

use crate::failure::Failure;
use crate::fleet::watch::{Told, Watch};
use crate::output::Output;

/// Hands every message to `on`, which may break off. Whether it did: false when `bound` came first.
///
/// # Errors
/// Those of the watch and of `on`.
pub(super) async fn tail<T, Open>(
    mut watch: Watch<'_, T, Open>,
    bound: Option<Duration>,
    output: &mut Output<'_>,
    mut on: impl FnMut(T, &mut Output<'_>) -> Result<ControlFlow<()>, Failure>,
) -> Result<bool, Failure>
where
    Open: AsyncFnMut() -> Result<Response<Streaming<T>>, Status>,
{
    let followed = async {
        loop {
            match watch.next().await? {
                Told::Message(message) => {
                    if on(message, output)?.is_break() {
                        return Ok(true);
                    }
                }
                Told::Lost => output.notice("lost the coordinator; trying to reach it again")?,
                Told::Back => output.notice("the coordinator is back")?,
            }
        }
    };
    match bound {
        None => followed.await,
        Some(bound) => timeout(bound, followed).await.unwrap_or(Ok(false)),
    }
}

/// What was said last of each thing, so that a snapshot after a loss repeats nothing.
#[derive(Default)]
pub(super) struct Said(HashMap<String, String>);

/// Beyond this, all is forgotten and some may be said twice.
const REMEMBERED: usize = 100_000;

impl Said {
    /// Whether this is news of the thing with that id.
    pub(super) fn is_news(&mut self, id: &str, what: &str) -> bool {
        if self.0.get(id).is_some_and(|said| said == what) {
            return false;
        }
        if self.0.len() >= REMEMBERED {
            self.0.clear();
        }
        self.0.insert(id.to_owned(), what.to_owned());
        true
    }
}
