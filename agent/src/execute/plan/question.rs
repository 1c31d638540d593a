//! What a plan is asked, and the checks that every plan begins with.

use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Event, Kind};
use dewpoint_proto::ids::{EventId, Generation, RunId};
use dewpoint_proto::spec::VmSpec;

use super::{Next, On, too_late};
use crate::execute::history::{Aim, History};
use crate::execute::observed::{Observed, foreign};
use crate::execute::settings::Settings;
use crate::hypervisor::{Control, Domain, Mark, Seen, Wanted};
use crate::journal::entry::Before;
use crate::network::Allowed;
pub use crate::network::rules_of;
use crate::storage::{ImageServer, VmFiles};

/// Everything that a plan decides on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What is asked.
    pub event: &'a Event,
    /// Of the event.
    pub generation: Generation,
    /// What the VM is made of: the event's own for a create, else as the VM was created; none: not known here.
    pub spec: Option<&'a VmSpec>,
    /// What was tried.
    pub history: &'a History,
    /// What is there.
    pub observed: &'a Observed,
    /// Where a snapshot is put.
    pub server: &'a Server,
    /// Since the host booted.
    pub now: Duration,
    /// Not begun by then: expires. Since the host booted.
    pub expires: Option<Duration>,
    /// Bounds.
    pub settings: &'a Settings,
}

/// The image server, as far as is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Server {
    /// There it is.
    At(ImageServer),
    /// The coordinator has not said yet.
    Unknown,
    /// There is none: events are submitted on the host.
    None,
}

impl Server {
    /// Where it is, if that is known.
    #[must_use]
    pub fn known(&self) -> Option<&ImageServer> {
        match self {
            Self::At(server) => Some(server),
            Self::Unknown | Self::None => None,
        }
    }
}

/// A domain of ours with its persistent configuration.
#[derive(Clone, Copy, Debug)]
pub struct Vm<'a> {
    /// As observed.
    pub domain: &'a Domain,
    /// In its persistent configuration.
    pub mark: &'a Mark,
    /// What its QEMU was started with; none when it is off.
    pub live: Option<&'a Mark>,
}

impl Vm<'_> {
    /// QEMU exists.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.domain.is_on()
    }

    /// The run in progress.
    #[must_use]
    pub fn run(&self) -> Option<RunId> {
        self.live.and_then(|mark| mark.run)
    }

    /// How it is: what undoing an event that begins now goes back to.
    #[must_use]
    pub fn as_before(&self) -> Before {
        Before {
            disk: Some(self.mark.disk),
            seed: Some(self.mark.seed),
            // Running without a live mark: started over a configuration of someone else's. It is on all the same.
            run: self.is_on().then(|| self.run().or(self.mark.run)).flatten(),
            wanted: self.mark.wanted,
        }
    }
}

impl<'a> Question<'a> {
    /// The event's id: the stamp on whatever it makes.
    #[must_use]
    pub fn id(&self) -> EventId {
        self.event.id
    }

    /// The run that the event causes.
    #[must_use]
    pub fn run(&self) -> RunId {
        RunId::from(self.event.id)
    }

