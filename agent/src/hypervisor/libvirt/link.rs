//! A worker's connection to libvirt: opened when first needed, and again when it has broken.

use std::sync::{Arc, OnceLock};

use dewpoint_proto::cause::Cause;
use virt::connect::Connect;
use virt::error::Error;

use super::eventloop;
use super::trouble::{self, Trouble};
use super::xml::Owner;

/// Seconds between the pings of an idle connection, and how many may go unanswered.
const KEEPALIVE: (i32, u32) = (5, 3);

/// A connection that is there when asked for.
pub(super) struct Link {
    uri: String,
    session: Option<Session>,
}

/// A connection, with what was learnt over it.
#[derive(Clone)]
pub(super) struct Session {
    /// The connection itself.
    pub connect: Connect,
    owner: Arc<OnceLock<Owner>>,
}

impl Session {
    /// Whether libvirt would change the owners of files; asked once a connection.
    pub(super) fn owner(&self) -> Result<Owner, Error> {
        if let Some(owner) = self.owner.get() {
            return Ok(*owner);
        }
        let has_dac = self.connect.capabilities()?.contains("<model>dac</model>");
        Ok(*self.owner.get_or_init(|| if has_dac { Owner::Kept } else { Owner::NotOurs }))
    }
}

impl Link {
    /// Not opened yet.
    pub(super) fn new(uri: String) -> Self {
        Self { uri, session: None }
    }

    /// Makes a call that changes something: once, whatever becomes of it.
    pub(super) fn once<T>(
        &mut self,
        what: &str,
        call: impl FnOnce(&Session) -> Result<T, Trouble>,
    ) -> Result<T, Cause> {
        let session = self.session()?;
        let result = call(&session);
        self.judged(what, result)
    }

    /// Asks something; again on a new connection when this one turns out to be broken (libvirt's daemon restarted).
    pub(super) fn ask<T>(
        &mut self,
        what: &str,
        question: impl Fn(&Connect) -> Result<T, Error>,
    ) -> Result<T, Cause> {
        let session = self.session()?;
        let mut answer = question(&session.connect);
        if answer.is_err() && !is_alive(&session.connect) {
            answer = question(&self.session()?.connect);
        }
        self.judged(what, answer.map_err(Trouble::from))
    }

    fn session(&mut self) -> Result<Session, Cause> {
        if let Some(session) = self.session.as_ref().filter(|session| is_alive(&session.connect)) {
            return Ok(session.clone());
        }
        self.session = None;
        let session = Session { connect: open(&self.uri)?, owner: Arc::default() };
        Ok(self.session.insert(session).clone())
    }

    /// An error on a broken connection says nothing about the domain.
    fn judged<T>(&mut self, what: &str, result: Result<T, Trouble>) -> Result<T, Cause> {
        let alive = self.session.as_ref().is_some_and(|session| is_alive(&session.connect));
        result.map_err(|trouble| match trouble {
            Trouble::Libvirt(error) if !alive => trouble::down(&self.uri, &error),
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
