//! Builds all parts, runs them, and drains them: the only place that knows them all.
//!
//! Order of start: lock of the data folder, store, events, image files, listeners; then `SERVING`. Order of stop: the
//! health goes, sessions and watches end, requests under way are answered, the store is closed last.

mod lock;

use std::future::IntoFuture;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use dewpoint_common::durable::Witness;
use dewpoint_common::systemd::Beat;
use dewpoint_common::{message, socket};
use dewpoint_proto::cause::Cause;
use dewpoint_proto::wire::fleet::vms_server::VmsServer;
use futures::Stream;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpIncoming};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::api::Api;
use crate::config::Config;
use crate::events::Events;
use crate::images::{self, Images};
use crate::metrics::RouterMetrics;
use crate::router::{self, Router};
use crate::store::Store;
use crate::store::sqlite::SqliteStore;
pub(crate) use lock::DataLock;

/// A coordinator that runs in this process.
pub struct App;

/// A running coordinator. Dropped without [`Running::shutdown`] it ends at once, as a crash would.
pub struct Running {
    /// gRPC.
    pub grpc_addr: SocketAddr,
    /// Image files over HTTP.
    pub images_addr: SocketAddr,
    /// What its router counted so far.
    pub metrics: Arc<RouterMetrics>,
    stop: CancellationToken,
    drain: Duration,
    health: HealthReporter,
    router: Router,
    events: Events,
    tasks: JoinSet<anyhow::Result<()>>,
    _lock: DataLock,
}

impl App {
    /// Starts everything; returns when callers and agents are answered.
    ///
    /// # Errors
    /// When the data folder is in use or unusable, or an address cannot be bound.
    pub async fn start(config: Config) -> anyhow::Result<Running> {
        Self::start_with(config, None, |_| ()).await
    }

    /// With what no configuration file says: tests shorten the router's waits, and watch the image files.
    pub(crate) async fn start_with(
        config: Config,
        witness: Option<Arc<dyn Witness>>,
        adjust: impl FnOnce(&mut router::Settings) + Send,
    ) -> anyhow::Result<Running> {
        let config = config.checked()?;
        let lock = DataLock::take(&config.data_dir)?;
        let store: Arc<dyn Store> = open_store(&config).await?;
        let stop = CancellationToken::new();
        // A start that fails leaves nothing at work behind it.
        let unless_started = stop.clone().drop_guard();
        let events = Events::start(store, config.events_config(), stop.clone()).await?;
        let images = Images::open_witnessed(config.image_settings(), witness)?;

        let grpc = TcpIncoming::bind(config.listen)
            .with_context(|| format!("cannot listen on {}", config.listen))?
            .with_nodelay(Some(true))
            .with_keepalive(Some(Duration::from_secs(60)));
        let grpc_addr = grpc.local_addr()?;
        let socket = config.socket.as_deref().map(socket::bind).transpose()?;
        let http = images::listen(config.images.listen)
            .await
            .with_context(|| format!("cannot listen on {}", config.images.listen))?;
        let images_addr = axum::serve::Listener::local_addr(&http)?;
        let url = config.images.url.clone().unwrap_or_else(|| format!("http://{images_addr}"));

        let metrics = Arc::new(RouterMetrics::default());
        let mut settings = config.router_settings(url.clone());
        adjust(&mut settings);
        let router =
            Router::new(events.clone(), Arc::clone(&images), settings, Arc::clone(&metrics), stop.clone());
        let api = Api::new(events.clone(), Arc::clone(&images), url, stop.clone());
        let mut tasks = JoinSet::new();
        let (routes, health) = routes(&api, &router).await?;
        if let Some(socket) = socket {
            tasks.spawn(serve_grpc(UnixListenerStream::new(socket), routes.clone(), stop.clone()));
        }
        tasks.spawn(serve_grpc(grpc, routes, stop.clone()));
        tasks.spawn(serve_images(http, Arc::clone(&images), stop.clone()));
        tasks.spawn(sweep_images(images, stop.clone()));
        tracing::info!(message_id = message::READY, grpc = %grpc_addr, images = %images_addr, "ready");
        unless_started.disarm();
        Ok(Running {
            grpc_addr,
            images_addr,
            metrics,
            stop,
            drain: config.drain.0,
            health,
            router,
            events,
            tasks,
            _lock: lock,
        })
    }
}

