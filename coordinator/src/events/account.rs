//! A host's account, from the wire: what does not parse is left out where the rest stands without it, else it refuses.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{Generation, Seq};
use dewpoint_proto::spec::{ImageDigest, VmSpec};
use dewpoint_proto::vm_state::VmState;
use dewpoint_proto::wire::agent;

use super::told::{counter, printable};
use crate::store::{Account, Found, Holding, JournalEntry};

/// VMs that one account may name: those of the host, and what is left of others.
const VMS_MOST: usize = 4 * dewpoint_proto::limits::VMS_PER_HOST as usize;
/// Entries that one account may name.
const ENTRIES_MOST: usize = 20_000;

impl Account {
    /// Takes in a chunk; whether it was the last.
    ///
    /// # Errors
    /// `INVALID`, `TOO_LARGE`.
    pub fn take_in(&mut self, chunk: agent::AccountChunk) -> Result<bool, Cause> {
        if self.vms.len() + chunk.vms.len() > VMS_MOST
            || self.entries.len() + chunk.entries.len() > ENTRIES_MOST
        {
            return Err(Cause::new(Reason::TooLarge, "a host's account is beyond all bounds")
                .advise("look at that host's data folder: it has more VMs or events than any host may"));
        }
        for holding in chunk.vms {
            self.vms.push(Holding::try_from(holding)?);
        }
        for entry in chunk.entries {
            self.entries.push(JournalEntry::try_from(entry)?);
        }
        self.truncated |= chunk.truncated;
        Ok(chunk.complete)
    }
}

impl TryFrom<agent::Holding> for Holding {
    type Error = Cause;

    fn try_from(told: agent::Holding) -> Result<Self, Cause> {
        let state = told.state.ok_or_else(|| Cause::new(Reason::Invalid, "an account names no VM"))?;
        Ok(Self {
            state: VmState::try_from(state)?,
            // One that a newer agent wrote, or damaged: as good as not known.
            spec: told.spec.and_then(|spec| VmSpec::try_from(spec).ok()),
            found: Found { journal: told.in_journal, libvirt: told.in_libvirt, disk: told.on_disk },
            unseen: printable(told.unseen, 512),
            image: told.image_digest.parse::<ImageDigest>().ok(),
        })
    }
}

impl TryFrom<agent::Entry> for JournalEntry {
    type Error = Cause;

    fn try_from(told: agent::Entry) -> Result<Self, Cause> {
        let event = told.event_id.parse()?;
        let body = if told.event.is_empty() { None } else { Body::decode(told.event).ok() };
        Ok(Self {
            seq: (told.seq > 0).then_some(Seq(counter(told.seq)?)),
            event,
            vm: told.vm_id.parse()?,
            generation: Generation(counter(told.generation)?),
            stage: printable(told.stage, 32),
            body: body.filter(|body| body.event().id == event),
            outcome: told.outcome.map(TryInto::try_into).transpose()?,
        })
    }
}
