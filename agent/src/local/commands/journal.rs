//! `journal check` and `journal new`: what a person does when the journal cannot be used.

use std::path::{Path, PathBuf};

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::time::Millis;
use serde_json::json;

use crate::config::Config;
use crate::identity;
use crate::journal::aside::{self, Anew};
use crate::journal::check::{self, Depth, Expects, Found};
use crate::local::cli::{JournalCommand, NewArgs};
use crate::local::print::{self, Form};

pub(super) fn carry_out(command: JournalCommand, config: &Config, form: Form) -> Result<(), Cause> {
    match command {
        JournalCommand::Check => show(config, form),
        JournalCommand::New(args) => begin(config, &args, form),
    }
}

fn path(config: &Config) -> PathBuf {
    config.data_dir.join("agent.db")
}

/// Whether a host without a journal would be a new one.
#[must_use]
pub fn expects(data_dir: &Path) -> Expects {
    if identity::has_marked_vms(data_dir) { Expects::Rows } else { Expects::Nothing }
}

fn show(config: &Config, form: Form) -> Result<(), Cause> {
    let path = path(config);
    let found = check::check(&path, expects(&config.data_dir), Depth::Full)?;
    let parked = if found == Found::Sound { parked(config)? } else { Vec::new() };
    if form == Form::Json {
        return print::json(&json!({ "path": path, "found": found, "parked": parked }));
    }
    match found {
        Found::Nothing => print::out(format_args!("{}: no journal yet", path.display())),
        Found::Sound => print::out(format_args!("{}: sound", path.display())),
    }
    for cause in &parked {
        print::out(format_args!("parked       {} ({})\n  next: {}", cause.text, cause.reason, cause.advice));
    }
    Ok(())
}

/// Events that this version cannot go on with.
fn parked(config: &Config) -> Result<Vec<Cause>, Cause> {
    let recovery = super::reader(config)?.unfinished().map_err(Cause::from)?;
    Ok(recovery.parked.into_iter().map(|parked| parked.cause).collect())
}

fn begin(config: &Config, args: &NewArgs, form: Form) -> Result<(), Cause> {
    let path = path(config);
    // The running daemon has the lock: its journal is never taken from under it.
    let lock = identity::lock(&config.data_dir)?;
    let found = match check::check(&path, expects(&config.data_dir), Depth::Full) {
        Ok(Found::Nothing) => return Err(none(&path)),
        Ok(Found::Sound) if !args.although_sound => return Err(sound(&path)),
        Ok(Found::Sound) => "sound".to_owned(),
        Err(error) => Cause::from(error).text,
    };
    let anew = aside::begin_anew(&path, &found, &args.reason, Millis::now())?;
    drop(lock);
    told(&anew, &found, form)
}

fn told(anew: &Anew, found: &str, form: Form) -> Result<(), Cause> {
    if form == Form::Json {
        return print::json(&json!({ "found": found, "anew": anew }));
    }
    print::out(format_args!(
        "found        {found}\nset aside    {}\nnew journal  {}\nVMs          {} taken over from the old one\nreceipt      {}",
        anew.aside.display(),
        anew.journal_id,
        anew.vms,
        anew.receipts.display()
    ));
    print::out(
        "next         start the agent: it takes over the VMs that bear its mark and touches none. The coordinator\n\
         \x20            finds the host diverged; see `dewpoint host show` and reconcile it there.",
    );
    Ok(())
}

fn none(path: &Path) -> Cause {
    Cause::new(Reason::Invalid, format!("{} is not there", path.display()))
        .advise("check data_dir in the configuration; a first start makes the journal")
}

fn sound(path: &Path) -> Cause {
    Cause::new(Reason::Invalid, format!("{} is sound, and would lose its unfinished events", path.display()))
        .advise("keep it; --although-sound sets it aside all the same, when a person has decided so")
}