/// The coordinator's beat: through the thread that writes the store. Whoever beats is the main loop.
pub struct Heart {
    events: Events,
    router: Router,
}

impl Beat for Heart {
    async fn beat(&self) -> Result<String, String> {
        self.events.beat().await.map_err(|cause| cause.text)?;
        let hosts = self.router.connected();
        let noun = if hosts == 1 { "host" } else { "hosts" };
        Ok(format!("serving; {hosts} {noun} connected"))
    }
}

impl Running {
    /// What its watchdog asks.
    #[must_use]
    pub fn heart(&self) -> Heart {
        Heart { events: self.events.clone(), router: self.router.clone() }
    }

    /// Waits until a part dies, which none does by itself.
    ///
    /// # Errors
    /// Why it died.
    pub async fn failed(&mut self) -> anyhow::Result<()> {
        match self.tasks.join_next().await {
            Some(Ok(Ok(()))) | None => anyhow::bail!("a part of the coordinator ended by itself"),
            Some(Ok(Err(error))) => Err(error),
            Some(Err(error)) => Err(error).context("a part of the coordinator died"),
        }
    }

    /// Stops taking work, answers what is under way, and closes the store; cuts off what takes longer than `drain`.
    pub async fn shutdown(mut self) {
        // Who watches the health hears it before its connection goes.
        self.health.set_service_status("", ServingStatus::NotServing).await;
        self.health.set_not_serving::<VmsServer<Api>>().await;
        self.stop.cancel();
        let drained = tokio::time::timeout(self.drain, async {
            self.router.drained().await;
            while self.tasks.join_next().await.is_some() {}
        });
        if drained.await.is_err() {
            tracing::warn!(seconds = self.drain.as_secs(), "what was under way took too long and is cut off");
            self.tasks.shutdown().await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Sessions hold the store, too.
        self.stop.cancel();
    }
}

/// Opening waits for disks, so it gets a thread of its own.
async fn open_store(config: &Config) -> anyhow::Result<Arc<dyn Store>> {
    let path = config.data_dir.join("coordinator.db");
    let opened = tokio::task::spawn_blocking(move || SqliteStore::open(&path)).await?;
    Ok(Arc::new(opened.map_err(Cause::from)?))
}

async fn routes(api: &Api, router: &Router) -> anyhow::Result<(Routes, HealthReporter)> {
    let (health, health_service) = tonic_health::server::health_reporter();
    // The store is open: until here nothing listened.
    health.set_serving::<VmsServer<Api>>().await;
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(dewpoint_proto::wire::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()?;
    let mut routes = Routes::builder();
    routes.add_service(router.service()).add_service(health_service).add_service(reflection);
    api.add_to(&mut routes);
    Ok((routes.routes(), health))
}

async fn serve_grpc<I, C>(incoming: I, routes: Routes, stop: CancellationToken) -> anyhow::Result<()>
where
    I: Stream<Item = std::io::Result<C>>,
    C: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .max_concurrent_streams(256)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stop.cancelled_owned())
        .await
        .context("the gRPC server ended")
}

async fn serve_images(
    listener: impl axum::serve::Listener<Addr = SocketAddr>,
    images: Arc<Images>,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let serve = axum::serve(listener, images::routes(images));
    serve.with_graceful_shutdown(stop.cancelled_owned()).into_future().await.context("the image server ended")
}

/// Between looks for abandoned uploads.
const SWEEP_IMAGES: Duration = Duration::from_secs(3600);

async fn sweep_images(images: Arc<Images>, stop: CancellationToken) -> anyhow::Result<()> {
    let mut ticks = tokio::time::interval(SWEEP_IMAGES);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        if let Err(cause) = images.sweep(SystemTime::now()).await {
            tracing::warn!(reason = %cause.reason, "abandoned uploads were not looked for: {cause}");
        }
    }
}

#[cfg(test)]
mod tests;
