//! One file a noun. Each parses what it needs from files first, then connects, then asks.

pub(crate) mod audit;
pub(crate) mod event;
pub(crate) mod fleet;
pub(crate) mod host;
pub(crate) mod image;
pub(crate) mod network;
pub(crate) mod shell;
mod tail;
pub(crate) mod vm;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::{Cli, Noun};
use crate::failure::Failure;
use crate::fleet::paging::Listed;
use crate::output::{Format, Output};
use crate::text::Paint;

/// Carries out one parsed command line.
///
/// # Errors
/// Whatever ended it badly; nothing has been said of it yet.
pub(crate) async fn carry_out(cli: Cli, output: &mut Output<'_>) -> Result<(), Failure> {
    let global = &cli.global;
    match cli.noun {
        Noun::Host(command) => host::carry_out(command, global, output).await,
        Noun::Vm(command) => vm::carry_out(command, global, output).await,
        Noun::Image(command) => image::carry_out(command, global, output).await,
        Noun::Network(command) => network::carry_out(command, global, output).await,
        Noun::Event(command) => event::carry_out(command, global, output).await,
        Noun::Fleet(command) => fleet::carry_out(command, global, output).await,
        Noun::Audit(command) => audit::carry_out(command, global, output).await,
        Noun::Completion { shell } => shell::completion(shell, output),
        Noun::Man { dir } => shell::man(&dir),
    }
}

/// A list: `{"NOUNS": [...], "more": false}` for programs, a table for people, who are told when there is more.
fn show_list<'a, T, V: From<&'a T> + Serialize>(
    output: &mut Output<'_>,
    noun: &str,
    listed: &'a Listed<T>,
    table: impl FnOnce(&'a [T], Paint) -> String,
) -> Result<(), Failure> {
    if output.format == Format::Json {
        let entries: Vec<V> = listed.entries.iter().map(V::from).collect();
        let entries = serde_json::to_value(entries).map_err(Failure::internal)?;
        let document = Map::from_iter([(noun.to_owned(), entries), ("more".to_owned(), json!(listed.more))]);
        return output.document(&Value::Object(document));
    }
    let text = table(&listed.entries, output.paint);
    output.text(&text)?;
    if listed.more {
        output.notice(&format!("there are more {noun} than these {}: give --limit", listed.entries.len()))?;
    }
    Ok(())
}
