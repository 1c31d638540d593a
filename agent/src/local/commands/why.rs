//! `why`: reads journal, notes, libvirt and the daemon's socket, each of which may be away, and tells a VM's story.

use std::collections::HashMap;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::status::from_status;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::local::{DoingRequest, DoingResponse, StatusRequest};

use crate::agent;
use crate::config::Config;
use crate::hypervisor::{Control, Hypervisor, Seen};
use crate::journal::{EntryRow, EventFilter, EventRow, Page, Reader};
use crate::local::cli::WhyArgs;
use crate::local::print::{self, Form};
use crate::local::socket;
use crate::notes::{Lost, MOST, NotesReader};
use crate::why::{self, Daemon, Doing, Keeping, Kept, Noted, Now, Observed, Says, Story};

/// libvirt and the daemon are not waited for longer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Events that are told unless asked otherwise.
const NEWEST: usize = 5;
/// Events of one page of the journal, and the most that are told.
const PAGE: u32 = 1000;

pub(super) async fn tell(config: &Config, args: &WhyArgs, form: Form) -> Result<(), Cause> {
    let reader = super::reader(config)?;
    let vm = named(&reader, &args.vm)?;
    let (observed, daemon) = tokio::join!(observed(config, vm), daemon(config, vm));
    let story = story(config, &reader, vm, Asked { args, observed, daemon })?;
    if story.is_unheard() {
        return Err(Cause::new(Reason::VmNotFound, format!("nothing on this host tells of a VM {vm}"))
            .advise(format!(
                "`dewpoint vm show {vm}` says on which host it is; see `dewpoint-agent vms` for those here"
            )));
    }
    match form {
        Form::Json => print::json(&story),
        Form::Text => {
            print::out(story.text().trim_end());
            Ok(())
        }
    }
}

/// What was asked for, and what those who may be away have answered.
struct Asked<'a> {
    args: &'a WhyArgs,
    observed: Observed,
    daemon: Result<Told, Cause>,
}

/// What the daemon is at.
#[derive(Default)]
struct Told {
    doing: HashMap<EventId, Doing>,
    /// None: an older daemon does not tell.
    says: Option<Says>,
    /// None: it did not say.
    held: Option<bool>,
}

fn story(config: &Config, reader: &Reader, vm: VmId, asked: Asked<'_>) -> Result<Story, Cause> {
    let now = Millis::now();
    let (events, since, earlier_events) = events(reader, vm, asked.args, now)?;
    let noted = noted(config, vm, since);
    let (daemon_down, mut told) = match asked.daemon {
        Ok(told) => (None, told),
        Err(cause) => (Some(cause), Told::default()),
    };
    let daemon = if daemon_down.is_some() { Daemon::Down } else { Daemon::Up };
    let unfinished = why::unfinished(&events, daemon, |event| told.doing.get(&event).cloned());
    let row = reader.vm(vm).map_err(Cause::from)?;
    let keeping =
        row.as_ref().and_then(|row| Keeping::of(row, &agent::keep_bounds(config), told.says.take()));
    let (noted, lost, without_notes) = match noted {
        Ok((noted, lost)) => (noted, lost, None),
        Err(cause) => (Noted::default(), None, Some(cause)),
    };
    Ok(Story {
        vm_id: vm,
        vm: row.as_ref().map(Kept::of),
        earlier_events,
        is_cut: is_cut(&noted) || earlier_events + events.len() >= PAGE as usize,
        items: why::items(&events, noted),
        without_notes,
        lost,
        now: Now { at_ms: now, observed: asked.observed, daemon_down, held: told.held, keeping, unfinished },
    })
}

/// Whether the notes have more of that time than they gave.
fn is_cut(noted: &Noted) -> bool {
    noted.calls.len().max(noted.states.len()) >= MOST as usize
}

/// The VM of that id or name.
fn named(reader: &Reader, text: &str) -> Result<VmId, Cause> {
    if let Ok(vm) = text.parse() {
        return Ok(vm);
    }
    let found = reader.vms_named(text).map_err(Cause::from)?;
    let there = found.iter().filter(|row| row.spec.is_some()).count();
    match found.as_slice() {
        [] => Err(Cause::new(
            Reason::VmNotFound,
            format!("this host has no VM {}", dewpoint_proto::cause::shortened(text)),
        )
        .advise("see `dewpoint-agent vms`, or give the VM's id")),
        // One that is there goes before those that are gone.
        [row, ..] if there == 1 || found.len() == 1 => Ok(row.vm),
        several => {
            let ids: Vec<_> = several.iter().map(|row| row.vm.to_string()).collect();
            Err(Cause::new(Reason::NameAmbiguous, format!("several VMs have or had the name {text}"))
                .advise(format!("give the id of one: {}", ids.join(", "))))
        }
    }
}

