//! `host-id`: who this host is, and the two things that only a person can say of it. Both need the agent stopped.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::HostId;
use serde_json::json;

use crate::config::Config;
use crate::identity::{self, Home, Identity};
use crate::local::cli::HostIdArgs;
use crate::local::print::{self, Form};

/// Shows the id, after what was asked for was done.
///
/// # Errors
/// `HOST_NOT_FOUND` when there is none, `INVALID` when the marks on disk say otherwise, `STORAGE_ERROR` while an agent
/// runs.
pub(super) fn carry_out(config: &Config, args: &HostIdArgs, form: Form) -> Result<(), Cause> {
    if args.accept_machine {
        accept_machine(config)?;
    }
    if let Some(host) = args.take {
        take(config, host)?;
    }
    show(&known(config)?, form)
}

fn known(config: &Config) -> Result<Identity, Cause> {
    identity::read(&config.data_dir)?.ok_or_else(|| {
        Cause::new(Reason::HostNotFound, format!("{} has no host-id yet", config.data_dir.display()))
            .advise("it is made when the agent first starts")
    })
}

fn accept_machine(config: &Config) -> Result<(), Cause> {
    let _alone = identity::lock(&config.data_dir)?;
    home(config).take_id(known(config)?.host_id)
}

fn take(config: &Config, host: HostId) -> Result<(), Cause> {
    let _alone = identity::lock(&config.data_dir)?;
    if let Some(found) = identity::read(&config.data_dir)?.filter(|found| found.host_id != host) {
        return Err(Cause::new(Reason::Invalid, format!("this host has an id already: {}", found.host_id))
            .advise("to make it another host, see `dewpoint host replace`")
            .with("host_id", found.host_id));
    }
    let marks = identity::marked_by(&config.data_dir);
    if marks != [host] {
        let marks: Vec<_> = marks.iter().map(ToString::to_string).collect();
        return Err(Cause::new(
            Reason::Invalid,
            format!("the VMs' folders do not all bear the mark of host {host}"),
        )
        .advise("give the host whose mark they bear; look into vm.json of each")
        .with("marks", marks.join(" ")));
    }
    home(config).take_id(host)
}

fn home(config: &Config) -> Home {
    Home { data_dir: config.data_dir.clone(), product_uuid: identity::product_uuid() }
}

fn show(identity: &Identity, form: Form) -> Result<(), Cause> {
    match form {
        Form::Json => {
            print::json(&json!({ "host_id": identity.host_id, "product_uuid": identity.product_uuid }))
        }
        Form::Text => {
            print::out(identity.host_id);
            Ok(())
        }
    }
}
