//! One command line, and everything that came of it.

use std::io::{self, Write};
use std::thread::JoinHandle;

use dewpoint::{Exit, Sink, Streams};

/// What a command wrote, and how it ended.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) exit: Exit,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Its stdout as one JSON document.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Its stdout as JSON lines.
    pub(crate) fn json_lines(&self) -> Vec<serde_json::Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Runs `dewpoint --coordinator URL ARGS`.
pub(crate) fn run(url: &str, args: &[&str]) -> Ran {
    run_to(Sink::Plain, url, args)
}

fn run_to(sink: Sink, url: &str, args: &[&str]) -> Ran {
    let mut out = Vec::new();
    let mut err = Vec::new();
    let mut streams = Streams { out: &mut out, err: &mut err, out_is: sink, err_is: sink };
    let line = ["dewpoint", "--coordinator", url].into_iter().chain(args.iter().copied()).map(Into::into);
    let exit = dewpoint::run(line, &mut streams);
    Ran { exit, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

/// The same for a person at a terminal.
pub(crate) fn run_live(url: &str, args: &[&str]) -> Ran {
    run_to(Sink::Terminal, url, args)
}

/// The same, meanwhile.
pub(crate) fn start(url: &str, args: &[&str]) -> JoinHandle<Ran> {
    let (url, args) = (url.to_owned(), args.iter().map(|&arg| arg.to_owned()).collect::<Vec<_>>());
    std::thread::spawn(move || run(&url, &args.iter().map(String::as_str).collect::<Vec<_>>()))
}

/// A reader that went away.
pub(crate) struct ClosedPipe;

impl Write for ClosedPipe {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