type Events = Vec<(EventRow, Vec<EntryRow>)>;

/// The events to tell, the oldest first, from when on, and how many there are before them. What is unfinished is told
/// however old it is.
fn events(reader: &Reader, vm: VmId, args: &WhyArgs, now: Millis) -> Result<(Events, Millis, usize), Cause> {
    let filter = EventFilter { vm: Some(vm), unfinished: false };
    let rows = reader.events(&filter, Page { before: None, limit: PAGE }).map_err(Cause::from)?;
    let since = match (args.all, args.since) {
        (true, _) => Millis(0),
        (false, Some(span)) => {
            Millis(now.0.saturating_sub(i64::try_from(span.0.as_millis()).unwrap_or(now.0)))
        }
        (false, None) if rows.len() <= NEWEST => Millis(0),
        (false, None) => rows[NEWEST - 1].accepted_at,
    };
    let all = rows.len();
    let told = rows
        .into_iter()
        .filter(|row| row.finished_at.is_none_or(|at| at >= since) || row.accepted_at >= since);
    let mut events = Vec::new();
    for row in told {
        let entries = reader.event(row.id).map_err(Cause::from)?.map(|(_, entries)| entries);
        events.push((row, entries.unwrap_or_default()));
    }
    events.reverse();
    let earlier = all - events.len();
    Ok((events, since, earlier))
}

fn noted(config: &Config, vm: VmId, since: Millis) -> Result<(Noted, Option<Lost>), Cause> {
    let notes = NotesReader::open(&config.data_dir.join("notes.db"))?;
    let noted = Noted {
        calls: notes.calls(vm, since)?,
        states: notes.states(vm, since)?,
        starts: notes.starts(since)?,
    };
    Ok((noted, notes.lost()?))
}

async fn observed(config: &Config, vm: VmId) -> Observed {
    let libvirt = match agent::libvirt(config) {
        Ok(libvirt) => libvirt,
        Err(cause) => return Observed::Unknown { why: cause.text },
    };
    match tokio::time::timeout(PATIENCE, libvirt.observe(vm)).await {
        Err(_) => {
            Observed::Unknown { why: format!("libvirt did not answer within {} s", PATIENCE.as_secs()) }
        }
        Ok(Seen::Unknown(why)) => Observed::Unknown { why },
        Ok(Seen::Absent) => Observed::Absent,
        Ok(Seen::There(domain)) if domain.mark == Seen::Absent && domain.live.there().is_none() => {
            Observed::Foreign { name: domain.name }
        }
        Ok(Seen::There(domain)) => Observed::There {
            power: domain.power.as_str().to_owned(),
            detail: domain.detail,
            busy: match domain.control {
                Control::Idle => None,
                Control::Busy(why) => Some(why),
            },
        },
    }
}

/// What the daemon is at; the error says why it does not tell.
async fn daemon(config: &Config, vm: VmId) -> Result<Told, Cause> {
    let mut client = socket::connect(&config.socket).await?;
    let answer = match tokio::time::timeout(PATIENCE, client.doing(DoingRequest {})).await {
        Ok(Ok(answer)) => answer.into_inner(),
        // An older daemon: it is up, and does not know the question.
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => return Ok(Told::default()),
        Ok(Err(status)) => return Err(from_status(&status)),
        Err(_) => {
            return Err(Cause::new(Reason::Unreachable, "the daemon does not answer")
                .advise("see its log: `journalctl -u dewpoint-agent`"));
        }
    };
    let status = tokio::time::timeout(PATIENCE, client.status(StatusRequest {})).await;
    let held = status.ok().and_then(Result::ok).map(|status| status.into_inner().hold);
    Ok(Told { held, ..told(answer, vm) })
}

fn told(answer: DoingResponse, vm: VmId) -> Told {
    let each = answer.doing.into_iter().filter_map(|doing| {
        let progress = doing.progress?;
        let told = Doing {
            waiting_for: progress.waiting_for,
            until: Millis::from_wire(doing.until_ms),
            bytes: (progress.done_bytes, progress.total_bytes),
        };
        Some((progress.event_id.parse().ok()?, told))
    });
    let doing = each.collect();
    let of_it = answer.keeping.into_iter().find(|keeping| keeping.vm_id == vm.to_string());
    let said = of_it.map(|keeping| Says {
        standing: keeping.standing,
        restart_at: Millis::from_wire(keeping.restart_at_ms),
    });
    Told { doing, says: said.or_else(|| answer.tells_keeping.then(Says::default)), held: None }
}
