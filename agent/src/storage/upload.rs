//! Puts an image of the cache to the image server, in pieces, from where the server says that it stands.
//!
//! `PUT /images/{digest}` with `Content-Range: bytes BEGIN-END/TOTAL` is answered `201` (whole and verified), `202` or
//! `409` with `Upload-Offset` (continue there), `422` or `507` with a cause. `HEAD` of a half upload is `404` with
//! `Upload-Offset`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dewpoint_proto::cause::{Cause, Reason, shortened};
use dewpoint_proto::spec::{ImageDigest, ImageRef};
use futures::stream::{self, Stream};
use reqwest::header::{CONTENT_LENGTH, CONTENT_RANGE};
use reqwest::{Body, Client, Response, StatusCode, Url};
use tokio::time::{sleep, timeout};

use super::durable::open;
use super::failure::OrFailed;
use super::fetch::{client, image_url, said};
use super::files::Files;
use super::{ImageServer, JobProgress, Seen};

const OFFSET: &str = "upload-offset";
/// One request's bytes: a broken one costs at most these.
const PIECE: u64 = 64 * 1024 * 1024;
/// What is read from the file at a time.
const READ: u64 = 1024 * 1024;
/// Looks in a row, after a piece or a failure, that may show nothing new.
const FRUITLESS: u32 = 6;
/// The server hashes a whole image before it answers the last piece.
const VERDICT: Duration = Duration::from_secs(1800);
const MOST_ANSWER: usize = 64 * 1024;

impl Files {
    pub(super) async fn is_uploaded(&self, digest: ImageDigest, to: &ImageServer) -> Seen<()> {
        let target = match Target::new(to, digest, self.inner.settings.stall) {
            Ok(target) => target,
            Err(cause) => return Seen::Unknown(cause.text),
        };
        match target.head().await {
            Ok(Stands::Whole) => Seen::There(()),
            Ok(Stands::At(_)) => Seen::Absent,
            Err(cause) => Seen::Unknown(cause.text),
        }
    }

    pub(super) async fn put(
        &self,
        image: &ImageRef,
        to: &ImageServer,
        progress: &JobProgress,
    ) -> Result<(), Cause> {
        let target = Target::new(to, image.digest, self.inner.settings.stall)?;
        let path = self.inner.layout.image(image.digest);
        let mut fruitless = 0;
        let mut best = 0;
        let mut stands = target.head().await;
        let mut trust = match &stands {
            Ok(Stands::At(0) | Stands::Whole) => Trust::Whole,
            Ok(Stands::At(_)) | Err(_) => Trust::Resumed,
        };
        loop {
            let at = match &stands {
                Ok(Stands::Whole) => {
                    progress.set(image.size_bytes, image.size_bytes);
                    return Ok(());
                }
                Ok(Stands::At(at)) => (*at).min(image.size_bytes),
                Err(cause) if cause.reason == Reason::DigestMismatch && trust == Trust::Resumed => {
                    trust = Trust::Anew;
                    best = 0;
                    stands = target.head().await;
                    continue;
                }
                // What the server refuses, it would refuse again.
                Err(cause) if cause.reason != Reason::ImageUnavailable => return Err(cause.clone()),
                Err(_) => best,
            };
            fruitless = if at > best { 0 } else { fruitless + 1 };
            best = best.max(at);
            if fruitless > FRUITLESS {
                return Err(stands.err().unwrap_or_else(|| target.unavailable("takes no more of it")));
            }
            if stands.is_err() {
                trust = trust.broken();
                sleep(self.inner.settings.stall.min(Duration::from_secs(1)) * fruitless / 2).await;
                stands = target.head().await;
                continue;
            }
            progress.set(at, image.size_bytes);
            stands = target.put(&path, at, image.size_bytes, progress).await;
        }
    }
}

/// What a server's bytes of an image are worth when they turn out to be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// All of them were sent in one go: what is wrong is the file here.
    Whole,
    /// Some were sent before: the server may have lost its power since, and has dropped them now. Once more.
    Resumed,
    /// They were sent once more.
    Anew,
}

impl Trust {
    /// The wire broke, or the server was away.
    fn broken(self) -> Self {
        if self == Self::Anew { Self::Anew } else { Self::Resumed }
    }
}

/// How far a server is with an image.
#[derive(Debug)]
enum Stands {
    Whole,
    At(u64),
}

struct Target {
    client: Client,
    url: Url,
    stall: Duration,
}

impl Target {
    fn new(server: &ImageServer, digest: ImageDigest, stall: Duration) -> Result<Self, Cause> {
        Ok(Self { client: client(stall)?, url: image_url(server, digest)?, stall })
    }

    async fn head(&self) -> Result<Stands, Cause> {
        let answer = timeout(self.stall, self.client.head(self.url.clone()).send()).await;
        let response = answer
            .map_err(|_| self.unavailable("did not answer"))?
            .map_err(|error| self.unavailable(&said(&error)))?;
        match response.status() {
            StatusCode::OK => Ok(Stands::Whole),
            StatusCode::NOT_FOUND => Ok(Stands::At(offset(&response).unwrap_or(0))),
            status => Err(self.unavailable(&format!("answered {status}"))),
        }
    }