    /// The domain, when calls may be made for it: none when there is none.
    ///
    /// # Errors
    /// What to do instead when it is unknown, busy, foreign, or changed by a newer event.
    pub fn domain(&self) -> Result<Option<&'a Domain>, Next> {
        let domain = match &self.observed.domain {
            Seen::Unknown(why) => {
                return Err(Next::wait(On::Sight, format!("the domain to be seen: {why}")));
            }
            Seen::Absent => return Ok(None),
            Seen::There(domain) => domain,
        };
        if let Control::Busy(why) = &domain.control {
            return Err(Next::wait(On::Domain, format!("the domain to be free: {why}")));
        }
        for mark in [&domain.mark, &domain.live] {
            if let Seen::Unknown(why) = mark {
                return Err(Next::wait(On::Sight, format!("the domain's mark to be read: {why}")));
            }
        }
        let Some(mark) = domain.mark.there().or(domain.live.there()).filter(|mark| mark.vm == self.event.vm)
        else {
            return self.not_ours(foreign(domain));
        };
        if mark.generation > self.generation {
            return self.not_ours(stale(mark.generation, self.generation));
        }
        Ok(Some(domain))
    }

    /// The VM with its persistent configuration, for a kind that changes one.
    ///
    /// # Errors
    /// As [`Self::domain`]; and giving up when there is none.
    pub fn vm(&self) -> Result<Vm<'a>, Next> {
        match self.vm_if_there()? {
            Some(vm) => Ok(vm),
            None => Err(self.give_up(vm_not_found())),
        }
    }

    /// The VM with its persistent configuration, if there is one.
    ///
    /// # Errors
    /// As [`Self::domain`].
    pub fn vm_if_there(&self) -> Result<Option<Vm<'a>>, Next> {
        let Some(domain) = self.domain()? else { return Ok(None) };
        let Some(mark) = domain.mark.there() else { return Ok(None) };
        let live = domain.live.there().filter(|_| domain.is_on());
        Ok(Some(Vm { domain, mark, live }))
    }

    /// The VM's files: none when it has no folder.
    ///
    /// # Errors
    /// A wait when they are unknown.
    pub fn files(&self) -> Result<Option<&'a VmFiles>, Next> {
        known(&self.observed.files, "the VM's files")
    }

    /// Whether an image is in the cache.
    ///
    /// # Errors
    /// A wait when that is unknown.
    pub fn cached(&self) -> Result<bool, Next> {
        Ok(known(&self.observed.image, "the image cache")?.is_some())
    }

    /// Whether anti-spoofing rules are as the spec has them.
    ///
    /// # Errors
    /// A wait when that is unknown; giving up when the VM's spec is.
    pub fn shielded(&self) -> Result<bool, Next> {
        let spec = self.spec()?;
        let rules = known(&self.observed.shield, "the anti-spoofing rules")?;
        Ok(rules.map_or(&[][..], Vec::as_slice) == self.rules(spec))
    }

    /// Whether any anti-spoofing rules of the VM are there.
    ///
    /// # Errors
    /// A wait when that is unknown.
    pub fn has_rules(&self) -> Result<bool, Next> {
        Ok(known(&self.observed.shield, "the anti-spoofing rules")?.is_some())
    }

    /// The rules that a spec asks for, sorted by tap.
    #[must_use]
    pub fn rules(&self, spec: &VmSpec) -> Vec<Allowed> {
        rules_of(self.event.vm, spec)
    }

    /// What the VM is made of.
    ///
    /// # Errors
    /// Giving up when that is not known here.
    pub fn spec(&self) -> Result<&'a VmSpec, Next> {
        self.spec.ok_or_else(|| {
            self.give_up(
                Cause::new(Reason::VmNotFound, "the journal does not know what the VM is made of")
                    .advise("the VM was made under another journal; reconcile the host"),
            )
        })
    }

    /// How the VM was before the event: as journaled, or as it is when the event is about to begin.
    #[must_use]
    pub fn before(&self, vm: Option<&Vm<'_>>) -> Before {
        let nothing = Before { disk: None, seed: None, run: None, wanted: Wanted::Off };
        let now = || vm.map_or(nothing, Vm::as_before);
        self.history.before().cloned().unwrap_or_else(now)
    }

    /// The event cannot be done: ends it, undoing what was begun.
    #[must_use]
    pub fn give_up(&self, cause: Cause) -> Next {
        let undoable = too_late(self.event, self.history).is_none();
        match self.history.aim() {
            Aim::Do if self.history.begun() && undoable => Next::Undo(cause),
            Aim::Do | Aim::Undo => Next::Fail(cause),
        }
    }

    /// How long the guest is given to go down.
    #[must_use]
    pub fn guest_timeout(&self) -> Duration {
        let asked = match &self.event.kind {
            Kind::Stop(stop) => stop.timeout_seconds,
            Kind::Reboot(reboot) => reboot.timeout_seconds,
            _ => None,
        };
        asked.map_or(self.settings.guest_timeout, |seconds| Duration::from_secs(u64::from(seconds)))
    }

    /// A domain that is not the event's to touch. While undoing it is as if there were none: the rest of what the
    /// event made is still taken back.
    fn not_ours(&self, cause: Cause) -> Result<Option<&'a Domain>, Next> {
        match self.history.aim() {
            Aim::Do => Err(self.give_up(cause)),
            Aim::Undo => Ok(None),
        }
    }
}

/// A part that is there or not; a wait when it is unknown.
///
/// # Errors
/// The wait.
pub fn known<'a, T>(seen: &'a Seen<T>, what: &str) -> Result<Option<&'a T>, Next> {
    match seen {
        Seen::There(value) => Ok(Some(value)),
        Seen::Absent => Ok(None),
        Seen::Unknown(why) => Err(Next::wait(On::Sight, format!("{what} to be seen: {why}"))),
    }
}

fn vm_not_found() -> Cause {
    Cause::new(Reason::VmNotFound, "there is no such domain on this host")
        .advise("look whether someone undefined it; destroy the VM to remove the rest of it")
}

fn stale(found: Generation, own: Generation) -> Cause {
    Cause::new(
        Reason::StaleGeneration,
        format!("the domain bears generation {found}, newer than the event's {own}"),
    )
    .advise("look at the VM's newer events; send this one again if it is still wanted")
}
