//! The story for somebody who was woken: in order, the newest last, what is unfinished and the next thing to do at the end.

use std::fmt::Write;
use std::time::Duration;

use dewpoint_proto::cause::Cause;

use super::{Item, Keeping, Now, Observed, StepEnd, Story, Unfinished, What};
use crate::local::print;
use crate::notes::CallEnd;

/// No line is longer.
const WIDTH: usize = 80;
/// `HH:MM:SS` and two spaces.
const CLOCK: usize = 10;

pub(super) fn of(story: &Story) -> String {
    let mut text = String::new();
    head(&mut text, story);
    let mut day = String::new();
    for item in &story.items {
        let when = print::when(item.at_ms);
        let (date, clock) = when.split_at_checked(10).unwrap_or(("", ""));
        if date != day {
            day = date.to_owned();
            text.push('\n');
            line(&mut text, 0, date);
        }
        told(&mut text, clock.trim(), item);
    }
    if story.items.is_empty() {
        text.push('\n');
        line(&mut text, 0, "nothing happened in that time");
    }
    now(&mut text, story);
    text
}

fn head(text: &mut String, story: &Story) {
    let name = story.vm.as_ref().and_then(|vm| vm.name.as_deref()).unwrap_or("VM");
    line(text, 0, &format!("{name}  {}", story.vm_id));
    match &story.vm {
        Some(vm) => {
            line(text, 0, &format!("{}, wanted {}, generation {}", vm.presence, vm.wanted, vm.generation))
        }
        None => line(text, 0, "the journal of this host never heard of it"),
    }
    if story.earlier_events > 0 {
        let (events, were) = if story.earlier_events == 1 { ("event", "was") } else { ("events", "were") };
        line(text, 0, &format!("{} {events} {were} before: see --all, or --since", story.earlier_events));
    }
    if story.is_cut {
        line(text, 0, "there was more in that time than is told here: only the newest is; see --since");
    }
    if let Some(cause) = &story.without_notes {
        line(text, 0, &format!("without calls and states: {}", cause.text));
    }
    if let Some(lost) = &story.lost {
        let when = print::when(lost.at_ms);
        line(text, 0, &format!("{} calls and states were not recorded, the last at {when}", lost.records));
    }
}

fn told(text: &mut String, clock: &str, item: &Item) {
    let (indent, said) = words(&item.what);
    let said = format!("{clock:<8}  {:indent$}{said}", "");
    line(text, CLOCK + indent + 2, &said);
}

/// How deep it stands, and what is said.
fn words(what: &What) -> (usize, String) {
    match what {
        What::Accepted { event_id, kind, seq, generation, not_after_ms } => {
            let from = seq.map_or_else(|| "submitted here".to_owned(), |seq| format!("seq {seq}"));
            let until = not_after_ms.map(|at| format!(", not after {}", print::when(at))).unwrap_or_default();
            (0, format!("{kind} {event_id} accepted ({from}, generation {generation}{until})"))
        }
        What::Step { step, attempt, took_ms, end, .. } => (2, a_step(step, *attempt, *took_ms, end)),
        What::Undo { kind, cause, .. } => (0, format!("{kind} to be undone: {}", because(cause))),
        What::Ended { kind, outcome, took_ms, report_acknowledged, .. } => {
            let span = print::span(Duration::from_millis(*took_ms));
            let why = outcome.cause().map(|cause| format!(": {}", because(cause))).unwrap_or_default();
            let report = if *report_acknowledged { "" } else { " (report not acknowledged yet)" };
            (0, format!("{kind} {} after {span}{report}{why}", outcome.name()))
        }
        What::Entry { entry, .. } => (2, format!("{entry} (of a newer version)")),
        What::Call { call, of_all, times, took_us, end } => (4, a_call(call, *of_all, *times, *took_us, end)),
        What::State { was, now, detail, run } => {
            let run = run.as_ref().map(|run| format!("run {run}"));
            let more: Vec<_> =
                Some(detail.clone()).filter(|said| !said.is_empty()).into_iter().chain(run).collect();
            let more = if more.is_empty() { String::new() } else { format!(" ({})", more.join(", ")) };
            (0, format!("state: {} -> {now}{more}", was.as_deref().unwrap_or("not known")))
        }
        What::Told { words } => (0, format!("libvirt tells: {words}")),
        What::AgentStarted { version } => (0, format!("agent {version} started")),
    }
}

