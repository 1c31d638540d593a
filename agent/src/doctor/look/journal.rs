//! The journal, read from its database: the same whether the daemon is up or down.

use std::path::Path;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::VmId;

use crate::doctor::world::JournalSeen;
use crate::journal::{JournalError, Reader};

/// All of it, or what is of one VM.
pub(super) fn look(path: &Path, which: Option<VmId>) -> Result<JournalSeen, Cause> {
    let reader = Reader::open(path).map_err(Cause::from)?;
    seen(&reader, which).map_err(Cause::from)
}

fn seen(reader: &Reader, which: Option<VmId>) -> Result<JournalSeen, JournalError> {
    let is_it = |vm: &VmId| which.is_none_or(|which| which == *vm);
    let unfinished = reader.unfinished()?;
    let going = unfinished.events.iter().map(|event| (event.proof.vm(), event.proof.id()));
    let parked = unfinished.parked.iter().map(|event| (event.vm, event.event));
    Ok(JournalSeen {
        busy: going.chain(parked).filter(|(vm, _)| is_it(vm)).collect(),
        vms: reader.vms()?.into_iter().map(|row| (row.vm, row)).filter(|(vm, _)| is_it(vm)).collect(),
        gone: reader.gone()?.into_iter().filter(is_it).collect(),
        parked: unfinished.parked.into_iter().filter(|event| is_it(&event.vm)).collect(),
        tail: reader.tail()?,
        waits_since: reader.waits_since()?,
    })
}
