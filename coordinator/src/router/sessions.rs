//! Which session has which host. A new one displaces an old one only if the old one fails a ping: two agents that bear
//! one host id (a cloned disk) must not take the host from each other in turns.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{HostId, SessionId};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// The map. Its lock is held for single operations, never across a wait.
#[derive(Debug)]
pub(super) struct Sessions {
    live: Arc<Mutex<HashMap<HostId, Handle>>>,
    clash: Duration,
}

/// One session as others see it.
#[derive(Clone, Debug)]
pub(super) struct Handle {
    /// Which session.
    pub(super) id: SessionId,
    /// Asks it to ping its agent at once.
    pub(super) poke: Arc<Notify>,
    /// Counts what came from its agent.
    pub(super) heard: Arc<watch::Sender<u64>>,
    /// Ends it.
    pub(super) displaced: CancellationToken,
    /// Cancelled when it has ended.
    gone: CancellationToken,
}

/// A session's place in the map; leaving it drops it.
#[derive(Debug)]
pub(super) struct Place {
    live: Arc<Mutex<HashMap<HostId, Handle>>>,
    host: HostId,
    pub(super) handle: Handle,
}

impl Sessions {
    /// `clash`: what an older session is given to answer.
    pub(super) fn new(clash: Duration) -> Self {
        Self { live: Arc::default(), clash }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.live.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Takes a host's place for a new session.
    ///
    /// # Errors
    /// `DIVERGED` when an older session of that host answered a ping.
    pub(super) async fn enter(&self, host: HostId) -> Result<Place, Cause> {
        loop {
            let older = match self.try_enter(host) {
                Ok(place) => return Ok(place),
                Err(older) => older,
            };
            if self.answers(&older).await {
                return Err(clash(host));
            }
            tracing::info!(host_id = %host, session = %older.id, "an older session did not answer and is displaced");
            older.displaced.cancel();
            if timeout(self.clash, older.gone.cancelled()).await.is_err() {
                return Err(Cause::new(Reason::TooBusy, "the older session of this host has not ended yet")
                    .advise("connect again in a few seconds"));
            }
        }
    }

    fn try_enter(&self, host: HostId) -> Result<Place, Handle> {
        let mut live = lock(&self.live);
        if let Some(older) = live.get(&host) {
            return Err(older.clone());
        }
        let handle = Handle {
            id: SessionId::fresh(),
            poke: Arc::default(),
            heard: Arc::new(watch::Sender::new(0)),
            displaced: CancellationToken::new(),
            gone: CancellationToken::new(),
        };
        live.insert(host, handle.clone());
        Ok(Place { live: Arc::clone(&self.live), host, handle })
    }

    /// Whether anything comes from the agent of that session after it is pinged. One that ends meanwhile does not.
    async fn answers(&self, older: &Handle) -> bool {
        let mut heard = older.heard.subscribe();
        older.poke.notify_one();
        tokio::select! {
            biased;
            () = older.gone.cancelled() => false,
            changed = timeout(self.clash, heard.changed()) => matches!(changed, Ok(Ok(()))),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut live = lock(&self.live);
        if live.get(&self.host).is_some_and(|found| found.id == self.handle.id) {
            live.remove(&self.host);
        }
        drop(live);
        self.handle.gone.cancel();
    }
}

fn lock(live: &Mutex<HashMap<HostId, Handle>>) -> MutexGuard<'_, HashMap<HostId, Handle>> {
    // Single inserts and removes: a panic elsewhere leaves the map whole.
    live.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clash(host: HostId) -> Cause {
    Cause::new(Reason::Diverged, format!("two agents claim host {host}, and the first one answers"))
        .advise("look for a cloned disk or a second agent; give the clone a host id of its own")
        .with("host_id", host)
}
