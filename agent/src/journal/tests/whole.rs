//! A journal that is closed in order is one file: whoever copies `agent.db` copies all of it.

use super::*;

#[tokio::test]
async fn after_a_clean_stop_the_file_alone_is_the_whole_journal() {
    let (folder, copy) = (Folder::new(), Folder::new());
    let journal = folder.open();
    let proof = accepted(&journal, delivery(1, vm(1), create())).await;
    assert!(journal.checkpoint().await.unwrap());
    std::fs::write(copy.db(), std::fs::read(folder.db()).unwrap()).unwrap();
    let (row, _) = Reader::open(&copy.db()).unwrap().event(proof.id()).unwrap().unwrap();
    assert_eq!(row.id, proof.id());
}

#[tokio::test]
async fn whoever_reads_meanwhile_is_told_of_and_nothing_is_lost() {
    let folder = Folder::new();
    let journal = folder.open();
    let reading = rusqlite::Connection::open(folder.db()).unwrap();
    reading.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
    let proof = accepted(&journal, delivery(1, vm(1), create())).await;
    assert!(!journal.checkpoint().await.unwrap());
    reading.execute_batch("COMMIT").unwrap();
    assert!(journal.checkpoint().await.unwrap());
    assert!(journal.event(proof.id()).await.unwrap().is_some());
}
