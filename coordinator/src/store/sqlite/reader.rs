//! Connections for reading: in WAL mode they see the last commit, and wait for no writer.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use super::schema;
use crate::store::{StoreError, StoreResult};

/// Reads at once. More would only share the same disk.
const READERS: usize = 4;
/// Reads waiting, at most.
const WAITING: usize = 1024;
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) struct Readers {
    places: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    pub(super) fn open(path: &Path) -> StoreResult<Self> {
        let idle = (0..READERS).map(|_| schema::open_reader(path)).collect::<StoreResult<Vec<_>>>()?;
        Ok(Self {
            places: Arc::new(Semaphore::new(READERS)),
            waiting: Arc::new(Semaphore::new(WAITING)),
            idle: Arc::new(Mutex::new(idle)),
        })
    }

    /// Runs a query off the runtime's threads.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        doing: &'static str,
        run: impl FnOnce(&Connection) -> StoreResult<T> + Send + 'static,
    ) -> StoreResult<T> {
        let busy = || StoreError::Busy { waiting: WAITING };
        let _waits = self.waiting.try_acquire().map_err(|_| busy())?;
        let place = tokio::time::timeout(PATIENCE, Arc::clone(&self.places).acquire_owned()).await;
        let place = place.map_err(|_| busy())?.map_err(|_| StoreError::Unanswered)?;
        let idle = Arc::clone(&self.idle);
        let read = tokio::task::spawn_blocking(move || {
            let _place = place;
            let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let Some(connection) = taken else {
                // A query that panicked took its connection along.
                let text = "no connection is left".to_owned();
                return Err(StoreError::Failed { doing, text });
            };
            let answer = run(&connection);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            answer
        });
        read.await.map_err(|e| StoreError::Failed { doing, text: e.to_string() })?
    }
}
