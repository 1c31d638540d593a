//! Where an image's bytes come from: the coordinator's image server, or a file of this host.
//!
//! A transfer has no limit in all, for images are large; connecting, and each wait for more bytes, has one. A broken
//! transfer goes on from where it stood; after a few attempts that brought nothing it is given up.

use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use dewpoint_proto::cause::{Cause, Reason, shortened};
use dewpoint_proto::spec::{ImageDigest, ImageRef};
use reqwest::header::{CONTENT_RANGE, HeaderMap, RANGE};
use reqwest::{Client, Response, StatusCode, Url};
use tokio::time::{sleep, timeout};

use super::durable::open;
use super::failure::failed;
use super::files::Files;
use super::part::{Part, STEP};
use super::{ImageServer, JobProgress};

/// Attempts in a row that may bring nothing.
const FRUITLESS: u32 = 3;
/// What is gathered before it is written.
const GATHER: usize = 1024 * 1024;

/// How an attempt ended.
enum Broken {
    /// Another may do better.
    Passing(Cause),
    /// Another would end the same.
    Final(Cause),
}

impl Files {
    /// Until the part is as long as the image.
    pub(super) async fn download(
        &self,
        part: &Part,
        server: &ImageServer,
        image: &ImageRef,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        let source = Source::new(server, image.digest, self.inner.settings.stall)?;
        let mut fruitless = 0;
        while part.length() < image.size_bytes {
            let before = part.length();
            let cause = match self.attempt(&source, part, image, progress).await {
                Ok(()) => continue,
                Err(Broken::Final(cause)) => return Err(cause),
                Err(Broken::Passing(cause)) => cause,
            };
            fruitless = if part.length() > before { 0 } else { fruitless + 1 };
            if fruitless >= FRUITLESS {
                return Err(cause);
            }
            tracing::warn!(image = %image.digest, at = part.length(), cause = %cause, "transfer broke; going on");
            sleep(self.inner.settings.stall.min(Duration::from_secs(1)) * fruitless / 2).await;
        }
        Ok(())
    }

    /// One request, from where the part ends.
    async fn attempt(
        &self,
        source: &Source,
        part: &Part,
        image: &ImageRef,
        progress: &JobProgress,
    ) -> Result<(), Broken> {
        let mut response = source.ask(part.length()).await?;
        if source.begins_at(&response, part.length(), image.size_bytes)? == 0 && part.length() > 0 {
            part.restart(self).await.map_err(Broken::Final)?;
        }
        loop {
            let (gathered, end) = source.gather(&mut response).await;
            if part.length() + gathered.len() as u64 > image.size_bytes {
                return Err(Broken::Final(longer(image)));
            }
            self.append(part, gathered).await.map_err(Broken::Final)?;
            progress.set(part.length(), image.size_bytes);
            match end {
                None => {}
                Some(Ok(())) if part.length() < image.size_bytes => {
                    return Err(Broken::Passing(source.unavailable("ended the transfer early")));
                }
                Some(end) => return end,
            }
        }
    }

