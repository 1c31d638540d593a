//! Promise 1 and 3: whatever instant the power goes, the journal opens with a prefix of what was written, whole
//! requests only, and all that were answered.

use std::path::Path;

use super::*;
use crate::journal::rows::EntryRow;

/// All that a journal says, apart from how often it was opened.
type View = (Vec<(EventRow, Vec<EntryRow>)>, Vec<VmRow>, Vec<ReportRow>, Option<(Seq, EventId)>, Session);

fn view(path: &Path) -> View {
    let reader = Reader::open(path).unwrap();
    let all = reader.events(&EventFilter::default(), Page { before: None, limit: 100 }).unwrap();
    let events = all.iter().map(|row| reader.event(row.id).unwrap().unwrap()).collect();
    let tail = reader.tail().unwrap();
    (events, reader.vms().unwrap(), reader.reports_after(ReportSeq(0), 100).unwrap(), tail.last, tail.session)
}

/// The files as they are now, the log cut to a length.
fn copy(folder: &Folder, cut: Option<usize>) -> Folder {
    let to = Folder::new();
    std::fs::write(to.db(), std::fs::read(folder.db()).unwrap()).unwrap();
    let mut log = log(folder);
    log.truncate(cut.unwrap_or(log.len()));
    std::fs::write(to.path().join("agent.db-wal"), log).unwrap();
    to
}

fn log(folder: &Folder) -> Vec<u8> {
    std::fs::read(folder.path().join("agent.db-wal")).unwrap()
}

/// Every kind of request once or more; `after` is called when each was answered.
async fn every_request(journal: &Journal, mut after: impl FnMut(&'static str)) {
    after("opened");
    let proof = accepted(journal, delivery(1, vm(1), create())).await;
    after("accepted");
    journal.append(&proof, vec![started(Step::MakeDisk)]).await.unwrap();
    after("begun");
    journal.append(&proof, vec![done(Step::MakeDisk), started(Step::Define)]).await.unwrap();
    after("gone on");
    journal.append(&proof, vec![done(Step::Define), succeeded(id(1))]).await.unwrap();
    after("ended");
    refused(journal, delivery(2, vm(2), reboot())).await;
    after("refused");
    journal.welcomed(Term(3), Millis(1_800_000_000_000), true).await.unwrap();
    after("welcomed");
    journal.acknowledge(ReportSeq(2)).await.unwrap();
    after("acknowledged");
    let running = accepted(journal, delivery(3, vm(1), reboot())).await;
    after("accepted a reboot");
    let ending = accepted(journal, delivery(4, vm(1), destroy())).await;
    after("superseded");
    let cause = Cause::new(Reason::Superseded, "a destroy came");
    let end = Entry::Finished { outcome: Outcome::Cancelled(cause), vm: None, leaves: None };
    journal.append(&running, vec![end]).await.unwrap();
    after("ended the superseded");
    journal.append(&ending, vec![started(Step::Undefine), gone()]).await.unwrap();
    after("destroyed");
}

#[tokio::test]
async fn after_every_answer_a_crash_finds_what_was_answered() {
    let folder = Folder::new();
    let journal = folder.open();
    let mut crashed = Vec::new();
    every_request(&journal, |when| crashed.push((when, copy(&folder, None), view(&folder.db())))).await;
    for (when, copied, answered) in crashed {
        let again = copied.open();
        again.unfinished().await.unwrap();
        assert_eq!(view(&copied.db()), answered, "{when}");
    }
}

#[tokio::test]
async fn a_request_that_was_cut_in_the_middle_is_there_whole_or_not_at_all() {
    let folder = Folder::new();
    let journal = folder.open();
    let mut written = Vec::new();
    every_request(&journal, |when| written.push((when, log(&folder).len(), view(&folder.db())))).await;
    for pair in written.windows(2) {
        let [(_, from, before), (when, to, after)] = pair else { unreachable!() };
        // Every frame's edge, and into each frame's header and page.
        for cut in (*from..*to).step_by(24 + 4096).flat_map(|edge| [edge, edge + 12, edge + 2000]) {
            let copied = copy(&folder, Some(cut));
            let found = view(&copied.db());
            assert!(found == *before || found == *after, "{when}, cut at {cut} of {from}..{to}");
        }
    }
}

#[tokio::test]
async fn what_waits_together_is_committed_together() {
    let folder = Folder::new();
    let journal = folder.open();
    let before = commits(&folder);
    // The thread is kept busy until all are in its queue.
    let (release, gate) = std::sync::mpsc::sync_channel::<()>(0);
    let blocked = {
        let journal = journal.clone();
        tokio::spawn(async move { journal.ask(Access::Read, move |_| Ok(gate.recv().is_ok())).await })
    };
    let mut offered = Vec::new();
    for seq in 1..=60 {
        offered.push(journal.enqueue(delivery(seq, vm(seq.into()), create()), None).await.unwrap());
    }
    tokio::task::spawn_blocking(move || release.send(()).unwrap()).await.unwrap();
    assert!(blocked.await.unwrap().unwrap());
    for one in offered {
        assert!(matches!(one.answer().await.unwrap(), Admission::New(_)));
    }
    // Two when the first few were taken along with the gate.
    let groups = commits(&folder) - before;
    assert!(groups <= 2, "{groups} commits for 60 events");
}

/// Commit frames in the log: those that say the size of the database after them.
fn commits(folder: &Folder) -> usize {
    let log = log(folder);
    log.get(32..).unwrap_or(&[]).chunks(24 + 4096).filter(|frame| frame[4..8] != [0; 4]).count()
}
