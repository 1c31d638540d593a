//! `doctor`: looks, compares, tells; with `--repair` asks before each repair, and has it made by the daemon, or with the
//! data folder's lock in hand when there is none.

use std::sync::Arc;
use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::HostId;
use dewpoint_proto::status::from_status;
use dewpoint_proto::wire::local::RepairRequest;
use serde_json::{Value, json};

use super::Ended;
use crate::agent;
use crate::config::Config;
use crate::doctor::look::Eyes;
use crate::doctor::repair::{Hands, Key, mend};
use crate::doctor::world::{Daemon, Scope};
use crate::doctor::{Finding, Severity, compare};
use crate::identity::{self, DataLock};
use crate::link::dial::{Coordinator, Dial, Plaintext};
use crate::local::ask::{Answer, Assent};
use crate::local::cli::DoctorArgs;
use crate::local::print::{self, Form};
use crate::local::socket;

/// How long the daemon may take for one repair; a seed or a base on a slow disk takes a while.
const REPAIR: Duration = Duration::from_secs(120);

pub(super) async fn examine(config: &Config, args: &DoctorArgs, form: Form) -> Result<Ended, Cause> {
    let plaintext = if args.insecure { Plaintext::Anywhere } else { Plaintext::Local };
    let (eyes, hands) = senses(config, Some(plaintext)).await?;
    let scope = args.vm.map_or(Scope::Host, Scope::Vm);
    let mut findings = looked(&eyes, scope, args).await;
    if form == Form::Text {
        told(&findings);
    }
    let mut repairs = Vec::new();
    if args.repair {
        repairs = repair_all(config, args, &findings, (&eyes, &hands), form).await?;
        if !repairs.is_empty() {
            findings = looked(&eyes, scope, args).await;
        }
    }
    if form == Form::Json {
        let findings: Vec<_> = findings.iter().map(as_json).collect();
        print::json(&json!({ "findings": findings, "repairs": repairs }))?;
    } else {
        summed_up(&findings, args);
    }
    let bad = findings.iter().any(|found| found.rule.severity != Severity::Note);
    Ok(if bad { Ended::WithFindings } else { Ended::Well })
}

/// What is looked at, and what repairs are made with when there is no daemon. `coordinator`: how it may be asked, if at all.
pub(super) async fn senses(config: &Config, coordinator: Option<Plaintext>) -> Result<(Eyes, Hands), Cause> {
    let host = identity::read(&config.data_dir)?.map(|identity| identity.host_id);
    // With no id there can be no mark of ours: nothing on the disk is.
    let files = super::files_of(config, host.unwrap_or_else(HostId::fresh));
    let effects = agent::effects(config, &files)?;
    let coordinator =
        config.coordinator.as_deref().zip(coordinator).map(|(url, plaintext)| dial(url, plaintext));
    let daemon = match socket::connect(&config.socket).await {
        Ok(_) => Daemon::Up,
        Err(_) => Daemon::Down,
    };
    let eyes = Eyes { daemon, coordinator, ..agent::eyes(config, host, &effects, &files) };
    Ok((eyes, agent::hands(&effects, &files)))
}

/// An address that may not be dialled is told as a coordinator that cannot be reached.
fn dial(url: &str, plaintext: Plaintext) -> Arc<dyn Dial> {
    match Coordinator::parse(url, plaintext) {
        Ok(coordinator) => Arc::new(coordinator),
        Err(cause) => Arc::new(NoWay(cause)),
    }
}

struct NoWay(Cause);

#[async_trait::async_trait]
impl Dial for NoWay {
    async fn dial(&self) -> Result<tonic::transport::Channel, Cause> {
        Err(self.0.clone())
    }
}

async fn looked(eyes: &Eyes, scope: Scope, args: &DoctorArgs) -> Vec<Finding> {
    let world = tokio::select! {
        world = eyes.look(scope) => world,
        never = print::patience("looking at coordinator, journal, libvirt, disk and network") => never,
    };
    let mut findings = compare(&world);
    findings.retain(|found| args.vm.is_none_or(|vm| found.vm.is_none_or(|about| about == vm)));
    findings
}

