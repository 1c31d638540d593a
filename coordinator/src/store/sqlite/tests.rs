use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::store::contract::{Factory, contract_suite};

/// Stores in folders that go with the factory.
struct InFolders {
    folder: tempfile::TempDir,
    count: AtomicUsize,
}

impl InFolders {
    fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("dewpoint-store-").tempdir().unwrap();
        Self { folder, count: AtomicUsize::new(0) }
    }

    fn next(&self) -> PathBuf {
        let folder = self.folder.path().join(self.count.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&folder).unwrap();
        folder.join("coordinator.db")
    }
}

impl Factory for InFolders {
    type Store = SqliteStore;

    fn fresh(&self) -> SqliteStore {
        SqliteStore::open(&self.next()).unwrap()
    }

    /// The bytes of the database and its log as they are, without the shared memory that a killed process leaves.
    fn after_crash(&self, store: &SqliteStore) -> SqliteStore {
        let path = self.next();
        for suffix in ["", "-wal"] {
            let with = |path: &Path| PathBuf::from(format!("{}{suffix}", path.display()));
            if let Ok(bytes) = std::fs::read(with(&store.path)) {
                std::fs::write(with(&path), bytes).unwrap();
            }
        }
        SqliteStore::open(&path).unwrap()
    }
}

contract_suite!(InFolders::new());
