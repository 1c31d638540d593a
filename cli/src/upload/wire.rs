//! One request to the image server, and what its answer means. Every answer is hostile until it is an [`Answer`].

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::ImageDigest;
use dewpoint_proto::wire::event as wire;
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};
use reqwest::{Body, Client, Response, StatusCode, Url};
use tokio::time::{Instant, interval};

use super::file::File;
use crate::failure::Failure;
use crate::meter::Meter;
use crate::output::Output;

const CONNECT: Duration = Duration::from_secs(5);
const ASK: Duration = Duration::from_secs(30);
/// No byte taken for so long: the connection is as good as broken.
const STALL: Duration = Duration::from_secs(60);
/// All bytes taken: the server hashes what it has, which for a large image takes its time.
const VERIFY: Duration = Duration::from_secs(30 * 60);
const TICK: Duration = Duration::from_millis(250);
const PROBE_BYTES: u64 = 16 * 1024;
const OFFSET: &str = "upload-offset";
/// A cause is never longer.
const BODY_BYTES: usize = 64 * 1024;

/// What the server says.
pub(super) enum Answer {
    /// It has the whole image, verified.
    Complete,
    /// It has this many bytes and expects the next.
    At(u64),
    /// It will not have it.
    Refused(Box<Cause>),
    /// No answer, or one that a next try may better.
    Broken(String),
}

/// How much one PUT sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    ToTheEnd,
    /// So little that it is written before a refusal closes the connection: after a break, which may have been a
    /// refusal that was never read.
    Probe,
}

/// Where one image is put.
pub(super) struct ImageServer {
    client: Client,
    url: Url,
}

impl fmt::Display for ImageServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.url.host_str().unwrap_or_default();
        write!(f, "{host}:{}", self.url.port_or_known_default().unwrap_or_default())
    }
}

impl ImageServer {
    /// `{server}/images/{digest}`.
    pub(super) fn at(server: &Url, digest: ImageDigest) -> Result<Self, Failure> {
        let base = server.as_str().trim_end_matches('/');
        let url = Url::parse(&format!("{base}/images/{digest}")).map_err(Failure::internal)?;
        // Neither a proxy of the environment nor a redirect may lead plaintext off the server that was checked.
        let client = Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT)
            .user_agent(concat!("dewpoint/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(Failure::internal)?;
        Ok(Self { client, url })
    }

    /// What it has of the image.
    pub(super) async fn ask(&self) -> Answer {
        match self.client.head(self.url.clone()).timeout(ASK).send().await {
            Err(error) => Answer::Broken(innermost(&error)),
            Ok(response) if response.status() == StatusCode::OK => Answer::Complete,
            Ok(response) if response.status() == StatusCode::NOT_FOUND => {
                Answer::At(offset(&response).unwrap_or(0))
            }
            Ok(response) => refusal(response).await,
        }
    }

    /// Sends the file from `at` on.
    pub(super) async fn put(
        &self,
        file: &File,
        at: u64,
        extent: Extent,
        meter: &mut Meter,
        output: &mut Output<'_>,
    ) -> Result<Answer, Failure> {
        let total = file.size;
        let end = match extent {
            Extent::ToTheEnd => total,
            Extent::Probe => total.min(at + PROBE_BYTES),
        };
        // Nothing left to send: the range names no byte, and the server verifies what it has (RFC 9110, 14.4).
        let range =
            if at == total { format!("bytes */{total}") } else { format!("bytes {at}-{}/{total}", end - 1) };
        let sent = Arc::new(AtomicU64::new(0));
        let body = Body::wrap_stream(file.between(at, end, Arc::clone(&sent)).await?);
        let request = self
            .client
            .put(self.url.clone())
            .header(CONTENT_RANGE, range)
            .header(CONTENT_LENGTH, end - at)
            .body(body);
        let mut answer = std::pin::pin!(request.send());
        let mut tick = interval(TICK);
        let mut seen = (0, Instant::now());
        loop {
            let answered = tokio::select! {
                answered = &mut answer => Some(answered),
                _ = tick.tick() => None,
            };
            if let Some(answered) = answered {
                return Ok(match answered {
                    Ok(response) => put_answer(response).await,
                    Err(error) => Answer::Broken(innermost(&error)),
                });
            }
            let taken = sent.load(Ordering::Relaxed);
            meter.done(output, at + taken)?;
            if taken != seen.0 {
                seen = (taken, Instant::now());
            }
            let patience = if at + taken == end { VERIFY } else { STALL };
            if seen.1.elapsed() >= patience {
                return Ok(Answer::Broken("nothing moves".to_owned()));
            }
        }
    }
}

async fn put_answer(response: Response) -> Answer {
    match (response.status(), offset(&response)) {
        (StatusCode::CREATED | StatusCode::OK, _) => Answer::Complete,
        // Whatever ended it, what it stored counts.
        (
            StatusCode::ACCEPTED
            | StatusCode::CONFLICT
            | StatusCode::REQUEST_TIMEOUT
            | StatusCode::BAD_REQUEST,
            Some(at),
        ) => Answer::At(at),
        _ => refusal(response).await,
    }
}

fn offset(response: &Response) -> Option<u64> {
    response.headers().get(OFFSET)?.to_str().ok()?.parse().ok()
}

/// The cause in a refusal's body, or one of ours.
async fn refusal(mut response: Response) -> Answer {
    let status = response.status();
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > BODY_BYTES {
            break;
        }
    }
    // Through the wire's form, which bounds every text.
    let told = serde_json::from_slice::<Cause>(&body).ok().map(|cause| Cause::from(wire::Cause::from(cause)));
    let says = told.as_ref().map_or_else(|| format!("it answers {status}"), |cause| cause.text.clone());
    match (status, told) {
        // Locked: after a break, the server may not yet know that our own last request is over.
        (StatusCode::LOCKED | StatusCode::SERVICE_UNAVAILABLE, _) => Answer::Broken(says),
        (_, Some(cause)) => Answer::Refused(Box::new(cause)),
        (StatusCode::INSUFFICIENT_STORAGE, None) => Answer::Refused(Box::new(
            Cause::new(Reason::DiskFull, "the image server's disk is full")
                .advise("remove images, or give it room"),
        )),
        (status, None) if status.is_server_error() => Answer::Broken(says),
        (status, None) => Answer::Refused(Box::new(
            Cause::new(Reason::Internal, format!("the image server answers {status}"))
                .advise("check that the coordinator's image URL leads to a coordinator of this version"),
        )),
    }
}

fn innermost(error: &reqwest::Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    inner.to_string()
}
