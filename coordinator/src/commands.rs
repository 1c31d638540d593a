//! The commands beside `run`: what they print, and their exit statuses.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use dewpoint_coordinator::config::Config;
use dewpoint_coordinator::store::Word;
use dewpoint_coordinator::upkeep::backup::{Backup, backup};
use dewpoint_coordinator::upkeep::check::{Finding, Repair, check};
use dewpoint_coordinator::upkeep::restore::{Restored, restore};
use dewpoint_proto::cause::Cause;
use dewpoint_proto::time::Millis;
use serde_json::{Value, json};

/// `check` found what does not agree, and did not set it right.
const DISAGREES: u8 = 3;

/// For whom the output is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    People,
    Programs,
}

/// What came of a command, and how the process ends.
pub(crate) struct Done {
    text: String,
    json: Value,
    exit: ExitCode,
}

/// Prints it in either form; a cause goes to stderr.
pub(crate) fn finish(done: Result<Done, Cause>, form: Form) -> anyhow::Result<ExitCode> {
    match done {
        Ok(done) => {
            let text = match form {
                Form::People => done.text,
                Form::Programs => format!("{:#}\n", done.json),
            };
            std::io::stdout().write_all(text.as_bytes())?;
            Ok(done.exit)
        }
        Err(cause) => {
            match form {
                Form::People => {
                    eprintln!("dewpoint-coordinator: {cause} ({})\n  next: {}", cause.reason, cause.advice)
                }
                Form::Programs => eprintln!("{}", json!({ "error": cause })),
            }
            Ok(ExitCode::FAILURE)
        }
    }
}

pub(crate) fn back_up(config: &Config, to: &Path, form: Form) -> Result<Done, Cause> {
    let mut meter = Meter::new(form);
    let Backup { path, taken_at, bytes, contents } =
        backup(config, to, &mut |done, all| meter.told(done, all))?;
    let images: Vec<Value> = contents
        .images
        .iter()
        .map(|image| json!({ "digest": image.digest.to_string(), "size_bytes": image.size_bytes }))
        .collect();
    let mut text = format!(
        "{}: {bytes} bytes, verified\n  {} hosts, {} VMs, {} events\n",
        path.display(),
        contents.hosts,
        contents.vms,
        contents.events
    );
    if !images.is_empty() {
        text.push_str(&format!(
            "  {} images by digest; their files are not in it, copy {} as well:\n",
            images.len(),
            config.data_dir.join("images").display()
        ));
        contents.images.iter().for_each(|image| text.push_str(&format!("    {}\n", image.digest)));
    }
    let json = json!({
        "path": path.display().to_string(),
        "taken_at_ms": taken_at.0,
        "bytes": bytes,
        "schema": contents.schema,
        "hosts": contents.hosts,
        "vms": contents.vms,
        "events": contents.events,
        "images": images,
        "image_files_copied": false,
    });
    Ok(Done { text, json, exit: ExitCode::SUCCESS })
}

pub(crate) fn put_back(config: &Config, from: &Path, reason: String, form: Form) -> Result<Done, Cause> {
    let mut meter = Meter::new(form);
    let word = Word { who: user(), reason, at: Millis::now() };
    let Restored { kept, receipt, contents, missing } =
        restore(config, from, word, &mut |done, all| meter.told(done, all))?;
    let kept = kept.map(|kept| kept.display().to_string());
    let mut text = format!(
        "restored: {} hosts, {} VMs, {} events\n  the database before: {}\n  receipt: {}\n",
        contents.hosts,
        contents.vms,
        contents.events,
        kept.as_deref().unwrap_or("there was none"),
        receipt.display()
    );
    if contents.hosts > 0 {
        text.push_str("  next: start the coordinator; it places nothing until every host has matched\n");
    }
    for digest in &missing {
        text.push_str(&format!("  image {digest} has no file here: put it again\n"));
    }
    let missing: Vec<String> = missing.iter().map(ToString::to_string).collect();
    let json = json!({
        "kept": kept,
        "receipt": receipt.display().to_string(),
        "hosts": contents.hosts,
        "vms": contents.vms,
        "events": contents.events,
        "images_without_file": missing,
    });
    Ok(Done { text, json, exit: ExitCode::SUCCESS })
}

pub(crate) fn look(config: &Config, repair: Repair) -> Result<Done, Cause> {
    let found = check(config, repair)?;
    let left = found.iter().filter(|finding| !finding.repaired).count();
    let mut text = String::new();
    for Finding { check, text: what, repaired } in &found {
        let set_right = if *repaired { " (set right)" } else { "" };
        text.push_str(&format!("{check}: {what}{set_right}\n"));
    }
    text.push_str(&match (found.len(), left) {
        (0, _) => "everything agrees\n".to_owned(),
        (found, 0) => format!("{found} found, all set right\n"),
        (found, left) => format!("{found} found, {left} left\n"),
    });
    let exit = if left == 0 { ExitCode::SUCCESS } else { ExitCode::from(DISAGREES) };
    Ok(Done { text, json: json!({ "findings": found, "left": left }), exit })
}

/// The user at this command, the one behind `sudo`.
fn user() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    named.unwrap_or_else(|| "unnamed".to_owned())
}

/// How far a copy is, told when it takes longer than two seconds.
struct Meter {
    form: Form,
    told: Instant,
}

impl Meter {
    const EVERY: Duration = Duration::from_secs(2);

    fn new(form: Form) -> Self {
        Self { form, told: Instant::now() }
    }

    fn told(&mut self, done: u64, all: u64) {
        if self.form == Form::Programs || self.told.elapsed() < Self::EVERY {
            return;
        }
        self.told = Instant::now();
        let end = if std::io::stderr().is_terminal() { "\r" } else { "\n" };
        eprint!("{}% copied{end}", done * 100 / all.max(1));
    }
}
