//! journald's own protocol, spoken by a thread of its own: a journald that does not read holds up nobody.
//!
//! Owns: the socket, and the bounded queue of lines before it. A line that finds the queue full is lost and counted, and
//! the count is told once journald has read what was before it. Never: waits in whoever logs.

use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::Duration;

use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::fields::{Fields, plain};
use super::lines::HOST;
use crate::message;

/// Where journald listens.
pub(super) const SOCKET: &str = "/run/systemd/journal/socket";
/// Lines that wait for journald; some hundred KiB.
pub(super) const WAITING: usize = 1024;
/// Of one value. A line of all our fields at their longest fits into one datagram.
const VALUE: usize = 8 << 10;

/// The layer. It speaks as long as it lives.
pub(super) struct Journald {
    queue: SyncSender<Item>,
    lost: Arc<AtomicU64>,
    speaker: String,
}

/// Waits for what was said last.
#[derive(Debug)]
pub(super) struct Goodbye(SyncSender<Item>);

enum Item {
    Line(Vec<u8>),
    /// All before it was sent.
    Reached(SyncSender<()>),
}

impl Journald {
    /// Speaks to the journald at a path.
    ///
    /// # Errors
    /// When nobody listens there.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        let socket = UnixDatagram::unbound()?;
        // An empty datagram: journald passes over it.
        socket.send_to(&[], path)?;
        let (queue, lines) = sync_channel(WAITING);
        let journald = Self { queue, lost: Arc::default(), speaker: own_name() };
        let (lost, speaker, path) = (Arc::clone(&journald.lost), journald.speaker.clone(), path.to_owned());
        let wire = Wire { socket, path, lost, speaker };
        std::thread::Builder::new().name("log-journald".to_owned()).spawn(move || wire.carry(&lines))?;
        Ok(journald)
    }

    /// For the end of the process.
    pub(super) fn goodbye(&self) -> Goodbye {
        Goodbye(self.queue.clone())
    }
}

impl Goodbye {
    /// Returns when all that was said has been sent, or journald does not take it within a time.
    pub(super) fn within(&self, most: Duration) {
        let (reached, seen) = sync_channel(1);
        if self.0.try_send(Item::Reached(reached)).is_ok() {
            // Late, or the thread is gone: nobody can be told.
            let _ = seen.recv_timeout(most);
        }
    }
}

impl<S> Layer<S> for Journald
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        let fields = Fields::of(event, cx.event_scope(event));
        let line = line(event.metadata(), &self.speaker, &fields);
        if self.queue.try_send(Item::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread's side.
struct Wire {
    socket: UnixDatagram,
    path: PathBuf,
    lost: Arc<AtomicU64>,
    speaker: String,
}

impl Wire {
    fn carry(&self, items: &Receiver<Item>) {
        loop {
            let next = match items.try_recv() {
                Err(TryRecvError::Empty) => {
                    self.tell_lost();
                    items.recv().ok()
                }
                item => item.ok(),
            };
            match next {
                Some(Item::Line(line)) => self.send(&line),
                // Nobody waits any more: nobody is told.
                Some(Item::Reached(reached)) => drop(reached.try_send(())),
                None => return,
            }
        }
    }

    /// Waits for as long as journald does not read: this thread has nothing else to do.
    fn send(&self, line: &[u8]) {
        while let Err(error) = self.socket.send_to(line, &self.path) {
            if error.kind() != ErrorKind::Interrupted {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }

    /// What is sent here is not counted again: while nobody listens at all, the count waits for the next line.
    fn tell_lost(&self) {
        let lost = self.lost.load(Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        let text = format!("{lost} lines of this log were lost: journald did not take them");
        let mut line = Vec::new();
        begin(&mut line, Level::WARN, &self.speaker);
        put(&mut line, "MESSAGE", &text);
        put(&mut line, "MESSAGE_ID", message::LINES_LOST);
        put(&mut line, "MORE", &lost.to_string());
        if self.socket.send_to(&line, &self.path).is_ok() {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
    }
}

fn line(meta: &Metadata<'_>, speaker: &str, fields: &Fields) -> Vec<u8> {
    let mut line = Vec::with_capacity(512);
    begin(&mut line, *meta.level(), speaker);
    put(&mut line, "TARGET", meta.target());
    if let (Some(file), Some(number)) = (meta.file(), meta.line()) {
        put(&mut line, "CODE_FILE", file);
        put(&mut line, "CODE_LINE", &number.to_string());
    }
    for (name, value) in fields.iter() {
        put(&mut line, &name.to_ascii_uppercase().replace('.', "_"), &plain(value));
    }
    line
}

fn begin(line: &mut Vec<u8>, level: Level, speaker: &str) {
    put(line, "PRIORITY", priority(level));
    put(line, "SYSLOG_IDENTIFIER", speaker);
    if let Some(host) = HOST.get() {
        put(line, "HOST_ID", host);
    }
}

/// syslog's numbers, as other programs use them for our levels.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "3",
        Level::WARN => "4",
        Level::INFO => "6",
        _ => "7",
    }
}

/// One field, its value with its length: it may hold anything.
fn put(line: &mut Vec<u8>, name: &str, value: &str) {
    let value = &value[..value.floor_char_boundary(VALUE)];
    line.extend_from_slice(name.as_bytes());
    line.push(b'\n');
    line.extend_from_slice(&(value.len() as u64).to_le_bytes());
    line.extend_from_slice(value.as_bytes());
    line.push(b'\n');
}

fn own_name() -> String {
    let own = std::env::args_os().next().unwrap_or_default();
    Path::new(&own).file_name().unwrap_or_default().to_string_lossy().into_owned()
}
