//! `recycle`: what waits there before it goes for good, a copy of it with the event that builds its VM again, and the
//! end of it by hand. Reading and copying need no daemon; deleting goes through it, or holds the data folder instead.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::EventId;
use dewpoint_proto::status::from_status;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::local::PurgeRecycledRequest;
use serde_json::{Value, json};

use crate::config::Config;
use crate::journal::admission::Presence;
use crate::local::ask::{Answer, Assent};
use crate::local::cli::{PurgeArgs, RecycleCommand, RestoreArgs};
use crate::local::event_file::write;
use crate::local::print::{self, Form};
use crate::local::socket;
use crate::storage::{JobProgress, Recycled, Restored};

/// How long the daemon may take to delete: freeing the blocks of large files takes a while.
const PURGE: Duration = Duration::from_secs(120);

pub(super) async fn carry_out(config: &Config, command: RecycleCommand, form: Form) -> Result<(), Cause> {
    match command {
        RecycleCommand::Ls => list(&super::files(config)?.recycled_disks().await?, config, form),
        RecycleCommand::Show { disk } => show(&super::files(config)?.recycled_disk(disk).await?, form),
        RecycleCommand::Restore(args) => restore(config, &args, form).await,
        RecycleCommand::Purge(args) => purge(config, &args, form).await,
    }
}

fn list(disks: &[Recycled], config: &Config, form: Form) -> Result<(), Cause> {
    if form == Form::Json {
        return print::json(&disks.iter().map(as_json).collect::<Vec<_>>());
    }
    if !disks.is_empty() {
        print::out(table(disks));
    }
    print::out(print::wrapped("", &summary(disks, config)));
    Ok(())
}

/// How much is there, and how long it is kept.
fn summary(disks: &[Recycled], config: &Config) -> String {
    let bytes = disks.iter().map(|kept| kept.size_bytes).sum();
    let there = match disks.len() {
        0 => "nothing is in recycle".to_owned(),
        many => format!("{}, {}", print::count(many, "disk"), print::size(bytes)),
    };
    let storage = &config.storage;
    format!(
        "{there}; kept for {} within {}, the oldest first to go, or until a new disk needs the room",
        storage.recycle_time,
        print::size(storage.recycle_budget.0)
    )
}

fn table(disks: &[Recycled]) -> comfy_table::Table {
    let mut table = print::table(&["disk", "vm", "since", "until", "size"]);
    for kept in disks {
        // Without the year, so that a whole id fits into 80 columns beside the rest.
        let (since, until) = (print::when(kept.since), print::when(kept.until));
        let name: String = name_of(kept).chars().take(9).collect();
        let size = print::size(kept.size_bytes);
        let (since, until) = (since.get(5..16).unwrap_or("-"), until.get(5..10).unwrap_or("-"));
        table.add_row([&kept.disk.to_string(), &name, since, until, &size]);
    }
    table
}

fn show(kept: &Recycled, form: Form) -> Result<(), Cause> {
    if form == Form::Json {
        return print::json(&as_json(kept));
    }
    let by = kept.by.map_or_else(|| "no event that is noted".to_owned(), |by| by.to_string());
    let image = kept.image.map_or_else(|| "none: it stands alone".to_owned(), |image| image.to_string());
    print::out(format_args!("disk    {} (the event that made it)\nvm      {}", kept.disk, kept.vm));
    print::out(format_args!("name    {}\nby      {by} (the event that put it here)", name_of(kept)));
    print::out(format_args!("since   {}\nuntil   {}", print::when(kept.since), print::when(kept.until)));
    print::out(format_args!("size    {}\nimage   {image}", print::size(kept.size_bytes)));
    print::out(format_args!("path    {}", kept.path.display()));
    Ok(())
}

async fn restore(config: &Config, args: &RestoreArgs, form: Form) -> Result<(), Cause> {
    let to = std::path::absolute(&args.to).map_err(|error| {
        Cause::new(Reason::Invalid, format!("{}: {error}", args.to.display())).advise("name a path")
    })?;
    let event_file = with_suffix(&to, ".toml");
    if event_file.exists() {
        return Err(Cause::new(Reason::StorageError, format!("{} is there already", event_file.display()))
            .advise("name another path: the event that builds the VM again is written there"));
    }
    let files = super::files(config)?;
    let progress = JobProgress::default();
    let restored = tokio::select! {
        restored = files.restore_recycled(args.disk, &to, &progress) => restored?,
        never = print::progress("copying", &progress) => never,
    };
    let event = event(config, &restored)?;
    if let Some((_, text)) = &event {
        write_private(&event_file, text)?;
    }
    told(&restored, event.map(|(kind, _)| (kind, event_file)), form)
}

/// The event that makes use of the copy, with its kind; none: what the VM was made of is not known.
fn event(config: &Config, restored: &Restored) -> Result<Option<(&'static str, String)>, Cause> {
    let Restored { from, to } = restored;
    let row = super::reader(config)?.vm(from.vm).map_err(Cause::from)?;
    if row.is_some_and(|row| row.presence != Presence::Gone) {
        return Ok(Some(("restore", write::restore(from.vm, to)?)));
    }
    let create = |spec| write::create(from.vm, spec, to).map(|text| ("create", text));
    from.spec.as_ref().map(create).transpose()
}

