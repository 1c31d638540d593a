//! `dewpoint`, the operator's command: a client of `dewpoint.fleet.v1`.
//!
//! A tour, in the order a command passes through:
//!
//! - `args`: the command line and its values, parsed into the shared vocabulary before anything is sent.
//! - `config`: where the coordinator is.
//! - `fleet`: the connection: deadlines, paging, watches that outlive a coordinator's restart.
//! - `submit` and `follow`: making an event exactly once, and staying with it until it ends.
//! - `upload`: an image file to the coordinator's image server, resumable.
//! - `commands`: one file a noun, joining the above.
//! - `view`, `table`, `text`, `output`: what people and programs are shown.
//! - `failure`: every way to end badly, and its exit status.
//!
//! The command decides nothing about the fleet, keeps no state, and never ends the process itself: [`run`] answers
//! with an [`Exit`].

mod args;
mod commands;
mod config;
mod failure;
mod fleet;
mod follow;
mod meter;
mod output;
mod submit;
mod table;
mod text;
mod upload;
mod view;

use std::ffi::OsString;

pub use crate::failure::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
pub use crate::output::{Sink, Streams};

/// Runs one command line, the program's name first. Everything is written to `streams`; nothing is left running.
pub fn run(args: impl IntoIterator<Item = OsString>, streams: &mut Streams<'_>) -> Exit {
    let args: Vec<OsString> = args.into_iter().collect();
    let mut output = Output::new(streams, Format::asked_for(&args));
    match args::parse(args, &mut output).and_then(|parsed| match parsed {
        Some(cli) => carry_out(cli, &mut output),
        None => Ok(()),
    }) {
        Ok(()) => Exit::Ok,
        Err(failure) => output.failed(&failure),
    }
}

fn carry_out(cli: args::Cli, output: &mut Output<'_>) -> Result<(), Failure> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::internal)?;
    let ended = runtime.block_on(commands::carry_out(cli, output));
    // A read of a file or a name look-up may still be on its thread; nobody waits for it.
    runtime.shutdown_background();
    ended
}
