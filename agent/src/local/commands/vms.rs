//! `vms`: the journal's VMs beside what libvirt has; either may be away.

use std::time::Duration;

use dewpoint_proto::cause::Cause;
use serde_json::json;

use crate::agent;
use crate::config::Config;
use crate::execute::keep::attention;
use crate::hypervisor::{Domain, Domains, Hypervisor, Seen, Wanted};
use crate::journal::VmRow;
use crate::local::print::{self, Form};

/// libvirt is asked beside the journal, and not waited for longer.
const LIBVIRT: Duration = Duration::from_secs(3);

pub(super) async fn list(config: &Config, form: Form) -> Result<(), Cause> {
    let rows = super::reader(config)?.vms().map_err(Cause::from)?;
    let domains = match tokio::time::timeout(LIBVIRT, agent::libvirt(config)?.list()).await {
        Ok(Ok(domains)) => Ok(domains),
        Ok(Err(cause)) => Err(cause.text),
        Err(_) => Err(format!("libvirt did not answer within {} s", LIBVIRT.as_secs())),
    };
    let attention = domains.as_ref().map(|domains| attention::all(&rows, domains)).unwrap_or_default();
    if form == Form::Json {
        let vms: Vec<_> = rows.iter().map(|row| as_json(row, &domains, attention.get(&row.vm))).collect();
        return print::json(&vms);
    }
    let mut table = print::table(&["vm", "name", "power", "wanted", "gen"]);
    for row in &rows {
        let name = row.name.as_ref().map_or("-", |name| name.as_str());
        let wanted = if row.wanted == Wanted::On { "on" } else { "off" };
        let power = power(row, &domains);
        table.add_row([&row.vm.to_string(), name, &power, wanted, &row.generation.to_string()]);
    }
    print::out(table);
    if let Err(why) = &domains {
        print::out("");
        print::out(print::wrapped("power is unknown: ", why));
    }
    for (vm, cause) in &attention {
        print::out(format_args!("\n{vm}"));
        print::out(print::wrapped("  ", &cause.text));
        print::out(print::wrapped("  next: ", &cause.advice));
    }
    Ok(())
}

fn domain<'a>(row: &VmRow, domains: &'a Result<Domains, String>) -> Seen<&'a Domain> {
    match domains {
        Err(why) => Seen::Unknown(why.clone()),
        Ok(domains) => domains.get(&row.vm).map_or(Seen::Absent, Seen::There),
    }
}

fn power(row: &VmRow, domains: &Result<Domains, String>) -> String {
    match domain(row, domains) {
        Seen::There(domain) => domain.power.as_str().to_owned(),
        Seen::Absent => "absent".to_owned(),
        Seen::Unknown(_) => "unknown".to_owned(),
    }
}

fn as_json(row: &VmRow, domains: &Result<Domains, String>, attention: Option<&Cause>) -> serde_json::Value {
    let detail = domain(row, domains).there().map(|domain| domain.detail.clone());
    json!({
        "vm_id": row.vm,
        "name": row.name,
        "generation": row.generation,
        "presence": row.presence.as_str(),
        "wanted": row.wanted,
        "power": power(row, domains),
        "power_detail": detail,
        "run": row.run,
        "disk": row.disk,
        "seed": row.seed,
        "restart": row.spec.as_ref().map(|spec| spec.restart),
        "restarts": row.kept.restarts,
        "incident": row.kept.incident,
        "attention": attention,
    })
}