fn a_step(step: &str, attempt: u32, took_ms: Option<u64>, end: &StepEnd) -> String {
    let mut said = step.to_owned();
    if attempt > 1 {
        let _ = write!(said, ", attempt {attempt}");
    }
    let span = took_ms.map(|took| print::span(Duration::from_millis(took))).unwrap_or_default();
    match end {
        StepEnd::Returned => format!("{said:<24} {span:>8}"),
        StepEnd::Failed { cause } => format!("{said:<24} {span:>8}  failed: {}", because(cause)),
        StepEnd::CutOff => format!("{said:<24} {span:>8}  cut off"),
        StepEnd::Open => format!("{said:<24} {:>8}  at work, or cut off", ""),
    }
}

fn a_call(call: &str, of_all: bool, times: u32, took_us: u64, end: &CallEnd) -> String {
    let many = if times > 1 { format!(" x{times}") } else { String::new() };
    let of_all = if of_all { " of all" } else { "" };
    let said = format!("libvirt {call}{of_all}{many}");
    let span = exact(took_us);
    match end {
        CallEnd::Well => format!("{said:<22} {span:>8}"),
        CallEnd::Failed { reason: Some(reason), error } => {
            format!("{said:<22} {span:>8}  failed: {error} ({reason})")
        }
        CallEnd::Failed { reason: None, error } => format!("{said:<22} {span:>8}  failed: {error}"),
        CallEnd::Overran { error } => format!("{said:<22} {span:>8}  overran: {error}"),
    }
}

/// Short calls in tenths of a millisecond.
fn exact(took_us: u64) -> String {
    match took_us {
        0..10_000 => format!("{}.{} ms", took_us / 1000, took_us % 1000 / 100),
        _ => print::span(Duration::from_micros(took_us)),
    }
}

fn because(cause: &Cause) -> String {
    format!("{} ({})", cause.text, cause.reason)
}

fn now(text: &mut String, story: &Story) {
    let now = &story.now;
    text.push('\n');
    line(text, 0, &format!("now, {}", print::when(now.at_ms)));
    row(text, "observed", &observed(&now.observed));
    if let Some(cause) = &now.daemon_down {
        row(text, "agent", &format!("down: {}", cause.text));
    }
    if now.held == Some(true) {
        row(text, "held", "an operator holds the host: no step is begun until `dewpoint host release`");
    }
    for (name, said) in now.keeping.iter().flat_map(Keeping::rows) {
        row(text, name, &said);
    }
    for open in &now.unfinished {
        still_open(text, now, open);
    }
    let mut name = "next";
    for said in next(story) {
        row(text, std::mem::take(&mut name), &said);
    }
}

fn observed(seen: &Observed) -> String {
    match seen {
        Observed::There { power, detail, busy: None } => format!("{power} ({detail})"),
        Observed::There { power, detail, busy: Some(why) } => {
            format!("{power} ({detail}); no call is made: {why}")
        }
        Observed::Absent => "no domain".to_owned(),
        Observed::Foreign { name } => format!("a domain {name} with its UUID, which is not ours"),
        Observed::Unknown { why } => format!("unknown: {why}"),
    }
}

fn still_open(text: &mut String, now: &Now, open: &Unfinished) {
    row(text, "unfinished", &format!("{} {}, {}", open.kind, open.event_id, open.stage));
    if let (Some(step), Some(began)) = (&open.step, open.step_began_ms) {
        let span = print::span(now.at_ms.since(began));
        row(text, "last step", &format!("{step}, begun {span} ago"));
    }
    if let (done, total @ 1..) = open.bytes {
        row(text, "so far", &format!("{} of {} MiB", done >> 20, total >> 20));
    }
    if !open.waiting_for.is_empty() {
        row(text, "waits for", &open.waiting_for);
    }
    if let Some(at) = open.until_ms {
        row(text, "until", &print::when(at));
    } else if now.daemon_down.is_none() && !open.waiting_for.is_empty() {
        row(text, "until", "no set time: it is looked at again every few seconds");
    }
    if let Some(at) = open.not_after_ms {
        row(text, "expires", &format!("{}, unless it is begun", print::when(at)));
    }
}

