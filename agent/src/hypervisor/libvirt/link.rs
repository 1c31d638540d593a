//! A worker's connection to libvirt: opened when first needed, and again when it has broken.

use dewpoint_proto::cause::Cause;
use virt::connect::Connect;
use virt::error::Error;

use super::eventloop;
use super::trouble::{self, Trouble};

/// Seconds between the pings of an idle connection, and how many may go unanswered.
const KEEPALIVE: (i32, u32) = (5, 3);

/// A connection that is there when asked for.
pub(super) struct Link {
    uri: String,
    connect: Option<Connect>,
}

impl Link {
    /// Not opened yet.
    pub(super) fn new(uri: String) -> Self {
        Self { uri, connect: None }
    }

    /// Makes a call that changes something: once, whatever becomes of it.
    pub(super) fn once<T>(
        &mut self,
        what: &str,
        call: impl FnOnce(&Connect) -> Result<T, Trouble>,
    ) -> Result<T, Cause> {
        let connect = self.connect()?;
        let result = call(&connect);
        self.judged(what, result)
    }

    /// Asks something; again on a new connection when this one turns out to be broken (libvirt's daemon restarted).
    pub(super) fn ask<T>(
        &mut self,
        what: &str,
        question: impl Fn(&Connect) -> Result<T, Error>,
    ) -> Result<T, Cause> {
        let connect = self.connect()?;
        let answer = question(&connect);
        if answer.is_err() && !is_alive(&connect) {
            self.connect = None;
            let connect = self.connect()?;
            let answer = question(&connect);
            return self.judged(what, answer.map_err(Trouble::from));
        }
        self.judged(what, answer.map_err(Trouble::from))
    }

    fn connect(&mut self) -> Result<Connect, Cause> {
        if let Some(connect) = self.connect.as_ref().filter(|connect| is_alive(connect)) {
            return Ok(connect.clone());
        }
        self.connect = None;
        let connect = open(&self.uri)?;
        Ok(self.connect.insert(connect).clone())
    }

    /// An error on a broken connection says nothing about the domain.
    fn judged<T>(&mut self, what: &str, result: Result<T, Trouble>) -> Result<T, Cause> {
        result.map_err(|trouble| match trouble {
            Trouble::Libvirt(error) if !self.connect.as_ref().is_some_and(is_alive) => {
                self.connect = None;
                trouble::down(&self.uri, &error)
            }
            other => other.into_cause(what),
        })
    }
}

/// Opens a connection whose death is noticed.
///
/// # Errors
/// `HYPERVISOR_DOWN`.
pub(super) fn open(uri: &str) -> Result<Connect, Cause> {
    eventloop::ensure()?;
    let connect = Connect::open(Some(uri)).map_err(|error| trouble::down(uri, &error))?;
    // Drivers inside our own process have no connection to keep alive, and say so.
    if let Err(error) = connect.set_keep_alive(KEEPALIVE.0, KEEPALIVE.1)
        && !trouble::is_unsupported(&error)
    {
        return Err(trouble::down(uri, &error));
    }
    Ok(connect)
}

/// Asks the client library, not the daemon.
pub(super) fn is_alive(connect: &Connect) -> bool {
    connect.is_alive().unwrap_or(false)
}
