//! Image files over HTTP: `GET` and `HEAD` with a range, `PUT` with `Content-Range`.
//!
//! | answer to `PUT` | means |
//! |---|---|
//! | 201 | whole and verified, now or before; the body says what was found |
//! | 202 + `Upload-Offset` | stored, and more is missing |
//! | 400 | the request makes no sense; with `Upload-Offset`: the bytes before it were stored |
//! | 408 + `Upload-Offset` | no byte came for too long |
//! | 409 + `Upload-Offset` | the range does not begin where the part ends |
//! | 422 | the bytes are not the digest's, or no image that can be taken; the part is gone |
//! | 423, 503 | another uploads this image; too many uploads at a time |
//! | 507 + `Upload-Offset` | no room; the part stays for a day |
//!
//! `HEAD` of an image that is not whole: 404 with `Upload-Offset`. Every refusal has a `Cause` as its JSON body.

use std::io::SeekFrom;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use axum::{Json, Router};
use dewpoint_common::image::Shape;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::spec::ImageDigest;
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncSeekExt};
use tokio::net::TcpListener;
use tokio_util::io::ReaderStream;

use super::range::{Wanted, brought, wanted};
use super::upload::{Refusal, Stored, receive};
use super::{Images, storage_error};

const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
/// Memory that one download takes.
const READ: usize = 256 * 1024;

/// The routes, to be served on a listener of their own.
pub fn routes(images: Arc<Images>) -> Router {
    Router::new().route("/images/{digest}", get(read).put(write)).with_state(images)
}

/// A listener whose connections end when a peer takes no byte for a minute.
///
/// # Errors
/// When the address cannot be bound.
pub async fn listen(address: SocketAddr) -> std::io::Result<impl axum::serve::Listener<Addr = SocketAddr>> {
    let listener = TcpListener::bind(address).await?;
    Ok(listener.tap_io(|stream| {
        use nix::sys::socket::{setsockopt, sockopt};
        if let Err(error) = setsockopt(stream, sockopt::TcpUserTimeout, &60_000) {
            tracing::debug!(%error, "a connection has no timeout for a peer that does not read");
        }
    }))
}

/// `GET`, and `HEAD` (axum drops the body).
async fn read(
    State(images): State<Arc<Images>>,
    Path(text): Path<String>,
    method: Method,
    headers: HeaderMap,
) -> Response {
    let digest: ImageDigest = match text.parse() {
        Ok(digest) => digest,
        Err(cause) => return refuse(StatusCode::BAD_REQUEST, cause, None),
    };
    let size = match images.find(digest).await {
        Ok(Some(found)) => found.size_bytes,
        Ok(None) => return not_found(&images, digest).await,
        Err(cause) => return refuse(StatusCode::INTERNAL_SERVER_ERROR, cause, None),
    };
    let etag = format!("\"{digest}\"");
    let header = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    if header(header::IF_NONE_MATCH).is_some_and(|tags| tags.contains(&etag)) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, etag)]).into_response();
    }
    let range = header(header::RANGE).filter(|_| header(header::IF_RANGE).is_none_or(|tag| tag == etag));
    let (status, first, length) = match wanted(range, size) {
        Wanted::Whole => (StatusCode::OK, 0, size),
        Wanted::Part { first, last } => (StatusCode::PARTIAL_CONTENT, first, last - first + 1),
        Wanted::Outside => {
            let cause =
                Cause::new(Reason::Invalid, format!("the range is outside of the image's {size} bytes"))
                    .advise("ask for bytes that are there");
            let mut response = refuse(StatusCode::RANGE_NOT_SATISFIABLE, cause, None);
            insert(&mut response, header::CONTENT_RANGE, &format!("bytes */{size}"));
            return response;
        }
    };
    let body = if method == Method::HEAD {
        Ok(Body::empty())
    } else {
        contents(&images, digest, first, length).await
    };
    let mut response = match body {
        Ok(body) => (status, body).into_response(),
        Err((status, cause)) => return refuse(status, cause, None),
    };
    insert(&mut response, header::CONTENT_LENGTH, &length.to_string());
    insert(&mut response, header::ETAG, &etag);
    insert(&mut response, header::ACCEPT_RANGES, "bytes");
    insert(&mut response, header::CONTENT_TYPE, "application/octet-stream");
    insert(&mut response, header::CACHE_CONTROL, "public, max-age=31536000, immutable");
    if status == StatusCode::PARTIAL_CONTENT {
        insert(&mut response, header::CONTENT_RANGE, &format!("bytes {first}-{}/{size}", first + length - 1));
    }
    response
}

