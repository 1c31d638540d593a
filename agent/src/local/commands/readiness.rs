//! `doctor --host`: whether this machine is ready to run VMs.

use dewpoint_proto::cause::{Cause, Reason};

use crate::config::Config;
use crate::local::print::{self, Form};
use crate::local::readiness::{self, Finding, Verdict};

pub(super) async fn tell(config: &Config, form: Form) -> Result<(), Cause> {
    let findings = readiness::examine(config).await;
    match form {
        Form::Json => print::json(&findings)?,
        Form::Text => {
            let mut table = print::table(&["", "check", "found"]);
            for finding in &findings {
                table.add_row([finding.verdict.as_str(), finding.check, &words(finding)]);
            }
            print::out(table);
        }
    }
    let bad: Vec<&str> = findings
        .iter()
        .filter(|finding| finding.verdict == Verdict::Bad)
        .map(|finding| finding.check)
        .collect();
    if bad.is_empty() {
        return Ok(());
    }
    Err(Cause::new(Reason::NotReady, format!("not ready to run VMs: {}", bad.join(", ")))
        .advise("do what stands beside each, then ask again"))
}

fn words(finding: &Finding) -> String {
    if finding.remedy.is_empty() {
        finding.found.clone()
    } else {
        format!("{}\nnext: {}", finding.found, finding.remedy)
    }
}
