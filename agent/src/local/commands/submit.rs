//! `submit`: an event from a file to the running daemon, and its end.

use std::path::Path;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::Body;
use dewpoint_proto::ids::EventId;
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::spec::ImageRef;
use dewpoint_proto::status::from_status;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::local::local_client::LocalClient;
use dewpoint_proto::wire::local::{SubmitRequest, SubmitResponse, WatchRequest, WatchResponse};
use serde_json::json;
use tonic::transport::Channel;

use super::events::made;
use crate::config::Config;
use crate::local::cli::SubmitArgs;
use crate::local::print::{self, Form};
use crate::local::{event_file, socket};
use crate::storage::describe_image;

/// How long journaling may take.
const JOURNALED: Duration = Duration::from_secs(30);

pub(super) async fn submit(config: &Config, args: &SubmitArgs, form: Form) -> Result<(), Cause> {
    let data_dir = config.data_dir.clone();
    let event = event_file::read(&args.file, Millis::now(), |name| image(name, &data_dir))?;
    let mut client = socket::connect(&config.socket).await?;
    let (id, vm) = (event.id, event.vm);
    let request = SubmitRequest { event: Body::encode(event)?.bytes().clone() };
    let answer = within(JOURNALED, client.submit(request)).await?.into_inner();
    if let Some(cause) = answer.refused {
        return Err(cause.into());
    }
    told(id, &vm.to_string(), &answer, form)?;
    if args.no_wait {
        return Ok(());
    }
    match tokio::time::timeout(args.timeout.0, ended(&mut client, id, form)).await {
        Ok(outcome) => finished(id, &outcome?, form),
        Err(_) => Err(Cause::new(Reason::Unreachable, format!("event {id} has not ended yet"))
            .advise(format!("it goes on; see `dewpoint-agent event show {id}`"))),
    }
}

fn told(id: EventId, vm: &str, answer: &SubmitResponse, form: Form) -> Result<(), Cause> {
    if form == Form::Json {
        return print::json(
            &json!({ "event_id": id, "vm_id": vm, "generation": answer.generation, "seen": answer.seen }),
        );
    }
    let what = if answer.seen { "was journaled before" } else { "is journaled" };
    print::out(format_args!("event {id} for VM {vm} {what}"));
    Ok(())
}

/// Follows the event to its end, a line for each step.
async fn ended(client: &mut LocalClient<Channel>, id: EventId, form: Form) -> Result<Outcome, Cause> {
    let request = WatchRequest { event_id: id.to_string() };
    let mut watch = client.watch(request).await.map_err(|status| from_status(&status))?.into_inner();
    let mut said = String::new();
    while let Some(message) = watch.message().await.map_err(|status| from_status(&status))? {
        if form == Form::Text {
            follow(&message, &mut said);
        }
        if let Some(outcome) = message.outcome {
            return Outcome::try_from(outcome);
        }
    }
    Err(Cause::new(Reason::Unreachable, "the daemon went away").advise(format!(
        "the event is journaled, and goes on at the next start; see `dewpoint-agent event show {id}`"
    )))
}

fn follow(message: &WatchResponse, said: &mut String) {
    let Some(progress) = &message.progress else { return };
    let mut line = progress.step.clone();
    if !progress.waiting_for.is_empty() {
        line = format!("{line}: waiting for {}", progress.waiting_for);
    } else if let Some(tenths) = progress.done_bytes.saturating_mul(10).checked_div(progress.total_bytes) {
        line = format!("{line}: {} %", tenths * 10);
    }
    if !line.is_empty() && line != *said {
        print::out(format_args!("  {line}"));
        *said = line;
    }
}

fn finished(id: EventId, outcome: &Outcome, form: Form) -> Result<(), Cause> {
    match (outcome.cause(), form) {
        (Some(cause), _) => Err(Cause::new(Reason::Other(cause.reason.to_string()), cause.text.clone())
            .advise(cause.advice.clone())
            .with("event_id", id)
            .with("end", outcome.name())),
        (None, Form::Json) => print::json(&json!({ "event_id": id, "outcome": outcome })),
        (None, Form::Text) => {
            print::out(format_args!("event {id} {}", outcome.name()));
            if let Outcome::Succeeded(done) = outcome {
                for (word, text) in made(done).iter().filter(|(_, text)| !text.is_empty()) {
                    print::out(print::wrapped(&format!("  {word:7}"), text));
                }
            }
            Ok(())
        }
    }
}

/// An image that a file names: a path is hashed and inspected here, a digest is looked up in the host's cache.
fn image(name: &str, data_dir: &Path) -> Result<ImageRef, Cause> {
    if name.starts_with('/') {
        let mut image = describe_image(Path::new(name)).map_err(|cause| no_image(name, cause))?;
        image.local_path = Some(name.to_owned());
        return Ok(image);
    }
    let digest: dewpoint_proto::spec::ImageDigest = name.parse().map_err(|_| {
        Cause::new(Reason::Invalid, format!("image is `{}`", dewpoint_proto::cause::shortened(name)))
            .advise("give an absolute path, or the digest of an image in the host's cache")
    })?;
    let cached = data_dir.join("images").join(digest.to_string());
    describe_image(&cached).map_err(|cause| {
        Cause::new(
            Reason::ImageNotFound,
            format!("image {digest} is not in the host's cache: {}", cause.text),
        )
        .advise("give an absolute path instead")
    })
}

/// Names the key; why an image is refused says itself what to do, and a path that leads to none is a mistake in the file.
fn no_image(name: &str, mut cause: Cause) -> Cause {
    cause.text = format!("image is `{}`: {}", dewpoint_proto::cause::shortened(name), cause.text);
    if cause.reason == Reason::StorageError {
        cause.reason = Reason::Invalid;
        "give the absolute path of a qcow2 or raw image on this host".clone_into(&mut cause.advice);
    }
    cause
}

async fn within<T>(most: Duration, call: impl Future<Output = Result<T, tonic::Status>>) -> Result<T, Cause> {
    match tokio::time::timeout(most, call).await {
        Ok(answer) => answer.map_err(|status| from_status(&status)),
        Err(_) => Err(Cause::new(
            Reason::Unreachable,
            format!("the daemon did not answer within {} s", most.as_secs()),
        )
        .advise("see `dewpoint-agent status`; the event may have been journaled")),
    }
}
