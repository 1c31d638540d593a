//! libvirt's event loop: one for the process, on a thread that never ends. It carries events, answers keepalive pings,
//! and notices broken connections, so it must run before the first connection is opened.

use std::sync::OnceLock;
use std::thread;

use dewpoint_proto::cause::{Cause, Reason};
use virt::event::{event_register_default_impl, event_run_default_impl};

static STARTED: OnceLock<Result<(), String>> = OnceLock::new();

/// Starts it, once.
///
/// # Errors
/// `INTERNAL`: without it nothing of libvirt is used.
pub(super) fn ensure() -> Result<(), Cause> {
    STARTED.get_or_init(start).clone().map_err(|why| {
        Cause::new(Reason::Internal, format!("libvirt's event loop could not be started: {why}"))
    })
}

fn start() -> Result<(), String> {
    // Errors are told by results; libvirt would print them on stderr as well.
    virt::error::clear_error_callback();
    event_register_default_impl().map_err(|error| error.to_string())?;
    thread::Builder::new().name("libvirt-loop".to_owned()).spawn(run).map_err(|error| error.to_string())?;
    Ok(())
}

fn run() {
    loop {
        if let Err(error) = event_run_default_impl() {
            // It fails only if polling does (out of memory); nothing can be done but try again.
            tracing::error!(%error, "libvirt's event loop failed");
        }
    }
}
