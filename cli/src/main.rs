//! The only place that knows the process: its arguments, its streams, its exit status.

use std::io::{IsTerminal, stderr, stdout};
use std::process::ExitCode;

use dewpoint::{Sink, Streams, run};

fn main() -> ExitCode {
    let sink = |terminal: bool| if terminal { Sink::Terminal } else { Sink::Plain };
    let (out_is, err_is) = (sink(stdout().is_terminal()), sink(stderr().is_terminal()));
    let mut streams = Streams { out: &mut stdout().lock(), err: &mut stderr(), out_is, err_is };
    run(std::env::args_os(), &mut streams).into()
}
