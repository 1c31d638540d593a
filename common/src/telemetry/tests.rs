use std::collections::BTreeMap;
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tracing::subscriber::with_default;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::message;

/// What was written.
#[derive(Clone, Default)]
struct Page(Arc<Mutex<Vec<u8>>>);

impl Write for Page {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Page {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Page {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_owned).collect()
    }
}

/// What is written of what `log` says, with everything counted told at the end.
fn written(lines: Lines, bounds: Bounds, log: impl FnOnce(&Flood)) -> Vec<String> {
    let (page, flood) = (Page::default(), Flood::new(bounds));
    let layer = tracing_subscriber::fmt::layer().with_writer(page.clone()).with_ansi(false);
    let filter = EnvFilter::new("debug").and(flood.clone());
    let subscriber = tracing_subscriber::registry().with(layer.event_format(lines).with_filter(filter));
    with_default(subscriber, || {
        log(&flood);
        flood.tell_all();
    });
    page.lines()
}

fn say(vm: u32) {
    tracing::warn!(vm_id = vm, reason = "DISK_FULL", "no room");
}

#[test]
fn a_flood_is_counted_and_the_count_says_of_what() {
    let lines = written(Lines::Text, Bounds::default(), |_| (0..1000).for_each(|_| say(7)));
    assert_eq!(lines.len(), 6, "{lines:#?}");
    let count = &lines[5];
    for part in [" WARN ", "995 more like this", "no room", "vm_id=7", "reason=DISK_FULL", "more=995"] {
        assert!(count.contains(part), "{part}: {count}");
    }
}

#[test]
fn what_is_about_something_else_is_not_the_same_message() {
    let lines = written(Lines::Text, Bounds::default(), |_| (0..1000).for_each(say));
    assert_eq!(lines.len(), 1000);
}

#[test]
fn the_span_tells_messages_apart_as_well() {
    let lines = written(Lines::Text, Bounds::default(), |_| {
        for event in 0..3 {
            let span = tracing::info_span!("event", event_id = event);
            let _inside = span.enter();
            (0..6).for_each(|_| tracing::info!("step begun"));
        }
    });
    assert_eq!(lines.len(), 3 * 6, "five each, and a count of one");
    assert_eq!(lines.iter().filter(|line| line.contains("1 more like this")).count(), 3);
}

#[test]
fn a_window_that_is_over_lets_messages_through_again() {
    let bounds = Bounds { window: Duration::from_secs(60), ..Bounds::default() };
    let lines = written(Lines::Text, bounds, |flood| {
        (0..7).for_each(|_| say(1));
        flood.tell(Instant::now());
        flood.tell(Instant::now() + bounds.window);
        (0..4).for_each(|_| say(1));
    });
    let counts: Vec<_> = lines.iter().filter(|line| line.contains("more like this")).collect();
    assert_eq!((lines.len(), counts.len()), (5 + 1 + 4, 1), "{lines:#?}");
    assert!(counts[0].contains("2 more like this in the last 1m"), "{counts:?}");
}

#[test]
fn a_full_table_loses_no_message() {
    let bounds = Bounds { burst: 1, most: 3, ..Bounds::default() };
    let lines = written(Lines::Text, bounds, |_| {
        (0..3).for_each(|vm| {
            say(vm);
            say(vm);
        });
        (10..15).for_each(say);
    });
    let whole = lines.iter().filter(|line| !line.contains("more like this")).count();
    assert_eq!(whole, 3 + 5, "three are counted, and what finds no place passes: {lines:#?}");
    assert_eq!(lines.len(), whole + 3);
}

#[test]
fn who_asks_for_debug_gets_all_of_it() {
    let lines = written(Lines::Text, Bounds::default(), |_| {
        (0..100).for_each(|_| tracing::debug!("looked"));
    });
    assert_eq!(lines.len(), 100);
}

#[test]
fn text_is_one_line_whatever_comes_from_outside() {
    let lines = written(Lines::Text, Bounds::default(), |_| {
        tracing::error!(
            message_id = message::EVENT_ENDED,
            name = "a\nb",
            said = "x\u{1b}[2J",
            "ended\nERROR all is lost"
        );
    });
    assert_eq!(lines.len(), 1, "{lines:#?}");
    assert!(!lines[0].contains('\u{1b}') && !lines[0].contains(message::EVENT_ENDED), "{lines:#?}");
}

#[test]
fn json_is_flat_and_has_the_fields_of_spans() {
    let lines = written(Lines::Json, Bounds::default(), |_| {
        let lane = tracing::info_span!("lane", vm_id = "v1");
        let _in_lane = lane.enter();
        let event = tracing::info_span!("event", event_id = "e1", kind = "create");
        let _in_event = event.enter();
        tracing::info!(message_id = message::STEP_BEGUN, step = "start", attempt = 2, "step begun");
    });
    let line: Value = serde_json::from_str(&lines[0]).unwrap();
    for (name, value) in [
        ("vm_id", Value::from("v1")),
        ("event_id", "e1".into()),
        ("kind", "create".into()),
        ("step", "start".into()),
        ("attempt", 2.into()),
        ("level", "INFO".into()),
        ("message", "step begun".into()),
        ("message_id", message::STEP_BEGUN.into()),
    ] {
        assert_eq!(line[name], value, "{name}: {line}");
    }
}

