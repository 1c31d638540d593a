//! What a VM is made of, in the mark on its folder: for a host whose journal is lost.
//!
//! It goes into `vm.json` with the mark, so it is on disk before anything else is in the folder, costs no sync of its own,
//! is never changed after, and goes where the folder goes. User-data and keys are not in it: they are in the seed, which
//! is read beside it.
//!
//! Anyone may have written it. It is read within a bound, parsed as every spec is, and believed only when it is of the
//! event that made the VM's seed and agrees with that seed; else seed and disk tell what they can.

use std::path::Path;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::spec::{DiskMode, MacAddr, Nic, VmSpec};
use serde::{Deserialize, Serialize};

use super::failure::{OrFailed, not_ours};
use super::files::{Files, Inner};
use super::folder::{MOST_MARK, read_small};
use super::layout::{MARK, Made};
use super::seed::{self, SeedContent};

/// The version of what this agent writes.
const VERSION: u32 = 1;

/// What a VM was built as, and by which event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MadeOf {
    version: u32,
    by: EventId,
    spec: VmSpec,
}

/// What a folder tells of what its VM is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// The spec.
    pub spec: VmSpec,
    /// How much of it is known.
    pub told: Told,
}

/// How much of a spec a folder tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// All of it, as the event said that made the VM.
    Whole,
    /// What a seed and a disk tell. Sizes, bridges, labels, placement and restart policy are not in them.
    InPart,
}

impl MadeOf {
    pub(super) fn of(event: EventId, spec: &VmSpec) -> Self {
        let spec = VmSpec { ssh_keys: Vec::new(), user_data: Vec::new(), ..spec.clone() };
        Self { version: VERSION, by: event, spec }
    }

    /// The whole spec, when the seed is of the same making.
    fn with(self, seed: EventId, content: &SeedContent) -> Option<VmSpec> {
        let macs = |nics: &[Nic]| nics.iter().map(|nic| nic.mac).collect::<Vec<MacAddr>>();
        let agrees = self.version == VERSION
            && self.by == seed
            && self.spec.name == content.name
            && macs(&self.spec.nics) == macs(&content.nics);
        let (ssh_keys, user_data) = (content.ssh_keys.clone(), content.user_data.clone());
        agrees.then(|| VmSpec { ssh_keys, user_data, ..self.spec }.checked().ok()).flatten()
    }
}

/// As much of `vm.json` as is looked for here.
#[derive(Deserialize)]
struct Found {
    vm: VmId,
    made_of: Option<MadeOf>,
}

impl Files {
    pub(super) async fn described_of(
        &self,
        vm: VmId,
        disk: EventId,
        seed: EventId,
    ) -> Result<Described, Cause> {
        self.short(move |inner| {
            inner.must_be_ours(vm)?;
            inner.described(&inner.layout.folder(vm), vm, (disk, seed))
        })
        .await
    }
}

impl Inner {
    /// From a VM's folder, or from where that was moved to.
    pub(super) fn described(
        &self,
        folder: &Path,
        vm: VmId,
        (disk, seed): (EventId, EventId),
    ) -> Result<Described, Cause> {
        let path = folder.join(Made::Seed.file_name(seed));
        let content = seed::read_from(&path)?;
        if content.instance_id != vm.to_string() {
            return Err(not_ours(&path, "is the seed of another VM"));
        }
        if let Some(spec) = self.made_of(folder, vm).and_then(|made| made.with(seed, &content)) {
            return Ok(Described { spec, told: Told::Whole });
        }
        let disk = folder.join(Made::Disk.file_name(disk));
        let mode = if self.backing(&disk)?.is_some() { DiskMode::Overlay } else { DiskMode::FullCopy };
        let spec = VmSpec { disk_mode: mode, ..content.spec(self.virtual_size(&disk)?) };
        Ok(Described { spec: spec.checked()?, told: Told::InPart })
    }

    /// None: it is not there, of a newer version, or not as we write it.
    fn made_of(&self, folder: &Path, vm: VmId) -> Option<MadeOf> {
        let path = folder.join(MARK);
        let bytes = read_small(&path).or_failed("read the folder's mark", &path).ok()?;
        match serde_json::from_slice::<Found>(&bytes) {
            Ok(found) if found.vm == vm => found.made_of,
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(vm_id = %vm, %error, "what the VM's mark says of its spec is not as we write it");
                None
            }
        }
    }
}

/// The bytes of `vm.json`. What is too much for it is left out, and the mark stands alone.
pub(super) fn mark_bytes(mark: &impl Serialize, made_of: Option<&MadeOf>) -> serde_json::Result<Vec<u8>> {
    #[derive(Serialize)]
    struct Whole<'a, M> {
        #[serde(flatten)]
        mark: &'a M,
        #[serde(skip_serializing_if = "Option::is_none")]
        made_of: Option<&'a MadeOf>,
    }
    let whole = serde_json::to_vec(&Whole { mark, made_of })?;
    if whole.len() <= MOST_MARK { Ok(whole) } else { serde_json::to_vec(mark) }
}
