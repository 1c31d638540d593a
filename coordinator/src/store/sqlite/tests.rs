use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::store::contract::{Factory, contract_suite};

/// Stores in folders that go with the factory. When they go, each is checked as `dewpoint-coordinator check` would: whatever
/// a case did, its rows agree.
pub(crate) struct InFolders {
    folder: tempfile::TempDir,
    count: AtomicUsize,
}

impl InFolders {
    pub(crate) fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("dewpoint-store-").tempdir().unwrap();
        Self { folder, count: AtomicUsize::new(0) }
    }

    fn next(&self) -> PathBuf {
        let folder = self.folder.path().join(self.count.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&folder).unwrap();
        folder.join("coordinator.db")
    }
}

impl Drop for InFolders {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        for folder in 0..self.count.load(Ordering::Relaxed) {
            let path = self.folder.path().join(folder.to_string()).join("coordinator.db");
            if path.exists() {
                assert_eq!(check::check(&path).unwrap(), [], "{}", path.display());
            }
        }
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

/// Each create is one event, one VM, and one more in the host's queue: a copy of one instant has as many of each.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_of_one_instant_while_writes_go_on_and_says_that_it_is_one() {
    let factory = InFolders::new();
    let store = std::sync::Arc::new(factory.fresh());
    crate::store::contract::fixture::small_world(store.as_ref()).await;
    let (path, to) = (store.path.clone(), factory.next());
    let writes = tokio::spawn({
        let store = std::sync::Arc::clone(&store);
        async move {
            for n in 1..=120 {
                let mut create = crate::store::contract::fixture::create(n, &[1]);
                create.candidates[0].most.vcpus = 1000;
                create.candidates[0].most.memory_bytes = u64::MAX / 4;
                create.candidates[0].most.disk_bytes = u64::MAX / 4;
                store.admit_create(create).await.unwrap();
            }
        }
    });
    let mut seen = Vec::new();
    while !writes.is_finished() {
        let _ = std::fs::remove_file(&to);
        let contents = copy::copy(&path, &to, Millis(7), |_, _| ()).unwrap();
        let db = rusqlite::Connection::open(&to).unwrap();
        let last: i64 = db.query_row("SELECT last_seq FROM hosts", [], |row| row.get(0)).unwrap();
        let last = last.unsigned_abs();
        assert_eq!((contents.events, contents.vms, contents.hosts), (last, last, 1));
        let awaited: bool = db.query_row("SELECT awaited FROM hosts", [], |row| row.get(0)).unwrap();
        assert!(awaited, "whoever starts on it waits for its hosts");
        seen.push(last);
    }
    writes.await.unwrap();
    assert!(seen.is_sorted(), "{seen:?}");
    assert_eq!(check::check(&path).unwrap(), []);
    let restored = SqliteStore::open(&to).unwrap();
    assert!(restored.fleet().await.unwrap().recovering.unwrap().text.contains("backup"));
    assert!(store.fleet().await.unwrap().recovering.is_none(), "the copied one is as it was");
}

/// A host that was retired will not come: neither the copy nor whoever ends its recovery waits for it.
#[tokio::test]
async fn a_copy_does_not_wait_for_a_retired_host() {
    use crate::store::contract::fixture::{hello, host_id, join, small_world, word};
    let factory = InFolders::new();
    let store = factory.fresh();
    small_world(&store).await;
    join(&store, 2).await;
    let told = Retirement { host: host_id(2), disks: Disks::NotSaid, word: word("scrapped") };
    store.retire_host(told).await.unwrap().unwrap();
    let to = factory.next();
    copy::copy(&store.path, &to, Millis(7), |_, _| ()).unwrap();
    let restored = SqliteStore::open(&to).unwrap();
    let waits = restored.fleet().await.unwrap().recovering.unwrap();
    assert_eq!(waits.fields["awaited_hosts"], "1", "{waits}");
    restored.claim_host(hello(1), Millis(9)).await.unwrap();
    assert_eq!(restored.fleet().await.unwrap().recovering, None, "it was the last one");
}

/// Else an admission takes the longer, the more events of the VM ended lately.
#[test]
fn a_vms_unfinished_events_are_found_without_a_look_at_those_that_ended() {
    let factory = InFolders::new();
    let db = schema::open_writer(&factory.next()).unwrap();
    for query in [admit::UNFINISHED, &format!("{} WHERE v.vm_id = ?1", rows::VM)] {
        let mut plan = db.prepare(&format!("EXPLAIN QUERY PLAN {query}")).unwrap();
        let steps = plan.query_map([[0_u8; 16]], |row| row.get("detail")).unwrap();
        let steps: Vec<String> = steps.collect::<Result<_, _>>().unwrap();
        assert!(steps.iter().any(|step| step.contains("events_unfinished (vm_id=?)")), "{query}: {steps:?}");
    }
}

/// As the first version left it: everything in one table.
const FIRST: &str = "
    INSERT INTO hosts (host_id, hostname, journal_id, start_count, agent_version, term, last_seq, accepted_seq,
        claimed_vcpus, claimed_memory, claimed_disk, claimed_vms)
        VALUES (zeroblob(16), 'h1', zeroblob(16), 1, '0.1.0', 1, 2, 2, 1, 5, 6, 1);
    INSERT INTO vms (vm_id, name, host_id, last_host, vcpus, memory, disk, shape, generation, wanted_on, image,
        created_at) VALUES (zeroblob(16), 'web', zeroblob(16), zeroblob(16), 1, 5, 6,
        '{\"vcpus\":1,\"memory_bytes\":5,\"disk_bytes\":6,\"disk_mode\":\"overlay\",\"nics\":[],\"labels\":{},\"placement\":\"bound\"}',
        2, 1, zeroblob(32), 7);
    INSERT INTO events (n, event_id, vm_id, vm_name, kind, stage, ended, host_id, seq, generation, digest, request,
        outcome, accepted_at, finished_at) VALUES
        (1, x'00000000000000000000000000000001', zeroblob(16), 'web', 'create', 'succeeded', 1, zeroblob(16), 1, 1,
            zeroblob(32), zeroblob(32), '{\"succeeded\":{}}', 7, 8),
        (2, x'00000000000000000000000000000002', zeroblob(16), 'web', 'start', 'accepted', 0, zeroblob(16), 2, 2,
            zeroblob(32), zeroblob(32), NULL, 9, NULL);
    PRAGMA user_version = 1;
";

#[tokio::test]
async fn a_database_of_the_first_version_is_brought_up_and_keeps_its_events() {
    let factory = InFolders::new();
    let path = factory.next();
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(include_str!("schema/1.sql")).unwrap();
    old.execute_batch(FIRST).unwrap();
    drop(old);
    let store = SqliteStore::open(&path).unwrap();
    let list = async || store.events(EventFilter::default(), Page::first(10)).await.unwrap().items;
    let before = list().await;
    assert_eq!(
        before.iter().map(|event| event.stage.as_str()).collect::<Vec<_>>(),
        ["accepted", "succeeded"]
    );
    assert_eq!(before[0].stage_since, None, "nobody wrote it down then");
    assert_eq!(store.move_finished(Millis(100), Millis(200)).await.unwrap(), 1);
    assert_eq!(list().await, before);
    assert_eq!(store.vm(before[0].vm).await.unwrap().unwrap().unfinished, Some(before[0].id));
    assert_eq!(store.recount_claims().await.unwrap(), []);
    assert_eq!(check::check(&path).unwrap(), []);
}

contract_suite!(InFolders::new());