/// Stands for journald: a socket that is read when we say so.
struct FakeJournald {
    socket: UnixDatagram,
    path: PathBuf,
    _folder: TempDir,
}

impl FakeJournald {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        Self { socket, path, _folder: folder }
    }

    /// What the layer says of what `log` says.
    fn hears(&self, log: impl FnOnce()) -> Goodbye {
        let layer = Journald::at(&self.path).unwrap();
        assert!(self.next().is_empty(), "its question whether anyone listens");
        let goodbye = layer.goodbye();
        let filter = EnvFilter::new("info").and(Flood::new(Bounds::default()));
        with_default(tracing_subscriber::registry().with(layer.with_filter(filter)), log);
        goodbye
    }

    fn next(&self) -> BTreeMap<String, Vec<String>> {
        let mut buffer = vec![0; 256 * 1024];
        let length = self.socket.recv(&mut buffer).unwrap();
        fields(&buffer[..length])
    }
}

/// Fields in journald's export format, every value with its length.
fn fields(datagram: &[u8]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut rest = datagram;
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let name = std::str::from_utf8(&rest[..end]).unwrap();
        if let Some((name, value)) = name.split_once('=') {
            found.entry(name.to_owned()).or_default().push(value.to_owned());
            rest = &rest[end + 1..];
            continue;
        }
        let length = u64::from_le_bytes(rest[end + 1..end + 9].try_into().unwrap()) as usize;
        let value = String::from_utf8(rest[end + 9..end + 9 + length].to_vec()).unwrap();
        found.entry(name.to_owned()).or_default().push(value);
        rest = &rest[end + 9 + length + 1..];
    }
    found
}

#[test]
fn journald_gets_our_fields_under_their_own_names() {
    let journald = FakeJournald::new();
    speak_for_host("h1");
    journald.hears(|| {
        let lane = tracing::info_span!("lane", vm_id = "v1");
        let _in_lane = lane.enter();
        tracing::info!(
            message_id = message::STEP_FAILED,
            event_id = %"e1",
            step = "start",
            attempt = 3,
            reason = "HYPERVISOR_ERROR",
            "step failed"
        );
    });
    let found = journald.next();
    for (name, value) in [
        ("MESSAGE", "step failed"),
        ("MESSAGE_ID", message::STEP_FAILED),
        ("EVENT_ID", "e1"),
        ("VM_ID", "v1"),
        ("HOST_ID", "h1"),
        ("STEP", "start"),
        ("ATTEMPT", "3"),
        ("REASON", "HYPERVISOR_ERROR"),
        ("PRIORITY", "6"),
    ] {
        assert_eq!(found.get(name).map(Vec::as_slice), Some(&[value.to_owned()][..]), "{name}: {found:#?}");
    }
}

#[test]
fn a_journald_that_reads_nothing_holds_nobody_up_and_is_told_what_it_missed() {
    let journald = FakeJournald::new();
    let said = 3 * journald::WAITING;
    // It comes back although nothing is read: that is what is tested.
    let goodbye = journald.hears(|| (0..said).for_each(|vm| say(vm as u32)));
    let mut heard = 0;
    let lost: usize = loop {
        let line = journald.next();
        if line.get("MESSAGE_ID").is_some_and(|ids| ids[0] == message::LINES_LOST) {
            break line["MORE"][0].parse().unwrap();
        }
        heard += 1;
    };
    assert_eq!(heard + lost, said, "each line was heard or counted");
    assert!(lost > 0 && heard >= journald::WAITING, "{heard} heard, {lost} lost");
    goodbye.within(Duration::from_secs(30));
}

#[test]
fn the_end_of_the_process_waits_for_a_hung_journald_no_longer_than_it_says() {
    let journald = FakeJournald::new();
    let goodbye = journald.hears(|| (0..3 * journald::WAITING).for_each(|vm| say(vm as u32)));
    goodbye.within(Duration::from_millis(10));
}

#[test]
fn a_value_of_any_length_fits() {
    let journald = FakeJournald::new();
    journald.hears(|| tracing::info!(path = "ü".repeat(1 << 20), "long"));
    let line = journald.next();
    assert_eq!((line["MESSAGE"][0].as_str(), line["PATH"][0].len()), ("long", 8 << 10));
}

#[test]
fn the_configuration_takes_known_words_alone() {
    let read = |text: &str| toml::from_str::<Log>(text).map_err(|error| error.message().to_owned());
    assert_eq!(read("").unwrap(), Log::default());
    assert_eq!(read("format = 'json'").unwrap().format, Format::Json);
    assert!(read("format = 'xml'").unwrap_err().contains("journald"));
    assert!(read("filter = 'a=b=c'").unwrap_err().contains("info,dewpoint_agent::link=debug"));
}
