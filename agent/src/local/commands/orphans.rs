//! `orphans`: what bears our mark and the journal does not explain. Listing needs no daemon; adopting and removing go
//! through it, or hold the data folder instead.

use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::VmId;
use dewpoint_proto::status::from_status;
use dewpoint_proto::wire::local::{AdoptOrphanRequest, RemoveOrphanRequest};
use serde_json::{Value, json};

use super::doctor::senses;
use crate::agent;
use crate::config::Config;
use crate::doctor::orphans::{Orphan, Orphaned, adopt, orphans, remove_named};
use crate::doctor::world::Scope;
use crate::local::ask::{Answer, Assent};
use crate::local::cli::OrphansCommand;
use crate::local::print::{self, Form};
use crate::local::socket;
use crate::storage::Quarantined;

/// How long the daemon may take: powering off and moving disks.
const PATIENCE: Duration = Duration::from_secs(180);

pub(super) async fn carry_out(config: &Config, command: OrphansCommand, form: Form) -> Result<(), Cause> {
    match command {
        OrphansCommand::Ls => list(config, form).await,
        OrphansCommand::Adopt { vm } => told(&adopted(config, vm).await?, form),
        OrphansCommand::Remove { what, yes } => {
            let question = match Orphaned::of(&what) {
                Orphaned::Vm(vm) => format!("Power off and remove the VM {vm}, its disks going to recycle?"),
                Orphaned::Quarantined(name) => format!("Move the disks of quarantine/{name} to recycle?"),
            };
            if Assent::of(yes).to(&question)? == Answer::No {
                return told("nothing was done", form);
            }
            told(&removed(config, &what).await?, form)
        }
    }
}

async fn list(config: &Config, form: Form) -> Result<(), Cause> {
    let (eyes, hands) = senses(config, None).await?;
    let world = eyes.look(Scope::Host).await;
    // Without either nothing is known to be an orphan.
    let _ = world.journal.as_ref().map_err(Clone::clone)?;
    let _ = world.libvirt.as_ref().map_err(Clone::clone)?;
    let found = orphans(&world);
    let kept = hands.files.quarantined().await?;
    if form == Form::Json {
        return print::json(&json!({
            "orphans": found.iter().map(orphan_json).collect::<Vec<_>>(),
            "quarantine": kept.iter().map(kept_json).collect::<Vec<_>>(),
        }));
    }
    if found.is_empty() && kept.is_empty() {
        print::out("no orphans, and nothing in the quarantine");
    }
    for orphan in &found {
        let power = orphan.domain.as_ref().map_or("no domain", |_| orphan.power.as_str());
        print::out(format_args!("vm          {}\n  state     {power}, {} disks", orphan.vm, orphan.disks));
        if let Some(name) = &orphan.domain {
            print::out(format_args!("  domain    {name}"));
        }
        let next = match &orphan.hindrance {
            None => format!("`dewpoint-agent orphans adopt {0}`, or `orphans remove {0}`", orphan.vm),
            Some(why) => format!("cannot be adopted: {why}; `dewpoint-agent orphans remove {}`", orphan.vm),
        };
        print::out(print::wrapped("  next      ", &next));
    }
    for kept in &kept {
        print::out(format_args!("quarantine  {}", kept.name));
        let since = kept.since.map_or_else(|| "-".to_owned(), print::when);
        print::out(format_args!(
            "  since     {since}, {} files, {}",
            kept.files.len(),
            print::size(kept.size_bytes)
        ));
        if !kept.why.is_empty() {
            print::out(print::wrapped("  why       ", &kept.why));
        }
        print::out(print::wrapped("  path      ", &kept.path.display().to_string()));
    }
    Ok(())
}

async fn adopted(config: &Config, vm: VmId) -> Result<String, Cause> {
    if let Ok(mut client) = socket::connect(&config.socket).await {
        let request = AdoptOrphanRequest { vm_id: vm.to_string() };
        let answer = tokio::time::timeout(PATIENCE, client.adopt_orphan(request)).await;
        let answer = answer.map_err(|_| super::too_slow(PATIENCE))?.map_err(|status| from_status(&status))?;
        return Ok(answer.into_inner().done);
    }
    let _held = super::held(config)?;
    let (eyes, hands) = senses(config, None).await?;
    let journal = agent::open_journal(config)?;
    Ok(adopt(vm, &eyes, &hands, &journal).await?.done)
}

async fn removed(config: &Config, what: &str) -> Result<String, Cause> {
    if let Ok(mut client) = socket::connect(&config.socket).await {
        let request = RemoveOrphanRequest { what: what.to_owned() };
        let answer = tokio::time::timeout(PATIENCE, client.remove_orphan(request)).await;
        let answer = answer.map_err(|_| super::too_slow(PATIENCE))?.map_err(|status| from_status(&status))?;
        return Ok(answer.into_inner().done);
    }
    let _held = super::held(config)?;
    let (eyes, hands) = senses(config, None).await?;
    remove_named(&Orphaned::of(what), &eyes, &hands).await
}

fn told(done: &str, form: Form) -> Result<(), Cause> {
    match form {
        Form::Json => print::json(&json!({ "done": done })),
        Form::Text => {
            print::out(done);
            Ok(())
        }
    }
}

fn orphan_json(orphan: &Orphan) -> Value {
    json!({
        "vm_id": orphan.vm,
        "domain": orphan.domain,
        "power_detail": orphan.power,
        "mark": orphan.mark,
        "disks": orphan.disks,
        "cannot_be_adopted": orphan.hindrance,
    })
}

fn kept_json(kept: &Quarantined) -> Value {
    json!({
        "name": kept.name,
        "vm_id": kept.vm,
        "since_ms": kept.since,
        "why": kept.why,
        "size_bytes": kept.size_bytes,
        "files": kept.files,
        "path": kept.path,
    })
}
