//! What was done and seen in a run, in the order of time: kept for the checks, and written as a line of JSON each.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use dewpoint_proto::time::Millis;
use serde::Serialize;

use super::plan::FaultKind;

/// Something that was done or seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// Milliseconds since the Unix epoch.
    pub at_ms: i64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What can be done or seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "what", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields' names say it")]
pub enum What {
    /// A caller asks for an event.
    Asked { caller: u8, event: String, vm: String, kind: String, detail: String },
    /// It has an answer to it.
    Answered { event: String, answer: Answer },
    /// A fault begins; of a slot: the VM that is in it.
    FaultBegan { n: usize, kind: FaultKind, vm: Option<String>, detail: String },
    /// It was let go.
    FaultEnded { n: usize, kind: FaultKind, vm: Option<String> },
    /// A daemon ended though no fault ended it, and is started again.
    DiedByItself { daemon: String, status: String, excuse: Option<String> },
    /// A guest was told to write a marker, and was done, or gave no answer, by now.
    Marked { vm: String, marker: String, from_ms: i64, confirmed: bool },
    /// Somebody edited its domain, and libvirt took it.
    Edited { vm: String },
    /// A VM's process as it is from now on.
    Seen { vm: String, run: Seen },
    /// Two live processes of one VM.
    Twice { vm: String, pids: Vec<u32> },
    /// All was let go, and this is what the fleet then waited for.
    Settling { detail: String },
    /// It did not come to rest in time.
    NotSettled { detail: String },
    /// A promise that was broken.
    Violated { promise: String, detail: String },
}

/// How a request was answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
#[expect(missing_docs, reason = "the fields' names say it")]
pub enum Answer {
    /// The event exists.
    Taken { stage: String },
    /// It was turned away.
    Refused { reason: String, text: String },
    /// Nobody can say.
    Silence { text: String },
}

/// A VM's process, as the host shows it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Seen {
    /// Process id and start, which together are one process; none: there is none.
    pub qemu: Option<(u32, String)>,
    /// The run, disk and generation in its live mark.
    pub run: Option<String>,
    /// See above.
    pub disk: Option<String>,
    /// See above.
    pub generation: Option<u64>,
    /// libvirt's state and reason.
    pub state: String,
}

/// The history of a run. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct History(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    lines: Vec<Line>,
    log: File,
}

impl History {
    /// A new one, written to this file as well.
    ///
    /// # Panics
    /// When the file cannot be made.
    #[must_use]
    pub fn new(log: &Path) -> Self {
        let log = File::create(log).unwrap_or_else(|error| panic!("{}: {error}", log.display()));
        Self(Arc::new(Mutex::new(Inner { lines: Vec::new(), log })))
    }

    /// Adds a line, now.
    pub fn add(&self, what: What) {
        let line = Line { at_ms: Millis::now().0, what };
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The log is for people; the checks go by what is kept here.
        let _ = serde_json::to_string(&line).map(|text| writeln!(inner.log, "{text}"));
        inner.lines.push(line);
    }

    /// All lines so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }
}