async fn contents(
    images: &Images,
    digest: ImageDigest,
    first: u64,
    length: u64,
) -> Result<Body, (StatusCode, Cause)> {
    let permit = Arc::clone(&images.readers).try_acquire_owned().map_err(|_| {
        let cause =
            Cause::new(Reason::TooBusy, "too many images are being fetched").advise("try again later");
        (StatusCode::SERVICE_UNAVAILABLE, cause)
    })?;
    let failed =
        |e: std::io::Error| (StatusCode::INTERNAL_SERVER_ERROR, storage_error("an image cannot be read", &e));
    let mut file = tokio::fs::File::open(images.path(digest)).await.map_err(failed)?;
    file.seek(SeekFrom::Start(first)).await.map_err(failed)?;
    let stream = ReaderStream::with_capacity(file.take(length), READ).map(move |chunk| {
        let _held_until_the_end = &permit;
        chunk
    });
    Ok(Body::from_stream(stream))
}

async fn not_found(images: &Arc<Images>, digest: ImageDigest) -> Response {
    let cause = Cause::new(Reason::ImageNotFound, format!("image {digest} is not here"))
        .advise("see `dewpoint image ls`");
    match images.part_length(digest).await {
        Ok(offset) => refuse(StatusCode::NOT_FOUND, cause, offset),
        Err(cause) => refuse(StatusCode::INTERNAL_SERVER_ERROR, cause, None),
    }
}

async fn write(
    State(images): State<Arc<Images>>,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let header = |name| headers.get(name).and_then(|v: &HeaderValue| v.to_str().ok());
    let length = header(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let parsed = text
        .parse::<ImageDigest>()
        .and_then(|digest| Ok((digest, brought(header(header::CONTENT_RANGE), length)?)));
    let (digest, brought) = match parsed {
        Ok(parsed) => parsed,
        Err(cause) => return refuse(StatusCode::BAD_REQUEST, cause, None),
    };
    match receive(&images, digest, brought, body.into_data_stream()).await {
        Ok(Stored::Whole(found)) => {
            tracing::info!(%digest, size_bytes = found.size_bytes, "an image is here");
            (StatusCode::CREATED, Json(described(digest, &found))).into_response()
        }
        Ok(Stored::Part { offset }) => {
            (StatusCode::ACCEPTED, [(UPLOAD_OFFSET, offset.to_string())]).into_response()
        }
        Err(refusal) => answer(digest, refusal),
    }
}

fn answer(digest: ImageDigest, refusal: Refusal) -> Response {
    let (status, cause, offset) = match refusal {
        Refusal::Invalid(cause) => (StatusCode::BAD_REQUEST, cause, None),
        Refusal::Locked(cause) => (StatusCode::LOCKED, cause, None),
        Refusal::TooMany(cause) => (StatusCode::SERVICE_UNAVAILABLE, cause, None),
        Refusal::WrongOffset(offset) => {
            let cause = Cause::new(Reason::Invalid, format!("the upload stands at {offset}"))
                .advise("go on from Upload-Offset");
            (StatusCode::CONFLICT, cause, Some(offset))
        }
        Refusal::Image(cause) => (StatusCode::UNPROCESSABLE_ENTITY, cause, None),
        Refusal::Full(cause, offset) => (StatusCode::INSUFFICIENT_STORAGE, cause, Some(offset)),
        Refusal::Stalled(cause, offset) => (StatusCode::REQUEST_TIMEOUT, cause, Some(offset)),
        Refusal::Broken(cause, offset) => (StatusCode::BAD_REQUEST, cause, Some(offset)),
        Refusal::Storage(cause) => (StatusCode::INTERNAL_SERVER_ERROR, cause, None),
    };
    tracing::info!(%digest, status = status.as_u16(), reason = %cause.reason, "an upload was not taken: {cause}");
    refuse(status, cause, offset)
}

fn described(digest: ImageDigest, found: &Shape) -> serde_json::Value {
    serde_json::json!({
        "digest": digest,
        "format": found.format.as_str(),
        "size_bytes": found.size_bytes,
        "virtual_size_bytes": found.virtual_size_bytes,
    })
}

fn refuse(status: StatusCode, cause: Cause, offset: Option<u64>) -> Response {
    let mut response = (status, Json(cause)).into_response();
    if let Some(offset) = offset {
        insert(&mut response, UPLOAD_OFFSET, &offset.to_string());
    }
    response
}

fn insert(response: &mut Response, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}
