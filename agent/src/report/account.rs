//! What the host has, as it travels to a coordinator whose log does not match: in chunks under
//! [`limits::INVENTORY_CHUNK_BYTES`], the last of which says complete.

use dewpoint_proto::limits;
use dewpoint_proto::wire::agent as wire;
use prost::Message;

use super::{Holding, state_to_wire};
use crate::journal::{EventRow, Origin};

/// With room for the chunk's other fields.
const CHUNK_BYTES: usize = limits::INVENTORY_CHUNK_BYTES - 64;

/// Whether the queue was told to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// It was.
    Whole,
    /// There is more of it.
    Cut,
}

/// An account, chunk by chunk. Always at least one.
#[must_use]
pub fn chunks(
    vms: Vec<Holding>,
    entries: Vec<EventRow>,
    start_count: u64,
    extent: Extent,
) -> Vec<wire::AccountChunk> {
    let mut chunks = Chunks { start_count, all: Vec::new(), chunk: empty(start_count), bytes: 0 };
    for vm in vms {
        let vm = holding(vm);
        chunks.room_for(vm.encoded_len());
        chunks.chunk.vms.push(vm);
    }
    for row in entries {
        let entry = entry(row);
        chunks.room_for(entry.encoded_len());
        chunks.chunk.entries.push(entry);
    }
    chunks.chunk.complete = true;
    chunks.chunk.truncated = extent == Extent::Cut;
    chunks.all.push(chunks.chunk);
    chunks.all
}

struct Chunks {
    start_count: u64,
    all: Vec<wire::AccountChunk>,
    chunk: wire::AccountChunk,
    bytes: usize,
}

impl Chunks {
    fn room_for(&mut self, bytes: usize) {
        // Its own length, its tag and its length's length.
        let more = bytes + 8;
        if self.bytes + more > CHUNK_BYTES && self.bytes > 0 {
            self.all.push(std::mem::replace(&mut self.chunk, empty(self.start_count)));
            self.bytes = 0;
        }
        self.bytes += more;
    }
}

fn empty(start_count: u64) -> wire::AccountChunk {
    wire::AccountChunk { start_count, ..wire::AccountChunk::default() }
}

fn holding(vm: Holding) -> wire::Holding {
    wire::Holding {
        spec: vm.spec.map(Into::into),
        in_journal: vm.in_journal,
        in_libvirt: vm.mark.is_some(),
        on_disk: vm.on_disk,
        unseen: vm.unseen,
        image_digest: vm.image.map_or_else(String::new, |image| image.to_string()),
        state: Some(state_to_wire(vm.state)),
    }
}

fn entry(row: EventRow) -> wire::Entry {
    let seq = match row.origin {
        Origin::Delivered { seq, .. } => seq.0,
        Origin::Local => 0,
    };
    wire::Entry {
        seq,
        event_id: row.id.to_string(),
        vm_id: row.vm.to_string(),
        generation: row.generation.0,
        kind: row.kind,
        stage: row.stage,
        event: row.body.unwrap_or_default(),
        outcome: row.outcome.map(Into::into),
    }
}
