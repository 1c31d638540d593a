mod power_loss;

use reqwest::StatusCode;
use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, IF_RANGE, RANGE};
use sha2::{Digest, Sha256};

use super::*;

struct Server {
    url: String,
    images: Arc<Images>,
    folder: tempfile::TempDir,
    http: reqwest::Client,
}

impl Server {
    async fn start() -> Self {
        Self::with(|settings| settings).await
    }

    async fn with(change: impl FnOnce(Settings) -> Settings) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::serve(folder, change).await
    }

    async fn serve(folder: tempfile::TempDir, change: impl FnOnce(Settings) -> Settings) -> Self {
        let mut settings = Settings::at(folder.path().join("images"));
        settings.keep_free = 0;
        let images = Images::open(change(settings)).unwrap();
        let listener = listen("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let url = format!("http://{}/images", axum::serve::Listener::local_addr(&listener).unwrap());
        tokio::spawn(axum::serve(listener, routes(Arc::clone(&images))).into_future());
        Self { url, images, folder, http: reqwest::Client::new() }
    }

    async fn put(&self, digest: &str, range: std::ops::Range<usize>, whole: &[u8]) -> Answer {
        let header = format!("bytes {}-{}/{}", range.start, range.end - 1, whole.len());
        let request = self.http.put(format!("{}/{digest}", self.url)).header(CONTENT_RANGE, header);
        Answer::of(request.body(whole[range].to_vec()).send().await.unwrap()).await
    }

    async fn get(&self, digest: &str, headers: &[(reqwest::header::HeaderName, &str)]) -> Answer {
        let mut request = self.http.get(format!("{}/{digest}", self.url));
        for (name, value) in headers {
            request = request.header(name, *value);
        }
        Answer::of(request.send().await.unwrap()).await
    }

    async fn head(&self, digest: &str) -> Answer {
        Answer::of(self.http.head(format!("{}/{digest}", self.url)).send().await.unwrap()).await
    }

    fn files(&self) -> Vec<String> {
        let listed = fs::read_dir(&self.images.settings.folder).unwrap();
        let mut names: Vec<_> = listed.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    async fn of(response: reqwest::Response) -> Self {
        let (status, headers) = (response.status(), response.headers().clone());
        Self { status, headers, body: response.bytes().await.unwrap().to_vec() }
    }

    fn offset(&self) -> Option<u64> {
        self.headers.get("upload-offset").map(|v| v.to_str().unwrap().parse().unwrap())
    }

    fn reason(&self) -> Reason {
        serde_json::from_slice::<Cause>(&self.body).unwrap().reason
    }
}

/// A raw disk of 3 MiB in which no two parts are alike, and its digest.
fn disk() -> (Vec<u8>, String) {
    let bytes: Vec<u8> = (0..3u32 << 18).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
    let digest = hex::encode(Sha256::digest(&bytes));
    (bytes, digest)
}

#[tokio::test]
async fn an_upload_in_one_go_is_fetched_whole_and_by_range() {
    let (bytes, digest) = disk();
    let server = Server::start().await;
    let put = server.put(&digest, 0..bytes.len(), &bytes).await;
    assert_eq!(put.status, StatusCode::CREATED, "{}", String::from_utf8_lossy(&put.body));
    assert_eq!(server.files(), [digest.as_str()]);

    let whole = server.get(&digest, &[]).await;
    assert!(whole.status == StatusCode::OK && whole.body == bytes);
    let etag = whole.headers[ETAG].to_str().unwrap().to_owned();
    assert_eq!(etag, format!("\"{digest}\""));
    let part = server.get(&digest, &[(RANGE, "bytes=1000-1999"), (IF_RANGE, &etag)]).await;
    assert!(part.status == StatusCode::PARTIAL_CONTENT && part.body == bytes[1000..2000]);
    assert_eq!(part.headers[CONTENT_RANGE], format!("bytes 1000-1999/{}", bytes.len()));
    let rest = server.get(&digest, &[(RANGE, "bytes=3000000-")]).await;
    assert!(rest.status == StatusCode::PARTIAL_CONTENT && rest.body == bytes[3_000_000..]);
    let changed = server.get(&digest, &[(RANGE, "bytes=0-9"), (IF_RANGE, "\"other\"")]).await;
    assert!(changed.status == StatusCode::OK && changed.body == bytes);
    let beyond = server.get(&digest, &[(RANGE, "bytes=99999999-")]).await;
    assert_eq!(beyond.status, StatusCode::RANGE_NOT_SATISFIABLE);
    let head = server.head(&digest).await;
    assert_eq!((head.status, head.headers["content-length"].to_str().unwrap()), (StatusCode::OK, "3145728"));

    assert_eq!(
        server.put(&digest, 0..bytes.len(), &bytes).await.status,
        StatusCode::CREATED,
        "again is the same"
    );
    assert!(server.images.remove(digest.parse().unwrap()).await.unwrap());
    assert_eq!(server.head(&digest).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_upload_goes_on_where_it_stands_even_after_a_restart() {
    let (bytes, digest) = disk();
    let server = Server::start().await;
    let first = server.put(&digest, 0..1_000_001, &bytes).await;
    assert_eq!((first.status, first.offset()), (StatusCode::ACCEPTED, Some(1_000_001)));
    let second = server.put(&digest, 1_000_001..1_500_000, &bytes).await;
    assert_eq!((second.status, second.offset()), (StatusCode::ACCEPTED, Some(1_500_000)));
    for wrong in [0..10, 1_400_000..1_600_000, 1_600_000..bytes.len()] {
        let refused = server.put(&digest, wrong, &bytes).await;
        assert_eq!((refused.status, refused.offset()), (StatusCode::CONFLICT, Some(1_500_000)));
    }
    let head = server.head(&digest).await;
    assert_eq!((head.status, head.offset()), (StatusCode::NOT_FOUND, Some(1_500_000)));

    let again = Server::serve(server.folder, |s| s).await;
    let last = again.put(&digest, 1_500_000..bytes.len(), &bytes).await;
    assert_eq!(last.status, StatusCode::CREATED);
    assert_eq!(again.get(&digest, &[]).await.body, bytes);
    assert_eq!(again.files(), [digest.as_str()]);
}

/// As after a crash between the last byte and the rename.
#[tokio::test]
async fn a_part_that_is_whole_is_verified_when_asked() {
    let (bytes, digest) = disk();
    let server = Server::start().await;
    fs::write(server.images.part_path(digest.parse().unwrap()), &bytes).unwrap();
    assert_eq!(server.head(&digest).await.offset(), Some(bytes.len() as u64));
    let request = server.http.put(format!("{}/{digest}", server.url));
    let request = request.header(CONTENT_RANGE, format!("bytes */{}", bytes.len()));
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    assert_eq!(server.get(&digest, &[]).await.body, bytes);
}

/// Its length is there, and its bytes are not; what was synced is trusted by nothing but its digest.
#[tokio::test]
async fn a_part_that_a_power_cut_spoiled_is_dropped_and_the_next_upload_is_whole() {
    let (bytes, digest) = disk();
    let server = Server::start().await;
    let part = server.images.part_path(digest.parse().unwrap());
    fs::write(&part, vec![0; 1_500_000]).unwrap();
    let refused = server.put(&digest, 1_500_000..bytes.len(), &bytes).await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::UNPROCESSABLE_ENTITY, Reason::DigestMismatch)
    );
    assert_eq!(server.files(), [""; 0]);
    let whole = server.put(&digest, 0..bytes.len(), &bytes).await;
    assert_eq!(whole.status, StatusCode::CREATED);
    assert_eq!(server.get(&digest, &[]).await.body, bytes);
}

#[tokio::test]
async fn a_connection_that_breaks_keeps_what_came() {
    let (bytes, digest) = disk();
    let server = Server::with(|s| Settings { stall: Duration::from_millis(300), ..s }).await;
    // Then silence: the stall ends the request, not the connection.
    let stalled = futures::StreamExt::chain(
        futures::stream::iter([Ok::<_, io::Error>(bytes::Bytes::from(bytes[..2_000_000].to_vec()))]),
        futures::stream::pending(),
    );
    let request = server
        .http
        .put(format!("{}/{digest}", server.url))
        .header(CONTENT_RANGE, format!("bytes 0-{}/{}", bytes.len() - 1, bytes.len()))
        .body(reqwest::Body::wrap_stream(stalled));
    let answer = Answer::of(request.send().await.unwrap()).await;
    assert_eq!((answer.status, answer.offset()), (StatusCode::REQUEST_TIMEOUT, Some(2_000_000)));
    let rest = server.put(&digest, 2_000_000..bytes.len(), &bytes).await;
    assert_eq!(rest.status, StatusCode::CREATED);
}

#[tokio::test]
async fn one_digest_has_one_writer() {
    let (bytes, digest) = disk();
    let server = Server::with(|s| Settings { uploads: 1, ..s }).await;
    let claim = upload::Claim::take(&server.images, digest.parse().unwrap()).unwrap();
    let refused = server.put(&digest, 0..bytes.len(), &bytes).await;
    assert_eq!((refused.status, refused.reason()), (StatusCode::LOCKED, Reason::TooBusy));
    drop(claim);
    let permit = server.images.writers.clone().try_acquire_owned().unwrap();
    let refused = server.put(&digest, 0..bytes.len(), &bytes).await;
    assert_eq!((refused.status, refused.reason()), (StatusCode::SERVICE_UNAVAILABLE, Reason::TooBusy));
    drop(permit);
    assert_eq!(server.put(&digest, 0..bytes.len(), &bytes).await.status, StatusCode::CREATED);
}

#[tokio::test]
async fn what_is_refused_leaves_nothing() {
    let (bytes, digest) = disk();
    let server = Server::start().await;
    let other = "ab".repeat(32);
    let refused = server.put(&other, 0..bytes.len(), &bytes).await;
    assert_eq!(
        (refused.status, refused.reason()),
        (StatusCode::UNPROCESSABLE_ENTITY, Reason::DigestMismatch)
    );
    let odd = &bytes[..bytes.len() - 1];
    let refused = server.put(&hex::encode(Sha256::digest(odd)), 0..odd.len(), odd).await;
    assert_eq!((refused.status, refused.reason()), (StatusCode::UNPROCESSABLE_ENTITY, Reason::ImageRefused));
    assert_eq!(server.put("..%2f..%2fetc%2fpasswd", 0..9, &bytes).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(server.get("nonsense", &[]).await.status, StatusCode::BAD_REQUEST);
    assert_eq!(server.get(&digest, &[]).await.reason(), Reason::ImageNotFound);
    assert_eq!(server.files(), [""; 0]);
}

#[tokio::test]
async fn a_full_disk_is_refused_before_it_is_full() {
    let (bytes, digest) = disk();
    let server = Server::with(|s| Settings { keep_free: u64::MAX / 2, ..s }).await;
    let refused = server.put(&digest, 0..bytes.len(), &bytes).await;
    assert_eq!((refused.status, refused.offset()), (StatusCode::INSUFFICIENT_STORAGE, Some(0)));
    assert_eq!(refused.reason(), Reason::DiskFull);
}

#[tokio::test]
async fn parts_of_dead_uploads_are_swept_after_a_day_and_whole_images_never() {
    let (bytes, digest) = disk();
    let server = Server::start().await;
    server.put(&digest, 0..bytes.len(), &bytes).await;
    server.put(&"cd".repeat(32), 0..1000, &bytes).await;
    let day = Duration::from_secs(24 * 3600);
    assert_eq!(server.images.sweep(SystemTime::now() + day / 2).await.unwrap(), 0);
    let claim = upload::Claim::take(&server.images, "cd".repeat(32).parse().unwrap()).unwrap();
    assert_eq!(
        server.images.sweep(SystemTime::now() + day * 2).await.unwrap(),
        0,
        "one that is being written stays"
    );
    drop(claim);
    assert_eq!(server.images.sweep(SystemTime::now() + day * 2).await.unwrap(), 1);
    assert_eq!(server.files(), [digest.as_str()]);
}
