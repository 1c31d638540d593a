//! What a person does on the host, beside the coordinator: submits events to the agent, and edits domains.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::Reason;
use dewpoint_proto::ids::EventId;
use serde_json::Value;
use tokio::process::Command;
use tokio::time::{Instant, sleep_until, timeout};

use super::callers::Shared;
use super::history::{Answer, What};
use super::plan::{Asks, CALLERS, Timed};
use crate::host::{Libvirt, Place};
use crate::process::binary;

/// What `submit` may take before it is given up: longer than it waits for its daemon.
const SUBMIT: Duration = Duration::from_secs(40);
/// The coordinator may be away.
const LOOK: Duration = Duration::from_secs(2);
/// The persistent configuration, whatever runs.
const INACTIVE: u32 = 2;
/// What an edited domain bears.
pub const TITLE: &str = "edited by hand";

/// Where the agent is.
#[derive(Clone, Debug)]
pub struct Local {
    /// Its configuration.
    pub config: PathBuf,
    /// Where event files go.
    pub dir: PathBuf,
}

/// Submits everything in its turn, once each: another try would be another event.
pub async fn submit(asks: Vec<Timed<Asks>>, local: Local, shared: Arc<Shared>, begin: Instant) {
    for (nth, Timed { at, what }) in asks.into_iter().enumerate() {
        sleep_until(begin + at).await;
        let Some((slot, kind, keys)) = words(what) else { continue };
        let (vm, event) = (shared.slots.vm(slot), EventId::fresh().to_string());
        let file = local.dir.join(format!("local-{nth}.toml"));
        let text = format!("kind = \"{kind}\"\nvm = \"{vm}\"\nevent_id = \"{event}\"\n{keys}");
        std::fs::write(&file, text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let (kind, detail) = (format!("local {kind}"), format!("slot {slot}: {keys}"));
        shared.history.add(What::Asked { caller: CALLERS, event: event.clone(), vm, kind, detail });
        shared.slots.asked(slot, &event);
        let answer = submitted(&local.config, &file).await;
        shared.history.add(What::Answered { event, answer });
    }
}

/// What is asked for, as `submit` reads it.
fn words(what: Asks) -> Option<(u8, &'static str, String)> {
    Some(match what {
        Asks::Start { slot } => (slot, "start", String::new()),
        Asks::Stop { slot, force, timeout_seconds } => {
            (slot, "stop", format!("force = {force}\ntimeout = \"{timeout_seconds}s\"\n"))
        }
        Asks::Reboot { slot, hard, timeout_seconds } => {
            (slot, "reboot", format!("hard = {hard}\ntimeout = \"{timeout_seconds}s\"\n"))
        }
        Asks::Destroy { slot, now } => (slot, "destroy", format!("now = {now}\n")),
        _ => return None,
    })
}

async fn submitted(config: &Path, file: &Path) -> Answer {
    let mut submit = Command::new(binary("dewpoint-agent"));
    submit.args(["submit", "--no-wait", "--json"]).arg(file).arg("--config").arg(config);
    submit.stdin(Stdio::null()).kill_on_drop(true);
    match timeout(SUBMIT, submit.output()).await {
        Ok(Ok(done)) => answer(&done),
        Ok(Err(error)) => Answer::Silence { text: error.to_string() },
        Err(late) => Answer::Silence { text: late.to_string() },
    }
}

fn answer(done: &Output) -> Answer {
    if done.status.success() {
        return Answer::Taken { stage: "accepted".to_owned() };
    }
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    let error = serde_json::from_str::<Value>(&said).unwrap_or_default()["error"].clone();
    match error["reason"].as_str() {
        // It may have been journaled all the same.
        None => Answer::Silence { text: said },
        Some(reason) if reason == Reason::Unreachable.to_string() => Answer::Silence { text: said },
        Some(reason) => Answer::Refused { reason: reason.to_owned(), text: said },
    }
}

/// Gives a domain a title, as `virsh edit` would, while no event is at work on it: what an edit overwrites that somebody else
/// wrote meanwhile is the editor's doing.
pub async fn edit(place: Place, vm: String, shared: Arc<Shared>) {
    let found = timeout(LOOK, shared.caller.vm(&vm)).await;
    if !found.is_ok_and(|found| found.is_ok_and(|found| found.unfinished_event_id.is_empty())) {
        return;
    }
    let named = vm.clone();
    let edited = tokio::task::spawn_blocking(move || retitled(&place, &named)).await;
    if matches!(edited, Ok(Some(()))) {
        shared.history.add(What::Edited { vm });
    }
}

/// None: libvirt is not there, or there is no configuration to edit.
fn retitled(place: &Place, vm: &str) -> Option<()> {
    let libvirt = Libvirt::try_connect(place).ok()?;
    let domain = libvirt.connection().lookup_domain_by_uuid_string(vm).ok()?;
    if !domain.is_persistent().ok()? {
        return None;
    }
    let xml = domain.xml_desc(INACTIVE).ok()?;
    if xml.contains("<title>") {
        return None;
    }
    let title = format!("</name>\n  <title>{TITLE}</title>");
    libvirt.connection().define_domain_xml(&xml.replacen("</name>", &title, 1)).ok().map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::ExitStatus;

    use super::*;

    #[test]
    fn what_submit_says_is_taken_refused_or_nobody_can_say() {
        let done = |code: i32, stderr: &str| Output {
            status: ExitStatus::from_raw(code << 8),
            stdout: Vec::new(),
            stderr: stderr.into(),
        };
        assert!(matches!(answer(&done(0, "")), Answer::Taken { .. }));
        let busy = answer(&done(1, "{\"error\":{\"reason\":\"VM_BUSY\",\"text\":\"x\"}}"));
        assert!(matches!(busy, Answer::Refused { reason, .. } if reason == "VM_BUSY"));
        let away = answer(&done(1, "{\"error\":{\"reason\":\"UNREACHABLE\",\"text\":\"x\"}}"));
        assert!(matches!(away, Answer::Silence { .. }));
        assert!(matches!(answer(&done(101, "a panic")), Answer::Silence { .. }));
    }
}