    /// Copies a file of this host, which somebody may change meanwhile: what counts is the digest of the copy.
    pub(super) async fn copy_local(
        &self,
        part: &Part,
        path: &Path,
        image: &ImageRef,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        let unavailable = |error: &std::io::Error| {
            let path = shortened(&path.display().to_string());
            Cause::new(Reason::ImageUnavailable, format!("could not read the image `{path}`: {error}"))
                .advise("name a regular file (no link) that the agent may read")
        };
        let owned = path.to_owned();
        let opened = self.short(move |_| open(&owned).map_err(|error| failed("open", &owned, &error))).await;
        let file =
            std::sync::Arc::new(opened.map_err(|cause| unavailable(&std::io::Error::other(cause.text)))?);
        let length = file.metadata().map_err(|error| unavailable(&error))?.len();
        if length != image.size_bytes {
            return Err(Cause::new(
                Reason::DigestMismatch,
                format!("the image file is {length} bytes long, and the event says {}", image.size_bytes),
            )
            .advise("submit the event again with the file's present size and digest"));
        }
        while part.length() < length {
            let (part_there, file) = (part.clone(), std::sync::Arc::clone(&file));
            let got = self.blocking(move |_| copy_piece(&file, &part_there)).await?;
            progress.set(part.length(), length);
            if got == 0 {
                return Err(unavailable(&std::io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(())
    }

    async fn append(&self, part: &Part, bytes: BytesMut) -> Result<(), Cause> {
        if bytes.is_empty() {
            return Ok(());
        }
        let part = part.clone();
        self.blocking(move |_| part.append(&bytes)).await
    }
}

fn copy_piece(file: &std::fs::File, part: &Part) -> Result<usize, Cause> {
    use std::os::unix::fs::FileExt;
    let mut piece = vec![0; STEP];
    let got = file
        .read_at(&mut piece, part.length())
        .map_err(|error| failed("read the image", Path::new(""), &error))?;
    part.append(&piece[..got])?;
    Ok(got)
}

/// One image of a server.
struct Source {
    client: Client,
    url: Url,
    stall: Duration,
}

impl Source {
    fn new(server: &ImageServer, digest: ImageDigest, stall: Duration) -> Result<Self, Cause> {
        Ok(Self { client: client(stall)?, url: image_url(server, digest)?, stall })
    }

    async fn ask(&self, from: u64) -> Result<Response, Broken> {
        let mut request = self.client.get(self.url.clone());
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        match timeout(self.stall, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Broken::Passing(self.unavailable(&said(&error)))),
            Err(_) => Err(Broken::Passing(self.unavailable("did not answer"))),
        }
    }

    /// The position at which the answer's body begins: where we asked, or 0.
    fn begins_at(&self, response: &Response, asked: u64, size: u64) -> Result<u64, Broken> {
        match response.status() {
            StatusCode::OK => {
                self.check_total(response.content_length(), size)?;
                Ok(0)
            }
            StatusCode::PARTIAL_CONTENT => match range(response.headers()) {
                Some((begin, total)) if begin == asked => {
                    self.check_total(total, size)?;
                    Ok(asked)
                }
                _ => Err(Broken::Final(self.unavailable("sent another part than was asked for"))),
            },
            StatusCode::NOT_FOUND => Err(Broken::Final(self.unavailable("does not have it"))),
            StatusCode::RANGE_NOT_SATISFIABLE => Err(Broken::Final(
                Cause::new(Reason::DigestMismatch, "the image on the server is shorter than the event says")
                    .advise("remove the image at the coordinator, and add its file again"),
            )),
            status => {
                let cause = self.unavailable(&format!("answered {status}"));
                let passing = status.is_server_error()
                    || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
                Err(if passing { Broken::Passing(cause) } else { Broken::Final(cause) })
            }
        }
    }

    fn check_total(&self, total: Option<u64>, size: u64) -> Result<(), Broken> {
        match total {
            Some(total) if total != size => Err(Broken::Final(
                Cause::new(
                    Reason::DigestMismatch,
                    format!("the image on the server is {total} bytes long, and the event says {size}"),
                )
                .advise("find out who changed the image on its server"),
            )),
            _ => Ok(()),
        }
    }

    /// The next bytes, up to a MiB and a chunk, and the body's end if it came.
    async fn gather(&self, response: &mut Response) -> (BytesMut, Option<Result<(), Broken>>) {
        let mut gathered = BytesMut::new();
        while gathered.len() < GATHER {
            let end = match timeout(self.stall, response.chunk()).await {
                Ok(Ok(Some(chunk))) => {
                    gathered.extend_from_slice(&chunk);
                    continue;
                }
                Ok(Ok(None)) => Ok(()),
                Ok(Err(error)) => Err(Broken::Passing(self.unavailable(&said(&error)))),
                Err(_) => Err(Broken::Passing(self.unavailable("sent nothing more"))),
            };
            return (gathered, Some(end));
        }
        (gathered, None)
    }

    fn unavailable(&self, what: &str) -> Cause {
        Cause::new(Reason::ImageUnavailable, format!("the image server {what}"))
            .advise(
                "see that the coordinator runs, is reachable from this host, and has the image; then retry",
            )
            .with("url", &self.url)
    }
}

/// A client for image servers: no proxy of the environment, no redirects, a bound on connecting.
pub(super) fn client(stall: Duration) -> Result<Client, Cause> {
    Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(stall)
        .build()
        .map_err(|error| {
            Cause::new(Reason::Internal, format!("could not make an HTTP client: {}", said(&error)))
        })
}

/// Where a server has an image.
pub(super) fn image_url(server: &ImageServer, digest: ImageDigest) -> Result<Url, Cause> {
    let base = server.0.trim_end_matches('/');
    Url::parse(&format!("{base}/images/{digest}")).ok().filter(|url| url.scheme() == "http").ok_or_else(
        || {
            Cause::new(Reason::ImageUnavailable, format!("`{}` is not an image server", shortened(&server.0)))
                .advise("give its address as http://HOST:PORT")
        },
    )
}

/// An error of the HTTP client with its causes, without the address.
pub(super) fn said(error: &reqwest::Error) -> String {
    let mut text = String::from("could not be talked to");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// `bytes BEGIN-END/TOTAL`: begin, and total when it is given.
fn range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?.strip_prefix("bytes ")?;
    let (span, total) = text.split_once('/')?;
    let begin = span.split_once('-')?.0.parse().ok()?;
    Some((begin, total.parse().ok()))
}

fn longer(image: &ImageRef) -> Cause {
    Cause::new(
        Reason::DigestMismatch,
        format!("the server sends more than the {} bytes that the event says", image.size_bytes),
    )
    .advise("find out who changed the image on its server")
}
