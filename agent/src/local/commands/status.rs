//! `status`: how this host is, in one screen; what cannot be told is said, and why.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::ReportSeq;
use dewpoint_proto::wire::local::{StatusRequest, StatusResponse};
use serde_json::json;

use crate::config::Config;
use crate::identity;
use crate::journal::{EventFilter, Page, Reader, Tail};
use crate::local::print::{self, Form};
use crate::local::socket;

/// More unfinished events than a host has VMs are not listed.
const MOST: u32 = 200;

pub(super) async fn show(config: &Config, form: Form) -> Result<(), Cause> {
    let host_id = identity::read(&config.data_dir)?.map(|identity| identity.host_id.to_string());
    let reader = super::reader(config)?;
    let tail = reader.tail().map_err(Cause::from)?;
    let live = live(config).await;
    let (vms, unfinished) = counts(&reader)?;
    if form == Form::Json {
        return print::json(&json!({
            "host_id": host_id,
            "daemon": live.as_ref().map_or("down", |_| "up"),
            "coordinator": config.coordinator,
            "observe_only": config.observe_only,
            "connected": live.as_ref().is_ok_and(|live| live.connected),
            "session": live.as_ref().map(|live| live.session_detail.clone()).unwrap_or_default(),
            "libvirt_connected": live.as_ref().is_ok_and(|live| live.libvirt_connected),
            "hold": tail.session.hold,
            "notes": live.as_ref().map(notes).unwrap_or_default(),
            "degraded": live.as_ref().map(causes).unwrap_or_default(),
            "journal_id": tail.epoch.journal,
            "start_count": tail.epoch.start_count,
            "last_seq": tail.last.map(|(seq, _)| seq),
            "last_report": tail.last_report,
            "reports_waiting": tail.last_report.0.saturating_sub(tail.acknowledged.0),
            "vms": vms,
            "unfinished_events": unfinished,
        }));
    }
    print::out(format_args!(
        "host         {}",
        host_id.as_deref().unwrap_or("none yet: the agent has never started")
    ));
    if config.observe_only {
        print::out("mode         observe-only: every event is refused, nothing is touched");
    }
    match &live {
        Ok(live) => text_live(live, config),
        Err(cause) => print::out(format_args!("daemon       down ({})", cause.text)),
    }
    text_journal(&tail);
    print::out(format_args!("VMs          {vms}\nunfinished   {}", print::count(unfinished, "event")));
    Ok(())
}

fn text_live(live: &StatusResponse, config: &Config) {
    let coordinator = match (&config.coordinator, live.connected) {
        (None, _) => "none configured: the host works alone".to_owned(),
        (Some(url), true) => format!("{url}, term {}", live.term),
        (Some(url), false) => format!("{url}, not connected: {}", live.session_detail),
    };
    print::out(format_args!(
        "daemon       up since {}",
        print::when(dewpoint_proto::time::Millis(live.started_at_ms))
    ));
    print::out(format_args!("coordinator  {coordinator}"));
    let libvirt = if live.libvirt_connected { "connected" } else { "not connected" };
    print::out(format_args!("libvirt      {libvirt}"));
    if live.hold {
        print::out("held         yes: no new steps until an operator releases the host");
    }
    for cause in notes(live) {
        print::out(format_args!("note         {}: {}", cause.text, cause.advice));
    }
    for cause in causes(live) {
        print::out(format_args!("degraded     {} ({}): {}", cause.text, cause.reason, cause.advice));
    }
}

fn text_journal(tail: &Tail) {
    let waiting = tail.last_report.0.saturating_sub(tail.acknowledged.0);
    let last = tail.last.map_or_else(|| "none".to_owned(), |(seq, _)| seq.to_string());
    print::out(format_args!("journal      {}, start {}", tail.epoch.journal, tail.epoch.start_count));
    print::out(format_args!("last seq     {last}"));
    if tail.last_report > ReportSeq(0) {
        print::out(format_args!("reports      {} written, {waiting} not acknowledged", tail.last_report));
    }
}

fn causes(live: &StatusResponse) -> Vec<Cause> {
    live.degraded.iter().cloned().map(Cause::from).collect()
}

fn notes(live: &StatusResponse) -> Vec<Cause> {
    live.notes.iter().cloned().map(Cause::from).collect()
}

fn counts(reader: &Reader) -> Result<(usize, usize), Cause> {
    let vms = reader.vms().map_err(Cause::from)?.len();
    let filter = EventFilter { vm: None, unfinished: true };
    let events = reader.events(&filter, Page { before: None, limit: MOST }).map_err(Cause::from)?.len();
    Ok((vms, events))
}

async fn live(config: &Config) -> Result<StatusResponse, Cause> {
    let mut client = socket::connect(&config.socket).await?;
    let answer =
        tokio::time::timeout(std::time::Duration::from_secs(5), client.status(StatusRequest {})).await;
    match answer {
        Ok(Ok(status)) => Ok(status.into_inner()),
        Ok(Err(status)) => Err(dewpoint_proto::status::from_status(&status)),
        Err(_) => Err(Cause::new(dewpoint_proto::cause::Reason::Unreachable, "the daemon does not answer")
            .advise("see its log: `journalctl -u dewpoint-agent`")),
    }
}
