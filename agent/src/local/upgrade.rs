//! Whether the agent can be upgraded now: what is told beforehand, judged purely.
//!
//! An upgrade touches no VM, and what is half done goes on afterwards; so hardly anything speaks against one. What does is
//! a journal that the other agent would refuse, and a host on which it could not be seen that all went well.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{EventId, VmId};
use serde::Serialize;

/// Room for the migrated journal and the package's files, beside twice what the journal has now.
const ROOM: u64 = 128 << 20;

/// What is known before an upgrade.
#[derive(Debug)]
pub struct Facts {
    /// The journal, as far as it could be read.
    pub journal: Journal,
    /// The newest journal schema that the agent to be installed reads.
    pub target_schema: u32,
    /// VMs that run; or why that is not known.
    pub running: Result<usize, Cause>,
    /// Free on the data folder's file system.
    pub free_bytes: u64,
}

/// The journal before an upgrade.
#[derive(Debug)]
pub enum Journal {
    /// The agent has never started.
    Absent,
    /// It cannot be read, and why.
    Unreadable(Cause),
    /// It is of a schema that this agent does not know.
    Newer(u32),
    /// It can be read.
    Read {
        /// Its schema.
        schema: u32,
        /// Its size.
        bytes: u64,
        /// Events that have not ended.
        unfinished: Vec<Unfinished>,
    },
}

/// An event that has not ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unfinished {
    /// Its id.
    pub event: EventId,
    /// Its kind.
    pub kind: String,
    /// Its VM.
    pub vm: VmId,
    /// `accepted`, `running` or `undoing`.
    pub stage: String,
    /// The step that was begun last; none: not begun, or of a kind that this agent does not know.
    pub step: Option<String>,
}

/// How an upgrade stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Advice {
    /// Nothing speaks against it.
    Safe,
    /// It would go well for VMs; but mend this first, or nobody could see that it did.
    Wait,
    /// The agent to be installed would not start.
    Refused,
}

/// One thing that is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Point {
    /// How it bears on the upgrade.
    pub advice: Advice,
    /// What was found, and what it means.
    pub text: String,
}

/// What is to be told, and the advice that it all comes to.
#[must_use]
pub fn judge(facts: &Facts) -> (Advice, Vec<Point>) {
    let mut points = vec![schema(facts)];
    points.extend(unfinished(&facts.journal));
    points.push(running(&facts.running));
    points.extend(room(facts));
    let advice = points.iter().map(|point| point.advice).max().unwrap_or(Advice::Safe);
    (advice, points)
}

fn schema(facts: &Facts) -> Point {
    let target = facts.target_schema;
    match &facts.journal {
        Journal::Absent => point(Advice::Safe, "there is no journal yet"),
        Journal::Unreadable(cause) => {
            point(Advice::Wait, format!("the journal cannot be read: {} ({})", cause.text, cause.advice))
        }
        Journal::Newer(found) => refused(*found, target),
        Journal::Read { schema, .. } if *schema > target => refused(*schema, target),
        Journal::Read { schema, .. } if *schema < target => point(
            Advice::Safe,
            format!("the journal's schema {schema} will be migrated to {target}; there is no way back"),
        ),
        Journal::Read { schema, .. } => point(Advice::Safe, format!("the journal's schema {schema} stays")),
    }
}

fn refused(found: u32, target: u32) -> Point {
    let text = format!(
        "the journal is of schema {found}, and that agent reads up to {target}: it would not start. Install the agent \
         that wrote it, or a newer one"
    );
    point(Advice::Refused, text)
}

fn unfinished(journal: &Journal) -> Vec<Point> {
    let Journal::Read { unfinished, .. } = journal else { return Vec::new() };
    if unfinished.is_empty() {
        return vec![point(Advice::Safe, "no event is unfinished")];
    }
    unfinished.iter().map(|event| point(Advice::Safe, told(event))).collect()
}