fn told(restored: &Restored, event: Option<(&str, PathBuf)>, form: Form) -> Result<(), Cause> {
    let Restored { from, to } = restored;
    if form == Form::Json {
        return print::json(&json!({
            "from": as_json(from),
            "to": to,
            "event_kind": event.as_ref().map(|(kind, _)| kind),
            "event_file": event.as_ref().map(|(_, path)| path),
        }));
    }
    print::out(format_args!("copied to {}", to.display()));
    print::out(format_args!("the recycled disk stays until {}", print::when(from.until)));
    match event {
        Some((kind, path)) => print::out(format_args!(
            "next: look at {path}, then `dewpoint-agent submit {path}`:\n  {}",
            match kind {
                "create" => "it builds the VM again under its old id, from this disk",
                _ => "it gives the VM, which is still there, this disk; the present one is recycled",
            },
            path = path.display(),
        )),
        None => print::out(
            "next: what the VM was made of is not known; write a create event with this file as its image, and \
             `dewpoint-agent submit` it",
        ),
    }
    Ok(())
}

async fn purge(config: &Config, args: &PurgeArgs, form: Form) -> Result<(), Cause> {
    let all = super::files(config)?.recycled_disks().await?;
    let old = |kept: &Recycled| args.older_than.is_some_and(|span| Millis::now().since(kept.since) > span.0);
    if let Some(missing) = args.disks.iter().find(|disk| all.iter().all(|kept| kept.disk != **disk)) {
        return Err(Cause::new(Reason::ImageNotFound, format!("the recycle folder has no disk {missing}"))
            .advise("see `dewpoint-agent recycle ls`; nothing was deleted"));
    }
    let mut chosen: Vec<Recycled> = all;
    chosen.retain(|kept| args.disks.contains(&kept.disk) || old(kept));
    let bytes = chosen.iter().map(|kept| kept.size_bytes).sum();
    if chosen.is_empty() {
        return purged(&[], &chosen, form);
    }
    if form == Form::Text && !args.yes {
        // Also without a terminal to ask on: that is how it would be looked at beforehand.
        print::out(table(&chosen));
    }
    let question =
        format!("Delete {} ({}) for good?", print::count(chosen.len(), "disk"), print::size(bytes));
    if Assent::of(args.yes).to(&question)? == Answer::No {
        return purged(&[], &chosen, form);
    }
    let gone = delete(config, chosen.iter().map(|kept| kept.disk).collect()).await?;
    purged(&gone, &chosen, form)
}

/// By the daemon, or with its lock in hand.
async fn delete(config: &Config, disks: Vec<EventId>) -> Result<Vec<EventId>, Cause> {
    match socket::connect(&config.socket).await {
        Ok(mut client) => {
            let request = PurgeRecycledRequest { disks: disks.iter().map(ToString::to_string).collect() };
            let answer = tokio::time::timeout(PURGE, client.purge_recycled(request)).await;
            let answer =
                answer.map_err(|_| super::too_slow(PURGE))?.map_err(|status| from_status(&status))?;
            answer.into_inner().disks.iter().map(|disk| disk.parse()).collect()
        }
        Err(_) => {
            let _held = super::held(config)?;
            let purged = super::files(config)?.purge_recycled_disks(disks).await?;
            Ok(purged.into_iter().map(|kept| kept.disk).collect())
        }
    }
}

fn purged(gone: &[EventId], chosen: &[Recycled], form: Form) -> Result<(), Cause> {
    let of = |disk: &EventId| chosen.iter().find(|kept| kept.disk == *disk);
    if form == Form::Json {
        return print::json(
            &json!({ "purged": gone.iter().filter_map(of).map(as_json).collect::<Vec<_>>() }),
        );
    }
    match gone {
        [] => print::out("nothing was deleted"),
        gone => {
            for kept in gone.iter().filter_map(of) {
                print::out(format_args!("deleted {} of VM {}", kept.disk, kept.vm));
            }
            print::out("receipts are in recycle/receipts.log");
        }
    }
    Ok(())
}

fn name_of(kept: &Recycled) -> &str {
    kept.spec.as_ref().map_or("-", |spec| spec.name.as_str())
}

fn as_json(kept: &Recycled) -> Value {
    json!({
        "disk": kept.disk,
        "vm_id": kept.vm,
        "name": kept.spec.as_ref().map(|spec| &spec.name),
        "by": kept.by,
        "image": kept.image,
        "size_bytes": kept.size_bytes,
        "since_ms": kept.since,
        "until_ms": kept.until,
        "path": kept.path,
    })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// It may hold user-data.
fn write_private(path: &Path, text: &str) -> Result<(), Cause> {
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        Cause::new(Reason::StorageError, format!("{} cannot be written: {error}", path.display()))
            .advise("the copy is made; name another path to have the event as well")
    })
}