    /// One piece from `at`; also an empty last one, for the verdict on what is there.
    async fn put(&self, path: &Path, at: u64, total: u64, progress: &JobProgress) -> Result<Stands, Cause> {
        let end = total.min(at.saturating_add(PIECE));
        let sent = Arc::new(tokio::sync::Notify::new());
        let body =
            Body::wrap_stream(pieces(path.to_owned(), at, end, (progress.clone(), total), Arc::clone(&sent)));
        let range =
            if at == end { format!("bytes */{total}") } else { format!("bytes {at}-{}/{total}", end - 1) };
        let request = self
            .client
            .put(self.url.clone())
            .header(CONTENT_RANGE, range)
            .header(CONTENT_LENGTH, end - at)
            .body(body);
        let mut answer = std::pin::pin!(request.send());
        let response = loop {
            let patience = if progress.get().0 >= end { VERDICT } else { self.stall };
            tokio::select! {
                answer = &mut answer => break answer,
                alive = timeout(patience, sent.notified()) => {
                    alive.map_err(|_| self.unavailable("takes nothing more"))?;
                }
            }
        };
        self.verdict(response.map_err(|error| self.unavailable(&said(&error)))?).await
    }

    async fn verdict(&self, response: Response) -> Result<Stands, Cause> {
        let status = response.status();
        match (status, offset(&response)) {
            (StatusCode::OK | StatusCode::CREATED, _) => Ok(Stands::Whole),
            (StatusCode::ACCEPTED | StatusCode::CONFLICT, Some(at)) => Ok(Stands::At(at)),
            (StatusCode::UNPROCESSABLE_ENTITY | StatusCode::INSUFFICIENT_STORAGE, _) => {
                Err(self.told(status, response).await)
            }
            _ => Err(self.unavailable(&format!("answered {status}"))),
        }
    }

    /// The cause that the server gave, or ours for one that gave none.
    async fn told(&self, status: StatusCode, mut response: Response) -> Cause {
        let mut bytes = Vec::new();
        while let Ok(Ok(Some(chunk))) = timeout(self.stall, response.chunk()).await {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > MOST_ANSWER {
                break;
            }
        }
        let reason =
            if status == StatusCode::INSUFFICIENT_STORAGE { Reason::DiskFull } else { Reason::ImageRefused };
        serde_json::from_slice::<Cause>(&bytes).map_or_else(
            |_| {
                Cause::new(reason.clone(), format!("the image server answered {status}"))
                    .advise("see the coordinator's log, and what stands between it and this host")
            },
            |told| {
                let text = format!("the image server refused the image: {}", shortened(&told.text));
                Cause::new(told.reason, text).advise(shortened(&told.advice))
            },
        )
    }

    fn unavailable(&self, what: &str) -> Cause {
        Cause::new(Reason::ImageUnavailable, format!("the image server {what}"))
            .advise("see that the coordinator runs and is reachable from this host; the upload resumes")
            .with("url", &self.url)
    }
}

fn offset(response: &Response) -> Option<u64> {
    response.headers().get(OFFSET)?.to_str().ok()?.parse().ok()
}

/// The bytes from `at` to `end`, read on blocking threads as the connection takes them.
fn pieces(
    path: PathBuf,
    at: u64,
    end: u64,
    (progress, total): (JobProgress, u64),
    sent: Arc<tokio::sync::Notify>,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    stream::try_unfold(at, move |at| {
        let (path, progress, sent) = (path.clone(), progress.clone(), Arc::clone(&sent));
        async move {
            // Asked for the next piece: the one before it is on its way.
            progress.set(at, total);
            sent.notify_one();
            if at >= end {
                return Ok(None);
            }
            let read = tokio::task::spawn_blocking(move || read_piece(&path, at, end.min(at + READ)));
            let piece = read.await.map_err(io::Error::other)??;
            let next = at + piece.len() as u64;
            Ok(Some((piece, next)))
        }
    })
}

fn read_piece(path: &Path, at: u64, end: u64) -> io::Result<Bytes> {
    use std::os::unix::fs::FileExt;
    let mut piece = vec![0; usize::try_from(end - at).map_err(io::Error::other)?];
    open(path)?.read_exact_at(&mut piece, at)?;
    Ok(piece.into())
}

impl Files {
    /// Whether the cache has an image to put.
    pub(super) async fn check_cached(&self, image: &ImageRef) -> Result<(), Cause> {
        let path = self.inner.layout.image(image.digest);
        let length = self
            .short(move |_| {
                let file = open(&path).or_failed("open the image", &path)?;
                Ok(file.metadata().or_failed("look at the image", &path)?.len())
            })
            .await?;
        if length == image.size_bytes {
            return Ok(());
        }
        Err(Cause::new(
            Reason::StorageError,
            format!("the image in the cache is {length} bytes long, not {}", image.size_bytes),
        )
        .advise("find who wrote into the cache, remove that file, and ask again"))
    }
}