/// What whoever reads this does next; a command has a line of its own.
fn next(story: &Story) -> Vec<String> {
    const START: &str = "systemctl start dewpoint-agent";
    let last = story.items.iter().rev().find_map(|item| match &item.what {
        What::Ended { outcome, .. } => Some(outcome),
        _ => None,
    });
    match (story.now.unfinished.first(), &story.now.daemon_down, last.and_then(|end| end.cause())) {
        (Some(_), Some(_), _) => vec!["start the agent; it goes on by itself:".into(), START.into()],
        (Some(open), None, _) => next_of(story, open),
        (None, _, Some(cause)) if !cause.advice.is_empty() => vec![cause.advice.clone()],
        (None, Some(_), _) => vec!["start the agent:".into(), START.into()],
        (None, None, _) if story.vm.is_none() => {
            vec![
                "this host has no event of it; where it is tells:".into(),
                format!("dewpoint vm show {}", story.vm_id),
            ]
        }
        (None, None, _) => vec!["nothing: no event of it is unfinished".into()],
    }
}

/// With an event that is unfinished, and an agent that works on it.
fn next_of(story: &Story, open: &Unfinished) -> Vec<String> {
    if let Observed::There { busy: Some(_), .. } = &story.now.observed {
        let doctor = format!("dewpoint-agent doctor --vm {}", story.vm_id);
        return vec!["it goes on once its QEMU answers; if it lasts, what to do tells:".into(), doctor];
    }
    let cancelled = story.now.unfinished.iter().any(|other| other.kind == "cancel");
    match (open.kind.as_str(), open.stage.as_str()) {
        (_, "undoing") => vec!["nothing: it is being undone, and that is tried until it is done".into()],
        ("destroy", "running") => vec!["nothing: a destroy that has begun is carried through".into()],
        _ if cancelled => vec!["nothing: it was cancelled, and is undone from its next step on".into()],
        _ => vec![
            "nothing, if that is what it should wait for; to end it:".into(),
            format!("dewpoint event cancel {}", open.event_id),
        ],
    }
}

fn row(text: &mut String, name: &str, said: &str) {
    line(text, 14, &format!("  {name:<12}{said}"));
}

/// Adds a line, broken at words where it is too long, with what follows indented; long words are broken as well.
/// What came from outside cannot speak to the terminal.
fn line(text: &mut String, indent: usize, said: &str) {
    let said = said.replace(char::is_control, " ");
    let mut rest = said.as_str();
    let mut width = WIDTH;
    loop {
        let fits = rest.char_indices().nth(width).map_or(rest.len(), |(at, _)| at);
        if fits == rest.len() {
            let _ = writeln!(text, "{}", rest.trim_end());
            return;
        }
        let lead = rest.len() - rest.trim_start().len();
        let space = if rest[fits..].starts_with(' ') { Some(fits) } else { rest[..fits].rfind(' ') };
        let cut = space.filter(|at| *at > lead).unwrap_or(fits);
        let _ = writeln!(text, "{}", rest[..cut].trim_end());
        rest = rest[cut..].trim_start();
        let _ = write!(text, "{:indent$}", "");
        width = WIDTH - indent;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(indent: usize, said: &str) -> Vec<String> {
        let mut text = String::new();
        line(&mut text, indent, said);
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn lines_are_broken_at_words_and_long_words_anywhere() {
        let said = format!("12:00:00  {}", "word ".repeat(40));
        let lines = wrapped(12, &said);
        assert!(lines.len() > 2 && lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
        assert!(lines[1..].iter().all(|line| line.starts_with("            word")), "{lines:#?}");
        let lines = wrapped(12, &"\u{fc}".repeat(300));
        assert!(lines.iter().all(|line| line.chars().count() <= WIDTH), "{lines:#?}");
        assert_eq!(lines.iter().map(|line| line.matches('\u{fc}').count()).sum::<usize>(), 300);
    }

    #[test]
    fn what_libvirt_says_cannot_speak_to_the_terminal() {
        let text = wrapped(12, "failed: \u{1b}[2Jgone\nERROR: all is lost").join("\n");
        assert_eq!(text, "failed:  [2Jgone ERROR: all is lost");
    }
}