fn told(event: &Unfinished) -> String {
    let Unfinished { event: id, kind, vm, stage, step } = event;
    let then = match step.as_deref() {
        None => "not begun: begins afterwards",
        // Jobs of the agent's own process, which end with it.
        Some("fetch-image" | "upload") => "goes on where it was",
        Some("make-disk" | "copy-snapshot" | "adopt-snapshot") => "this copy begins again",
        Some(_) => "goes on from what is then observed",
    };
    let step = step.as_deref().map(|step| format!(" at {step}")).unwrap_or_default();
    format!("{kind} {id} of VM {vm}, {stage}{step}: {then}")
}

fn running(running: &Result<usize, Cause>) -> Point {
    match running {
        Ok(0) => point(Advice::Safe, "no VM runs"),
        Ok(count) => point(Advice::Safe, format!("{count} VMs run; they will not be touched")),
        Err(cause) => point(
            Advice::Wait,
            format!(
                "libvirt does not answer, so nobody could see that VMs run on: {} ({})",
                cause.text, cause.advice
            ),
        ),
    }
}

fn room(facts: &Facts) -> Option<Point> {
    let Journal::Read { bytes, .. } = &facts.journal else { return None };
    let need = ROOM + 2 * bytes;
    let mib = |bytes: u64| bytes >> 20;
    (facts.free_bytes < need).then(|| {
        let text = format!(
            "{} MiB are free, {} are needed to migrate the journal: make room",
            mib(facts.free_bytes),
            mib(need)
        );
        point(Advice::Wait, text)
    })
}

fn point(advice: Advice, text: impl Into<String>) -> Point {
    Point { advice, text: text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dewpoint_proto::cause::Reason;

    fn facts() -> Facts {
        let journal = Journal::Read { schema: 2, bytes: 1 << 20, unfinished: Vec::new() };
        Facts { journal, target_schema: 2, running: Ok(3), free_bytes: 1 << 40 }
    }

    fn said(facts: &Facts) -> (Advice, String) {
        let (advice, points) = judge(facts);
        (advice, points.into_iter().map(|point| point.text).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn running_vms_and_half_done_events_do_not_speak_against_it() {
        let event = Unfinished {
            event: EventId::fresh(),
            kind: "create".into(),
            vm: VmId::fresh(),
            stage: "running".into(),
            step: Some("make-disk".into()),
        };
        let journal = Journal::Read { schema: 1, bytes: 1 << 20, unfinished: vec![event.clone()] };
        let (advice, text) = said(&Facts { journal, ..facts() });
        assert_eq!(advice, Advice::Safe);
        assert!(
            text.contains("migrated to 2") && text.contains("3 VMs run; they will not be touched"),
            "{text}"
        );
        assert!(text.contains(&event.event.to_string()) && text.contains("this copy begins again"), "{text}");
    }

    #[test]
    fn a_journal_that_would_not_be_read_is_refused_whatever_else_holds() {
        let down = Cause::new(Reason::HypervisorDown, "connection refused");
        for facts in [
            Facts { target_schema: 1, ..facts() },
            Facts { journal: Journal::Newer(9), running: Err(down), ..facts() },
        ] {
            let (advice, text) = said(&facts);
            assert_eq!(advice, Advice::Refused);
            assert!(text.contains("would not start"), "{text}");
        }
    }

    #[test]
    fn what_could_not_be_seen_waits() {
        let down = || Cause::new(Reason::HypervisorDown, "connection refused").advise("start it");
        assert_eq!(said(&Facts { running: Err(down()), ..facts() }).0, Advice::Wait);
        assert_eq!(said(&Facts { journal: Journal::Unreadable(down()), ..facts() }).0, Advice::Wait);
        assert_eq!(said(&Facts { free_bytes: 1 << 20, ..facts() }).0, Advice::Wait);
        assert_eq!(said(&Facts { journal: Journal::Absent, running: Ok(0), ..facts() }).0, Advice::Safe);
    }
}
