//! Matching a host's log with ours on contact: pure, one answer for each pair of logs.
//!
//! A log is compared by what cannot be made up: the journal's id, the event at the last seq, and the counters, which
//! never go back while a journal lives. Whoever is behind has lost something; a person decides what then.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, JournalId, ReportSeq, Seq};

use super::transition::Hello;

/// What our rows say of a host's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OurLog {
    /// The journal that the queue was matched with last.
    pub journal: JournalId,
    /// The last position given out.
    pub last_seq: Seq,
    /// All up to this one are journaled there.
    pub accepted_seq: Seq,
    /// Reports up to this one are stored.
    pub last_report: ReportSeq,
    /// Our event at the hello's last seq.
    pub event_there: Option<EventId>,
    /// Of the machine that it was matched on; none: it never told.
    pub product_uuid: Option<String>,
    /// Its queue was made to go on here, by a take-over or a person's word, and it has been given nothing since.
    pub goes_on_at: Option<Seq>,
}

/// What comes of the comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogMatch {
    /// A host never seen, with an empty queue: its reports are taken from wherever they begin.
    New,
    /// The same journal: deliver what follows `after`.
    Matched {
        /// The hello's last seq.
        after: Seq,
    },
    /// The host is behind, or another: deliver nothing.
    Diverged(Cause),
    /// We are behind: place nothing.
    Recovering(Cause),
}

/// Compares a hello with our rows; none: a host never seen.
#[must_use]
pub fn match_host(hello: &Hello, ours: Option<&OurLog>) -> LogMatch {
    if let Some(doubt) = &hello.doubt {
        return LogMatch::Diverged(doubted(hello, doubt));
    }
    let machine = ours.and_then(|ours| ours.product_uuid.as_ref());
    match (machine, &hello.product_uuid) {
        (Some(matched), Some(told)) if matched != told => LogMatch::Diverged(moved(hello, matched, told)),
        _ => match_logs(hello, ours),
    }
}

/// Compares the logs alone, whatever the machine is and whatever the agent thinks of its journal.
#[must_use]
pub fn match_logs(hello: &Hello, ours: Option<&OurLog>) -> LogMatch {
    let Some(ours) = ours else {
        return match hello.last_seq {
            Seq(0) => LogMatch::New,
            _ => LogMatch::Recovering(ahead(hello, Seq(0))),
        };
    };
    if hello.journal != ours.journal {
        let nothing_lost = ours.last_seq == Seq(0) && ours.last_report == ReportSeq(0);
        return match (nothing_lost, hello.last_seq) {
            (true, Seq(0)) => LogMatch::New,
            _ => LogMatch::Diverged(replaced(hello, ours)),
        };
    }
    if hello.last_seq > ours.last_seq {
        return match ours.goes_on_at {
            // What it is ahead by now was never given to it: the fleet does not wait for that.
            Some(at) => LogMatch::Diverged(ahead_again(hello, at)),
            None => LogMatch::Recovering(ahead(hello, ours.last_seq)),
        };
    }
    if hello.last_seq < ours.accepted_seq {
        return LogMatch::Diverged(
            behind("its journal ends before what it acknowledged", hello)
                .with("journal_seq", hello.last_seq)
                .with("acknowledged_seq", ours.accepted_seq),
        );
    }
    if hello.last_report < ours.last_report {
        return LogMatch::Diverged(
            behind("its journal ends before what it reported", hello)
                .with("journal_report", hello.last_report)
                .with("stored_report", ours.last_report),
        );
    }
    if hello.last_seq > Seq(0) && hello.last_seq_event != ours.event_there {
        let id = |event: Option<EventId>| event.map_or_else(|| "none".to_owned(), |event| event.to_string());
        return LogMatch::Diverged(
            behind("another event is at its last seq", hello)
                .with("seq", hello.last_seq)
                .with("journal_event_id", id(hello.last_seq_event))
                .with("our_event_id", id(ours.event_there)),
        );
    }
    LogMatch::Matched { after: hello.last_seq }
}

fn doubted(hello: &Hello, doubt: &Cause) -> Cause {
    let told = behind("its agent does not believe its own journal", hello);
    Cause { text: format!("{}: {}", told.text, doubt.text), ..told }
}

fn moved(hello: &Hello, matched: &str, told: &str) -> Cause {
    behind("its disks are in another machine than before", hello)
        .with("product_uuid", told)
        .with("our_product_uuid", matched)
}

fn ahead(hello: &Hello, ours: Seq) -> Cause {
    Cause::new(
        Reason::Diverged,
        format!("host {} knows events that this coordinator does not", hello.hostname),
    )
    .advise(
        "was the coordinator's database restored? It takes over what its hosts know, and goes on when all have told; \
         else compare, then `dewpoint host end-recovery --reason TEXT`",
    )
    .with("state", "recovering")
    .with("host_id", hello.host)
    .with("journal_seq", hello.last_seq)
    .with("our_seq", ours)
}

fn ahead_again(hello: &Hello, at: Seq) -> Cause {
    behind("it knows events that nobody gave it since its queue was made to go on", hello)
        .with("journal_seq", hello.last_seq)
        .with("goes_on_after_seq", at)
}

fn replaced(hello: &Hello, ours: &OurLog) -> Cause {
    behind("it has another journal than before", hello)
        .with("journal_id", hello.journal.0)
        .with("our_journal_id", ours.journal.0)
}

fn behind(text: &str, hello: &Hello) -> Cause {
    Cause::new(Reason::Diverged, format!("host {}: {text}", hello.hostname))
        .advise(
            "was its disk restored, replaced, cloned or moved? Its VMs run on; see `dewpoint host reconcile HOST`",
        )
        .with("state", "diverged")
        .with("host_id", hello.host)
}

#[cfg(test)]
mod tests;