/// Asks for each; stops at the first no that is no answer (no terminal). Returns what was done.
async fn repair_all(
    config: &Config,
    args: &DoctorArgs,
    findings: &[Finding],
    senses: (&Eyes, &Hands),
    form: Form,
) -> Result<Vec<Value>, Cause> {
    let assent = Assent::of(args.yes);
    let (mut done, mut held) = (Vec::new(), None);
    for finding in findings {
        let Some(repair) = &finding.repair else { continue };
        let about = finding.vm.map(|vm| format!(" (VM {vm})")).unwrap_or_default();
        if assent.to(&format!("{}{about}\n  {repair}?", finding.text))? == Answer::No {
            continue;
        }
        let result = repair_one(config, &Key::of(finding), senses, &mut held).await;
        if form == Form::Text {
            match &result {
                Ok(Some(what)) => print::out(format_args!("repaired  {}: {what}", finding.rule.code)),
                Ok(None) => {
                    print::out(format_args!("gone      {}: nothing was left to repair", finding.rule.code))
                }
                Err(cause) => print::out(format_args!(
                    "failed    {}: {} ({})\n  next: {}",
                    finding.rule.code, cause.text, cause.reason, cause.advice
                )),
            }
        }
        done.push(json!({
            "code": finding.rule.code,
            "vm_id": finding.vm,
            "done": result.as_ref().ok(),
            "error": result.as_ref().err(),
        }));
    }
    Ok(done)
}

/// By the daemon; or here, with the data folder held from the first repair to the last.
async fn repair_one(
    config: &Config,
    key: &Key,
    (eyes, hands): (&Eyes, &Hands),
    held: &mut Option<DataLock>,
) -> Result<Option<String>, Cause> {
    if held.is_none()
        && let Ok(mut client) = socket::connect(&config.socket).await
    {
        let request = RepairRequest {
            code: key.code.clone(),
            vm_id: key.vm.map(|vm| vm.to_string()).unwrap_or_default(),
            subject: key.subject.clone(),
        };
        let answer = tokio::time::timeout(REPAIR, client.repair(request)).await;
        let answer = answer.map_err(|_| super::too_slow(REPAIR))?.map_err(|status| from_status(&status))?;
        return Ok(Some(answer.into_inner().done).filter(|done| !done.is_empty()));
    }
    if held.is_none() {
        *held = Some(super::held(config)?);
    }
    Ok(mend(key, eyes, hands).await?.map(|receipt| receipt.done))
}

fn told(findings: &[Finding]) {
    for finding in findings {
        let about = finding.vm.map(|vm| format!("\n  VM {vm}")).unwrap_or_default();
        let rule = finding.rule;
        print::out(format_args!("{}  {}{about}", rule.severity.as_str(), rule.code));
        print::out(print::wrapped("  ", &finding.text));
        for (source, said) in &finding.evidence {
            print::out(print::wrapped(&format!("  {source:<13} "), said));
        }
        print::out(print::wrapped("  means         ", rule.means));
        if !finding.advice.is_empty() {
            print::out(print::wrapped("  next          ", &finding.advice));
        }
        if let Some(repair) = &finding.repair {
            print::out(print::wrapped("  --repair would ", &repair.to_string()));
        }
        print::out("");
    }
}

fn summed_up(findings: &[Finding], args: &DoctorArgs) {
    let count = |severity| findings.iter().filter(|found| found.rule.severity == severity).count();
    let (severe, warnings, notes) =
        (count(Severity::Severe), count(Severity::Warning), count(Severity::Note));
    if findings.is_empty() {
        print::out("all sides agree: nothing found");
        return;
    }
    let repairable = findings.iter().filter(|found| found.repair.is_some()).count();
    print::out(format_args!(
        "{severe} severe, {}, {}",
        print::count(warnings, "warning"),
        print::count(notes, "note")
    ));
    if repairable > 0 && !args.repair {
        print::out(format_args!(
            "{repairable} can be repaired: `dewpoint-agent doctor --repair` asks before each"
        ));
    }
}

fn as_json(finding: &Finding) -> Value {
    let evidence: Vec<_> =
        finding.evidence.iter().map(|(source, said)| json!({ "source": source, "said": said })).collect();
    json!({
        "code": finding.rule.code,
        "severity": finding.rule.severity,
        "vm_id": finding.vm,
        "subject": finding.subject,
        "text": finding.text,
        "means": finding.rule.means,
        "evidence": evidence,
        "advice": finding.advice,
        "repair": finding.repair.as_ref().map(ToString::to_string),
    })
}
