//! An image file to the coordinator's image server: resumed where it broke, given up when nothing moves any more.
//!
//! The server appends at its own offset and nowhere else, so the loop is: learn the offset, send from there to the end,
//! and when that breaks, learn the offset again. Whether the bytes are right is the server's to say, by their digest.

mod file;
mod wire;

use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use reqwest::Url;
use tokio::time::{Instant, sleep};

use crate::failure::Failure;
use crate::fleet::backoff::Backoff;
use crate::meter::Meter;
use crate::output::Output;
pub(crate) use file::File;
use wire::{Answer, Extent, ImageServer};

/// How long the server may go without taking a byte, tries included.
const PATIENCE: Duration = Duration::from_secs(300);

/// How much of a file that the server then finds spoiled was ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// All of it, so far.
    Whole,
    /// What follows bytes that were there before.
    Resumed,
    /// All of it, as what was there before was spoiled: once is enough.
    Anew,
}

/// Puts the file to the image server; one that is there already is not sent.
///
/// # Errors
/// What the server refuses (`DIGEST_MISMATCH`, `IMAGE_REFUSED`, `DISK_FULL`, ...); `UNREACHABLE` after [`PATIENCE`]
/// without a byte; `INVALID` for a file that changes meanwhile.
pub(crate) async fn upload(file: &File, server: &Url, output: &mut Output<'_>) -> Result<(), Failure> {
    let server = ImageServer::at(server, file.digest)?;
    let mut meter = Meter::bytes(output, "uploading", file.size);
    let mut backoff = Backoff::default();
    let mut offset = None;
    let mut extent = Extent::ToTheEnd;
    let mut best = 0;
    let mut said = String::new();
    let mut moved = Instant::now();
    let mut sent = Sent::Whole;
    loop {
        let answer = match offset {
            None => server.ask().await,
            Some(offset) => server.put(file, offset, extent, &mut meter, output).await?,
        };
        let broke = match answer {
            Answer::Complete => return Ok(()),
            // What was there before may be what a power cut left of it; the server has dropped it now.
            Answer::Refused(cause) if cause.reason == Reason::DigestMismatch && sent == Sent::Resumed => {
                meter.notice(output, "what was there of it is spoiled; sending all of it again")?;
                sent = Sent::Anew;
                offset = None;
                best = 0;
                continue;
            }
            Answer::Refused(cause) => return Err((*cause).into()),
            Answer::At(at) if at > file.size => return Err(beyond_the_end(at).into()),
            Answer::At(at) => {
                let first = offset.replace(at).is_none();
                match (first, sent) {
                    (true, Sent::Whole) if at > 0 => sent = Sent::Resumed,
                    (true, _) => {}
                    (false, _) => extent = Extent::ToTheEnd,
                }
                meter.done(output, at)?;
                if at > best || first {
                    best = best.max(at);
                    moved = Instant::now();
                    backoff.reset();
                    continue;
                }
                None
            }
            Answer::Broken(why) => {
                offset = None;
                extent = Extent::Probe;
                file.unchanged().await?;
                Some(why)
            }
        };
        if moved.elapsed() >= PATIENCE {
            return Err(stuck(&server, broke.as_deref()).into());
        }
        if let Some(why) = broke.filter(|why| *why != said) {
            meter.notice(output, &format!("the upload broke ({why}); going on where it stopped"))?;
            said = why;
        }
        sleep(backoff.next()).await;
    }
}

fn beyond_the_end(offset: u64) -> Cause {
    Cause::new(Reason::Internal, format!("the image server claims {offset} bytes, more than the file has"))
        .advise("remove the unfinished upload at the coordinator, then try again")
}

fn stuck(server: &ImageServer, why: Option<&str>) -> Cause {
    let why = why.unwrap_or("it takes no bytes");
    Cause::new(Reason::Unreachable, format!("the image server at {server} does not go on: {why}"))
        .advise("check that it runs and has room; the same command goes on where this one stopped")
}
