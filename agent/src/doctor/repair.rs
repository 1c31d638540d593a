//! Repairs: one match from a repair to its effect. Each looks again first, destroys nothing, and leaves a receipt.
//!
//! Whoever calls this holds the data folder, and lets no lane work on the VM meanwhile.

mod command;

use std::path::PathBuf;
use std::sync::Arc;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;
use dewpoint_proto::spec::VmSpec;
use dewpoint_proto::time::Millis;
use serde::Serialize;

use super::look::Eyes;
use super::world::{Scope, World};
use super::{Finding, Repair, compare};
use crate::execute::apply::domain_of;
use crate::hypervisor::{Call, Hypervisor, Mark};
use crate::network::{Shield, rules_of};
use crate::storage::{Files, Storage};

/// What is looked for again among all domains, whichever VM it is about: others may use the same files or taps.
const OF_ALL: [&str; 5] =
    ["disk-unused", "domain-missing", "folder-orphan", "leftover-files", "shield-stale"];

/// What repairs are made with.
#[derive(Clone)]
pub struct Hands {
    /// The domains.
    pub hypervisor: Arc<dyn Hypervisor>,
    /// The data folder.
    pub files: Files,
    /// Our nftables table.
    pub shield: Arc<dyn Shield>,
    /// Where the kernel lists interfaces.
    pub links: PathBuf,
}

/// Which disagreement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    /// The rule.
    pub code: String,
    /// The VM; none: the host.
    pub vm: Option<VmId>,
    /// What else it is about.
    pub subject: String,
}

/// That something was repaired. A line of `mended.log`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// When.
    pub at: Millis,
    /// The rule.
    pub code: String,
    /// The VM; none: the host.
    pub vm: Option<VmId>,
    /// What was found.
    pub found: String,
    /// What was done.
    pub done: String,
}

impl Key {
    /// Of a finding.
    #[must_use]
    pub fn of(finding: &Finding) -> Self {
        Self { code: finding.rule.code.to_owned(), vm: finding.vm, subject: finding.subject.clone() }
    }

    fn scope(&self) -> Scope {
        match self.vm {
            Some(vm) if !OF_ALL.contains(&self.code.as_str()) => Scope::Vm(vm),
            _ => Scope::Host,
        }
    }
}

/// Looks again, and repairs what is still found. None: it is no longer there, or there is nothing to repair about it.
///
/// # Errors
/// What the repair said; it may have been made in part: look again.
pub async fn mend(key: &Key, eyes: &Eyes, hands: &Hands) -> Result<Option<Receipt>, Cause> {
    let world = eyes.look(key.scope()).await;
    let found = compare(&world).into_iter().find(|found| found.is_same(&key.code, key.vm, &key.subject));
    let Some((finding, repair)) = found.as_ref().and_then(|found| Some((found, found.repair.as_ref()?)))
    else {
        return Ok(None);
    };
    tracing::warn!(code = key.code, vm_id = ?key.vm, "repairing: {}; {repair}", finding.text);
    let done = apply(repair, finding, &world, hands).await?;
    let receipt =
        Receipt { at: Millis::now(), code: key.code.clone(), vm: key.vm, found: finding.text.clone(), done };
    hands.files.note_receipt(&receipt).await?;
    Ok(Some(receipt))
}

async fn apply(repair: &Repair, finding: &Finding, world: &World, hands: &Hands) -> Result<String, Cause> {
    let Hands { hypervisor, files, shield, links } = hands;
    match repair {
        Repair::Define(vm) => {
            let domain =
                domain_of(files, spec(world, *vm)?, mark(world, *vm)?, &world.configured.bridge).await?;
            hypervisor.apply(Call::Define(Box::new(domain))).await?;
        }
        Repair::MarkWanted(vm) => {
            hypervisor.apply(Call::Mark(wanted_mark(world, *vm)?)).await?;
        }
        Repair::AutostartOff(vm) => {
            hypervisor.apply(Call::AutostartOff(*vm)).await?;
        }
        Repair::LinkBase(vm, image) => files.link_base_again(*vm, *image).await?,
        Repair::MakeSeed(vm, event) => files.make_seed(*vm, *event, spec(world, *vm)?).await?,
        Repair::Access(vm) => files.mend_access(*vm).await?,
        Repair::QuarantineFiles(vm, names) => {
            let to = files.quarantine_files(*vm, names, &finding.text).await?;
            return Ok(format!("moved {} to {}", names.join(", "), to.display()));
        }
        Repair::QuarantineFolder(vm) => {
            let to = files.quarantine_folder(*vm, &finding.text).await?;
            return Ok(format!("moved the folder to {}", to.display()));
        }
        Repair::SetShield(vm) => shield.set(*vm, &rules_of(*vm, spec(world, *vm)?)).await?,
        Repair::ClearTaps(taps) => shield.clear_taps(taps).await?,
        Repair::BridgeTap(_, tap, bridge) => command::into_bridge(tap, bridge).await?,
        Repair::RemoveTap(tap) => command::remove_tap(links, tap).await?,
    }
    Ok(repair.to_string())
}

/// What a domain bears that is defined again. Which event touched it last is lost with it: the one that made its disk has
/// ended, as every event of a VM that is mended has.
fn mark(world: &World, vm: VmId) -> Result<Mark, Cause> {
    let row = world.row(vm).ok_or_else(|| bug("the journal does not have the VM"))?;
    let (disk, seed) = row.disk.zip(row.seed).ok_or_else(|| bug("the VM's disk or seed is not known"))?;
    let (generation, run, wanted) = (row.generation, row.run, row.wanted);
    Ok(Mark { vm, generation, event: disk, run, wanted, disk, seed })
}

fn wanted_mark(world: &World, vm: VmId) -> Result<Mark, Cause> {
    let domains = world.libvirt.as_ref().map_err(Clone::clone)?;
    let mark = domains.get(&vm).and_then(|seen| seen.domain.mark.there());
    let (mark, row) = mark.zip(world.row(vm)).ok_or_else(|| bug("there is no mark to write"))?;
    Ok(Mark { wanted: row.wanted, ..mark.clone() })
}

fn spec(world: &World, vm: VmId) -> Result<&VmSpec, Cause> {
    world.row(vm).and_then(|row| row.spec.as_ref()).ok_or_else(|| bug("the VM's spec is not known"))
}

fn bug(text: &str) -> Cause {
    Cause::new(Reason::Internal, format!("a repair was offered that cannot be made: {text}"))
        .advise("this is a bug: report it with the output of `dewpoint-agent doctor --json`")
}
