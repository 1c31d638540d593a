//! What nothing can be faster than on this machine: a bare round trip, a bare fsync, a bare SQLite loop, a bare process.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use dewpoint_proto::wire::fleet::hosts_client::HostsClient;
use dewpoint_proto::wire::fleet::hosts_server::{Hosts, HostsServer};
use dewpoint_proto::wire::fleet::{
    CordonHostRequest, EndRecoveryRequest, EndRecoveryResponse, GetHostRequest, Host, ListHostsRequest,
    ListHostsResponse, PlanReconcileRequest, ReconcileHostRequest, ReconcilePlan, ReplaceHostRequest,
    ReplaceHostResponse, RetireHostRequest, RetireHostResponse, SetHoldRequest, SetHoldResponse,
    UncordonHostRequest,
};
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, async_trait};

/// A gRPC server that answers at once with nothing, and its caller.
pub struct Echo {
    client: HostsClient<Channel>,
    server: AbortHandle,
}

impl Echo {
    /// Starts it on loopback.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn start() -> Self {
        let listener =
            TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| panic!("loopback: {error}"));
        let address = listener.local_addr().unwrap_or_else(|error| panic!("loopback: {error}"));
        let served = Server::builder().add_service(HostsServer::new(Nothing));
        let server =
            tokio::spawn(served.serve_with_incoming(TcpListenerStream::new(listener))).abort_handle();
        let endpoint =
            Endpoint::from_shared(format!("http://{address}")).unwrap_or_else(|error| panic!("{error}"));
        let channel = endpoint.connect().await.unwrap_or_else(|error| panic!("{error:?}"));
        Self { client: HostsClient::new(channel), server }
    }

    /// One empty call, there and back.
    ///
    /// # Panics
    /// When it fails.
    pub async fn round_trip(&mut self) -> Duration {
        let began = Instant::now();
        let answered = self.client.list_hosts(ListHostsRequest::default()).await;
        answered.unwrap_or_else(|status| panic!("{status}"));
        began.elapsed()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.server.abort();
    }
}

struct Nothing;

#[async_trait]
impl Hosts for Nothing {
    async fn list_hosts(&self, _: Request<ListHostsRequest>) -> Result<Response<ListHostsResponse>, Status> {
        Ok(Response::new(ListHostsResponse::default()))
    }

    async fn get_host(&self, _: Request<GetHostRequest>) -> Result<Response<Host>, Status> {
        Ok(Response::new(Host::default()))
    }

    async fn cordon_host(&self, _: Request<CordonHostRequest>) -> Result<Response<Host>, Status> {
        Ok(Response::new(Host::default()))
    }

    async fn uncordon_host(&self, _: Request<UncordonHostRequest>) -> Result<Response<Host>, Status> {
        Ok(Response::new(Host::default()))
    }

    async fn set_hold(&self, _: Request<SetHoldRequest>) -> Result<Response<SetHoldResponse>, Status> {
        Ok(Response::new(SetHoldResponse::default()))
    }

    async fn end_recovery(
        &self,
        _: Request<EndRecoveryRequest>,
    ) -> Result<Response<EndRecoveryResponse>, Status> {
        Ok(Response::new(EndRecoveryResponse::default()))
    }

    async fn plan_reconcile(
        &self,
        _: Request<PlanReconcileRequest>,
    ) -> Result<Response<ReconcilePlan>, Status> {
        Ok(Response::new(ReconcilePlan::default()))
    }

    async fn reconcile_host(
        &self,
        _: Request<ReconcileHostRequest>,
    ) -> Result<Response<ReconcilePlan>, Status> {
        Ok(Response::new(ReconcilePlan::default()))
    }

    async fn retire_host(
        &self,
        _: Request<RetireHostRequest>,
    ) -> Result<Response<RetireHostResponse>, Status> {
        Ok(Response::new(RetireHostResponse::default()))
    }

    async fn replace_host(
        &self,
        _: Request<ReplaceHostRequest>,
    ) -> Result<Response<ReplaceHostResponse>, Status> {
        Ok(Response::new(ReplaceHostResponse::default()))
    }
}

/// A file that grows by one page and is synced, as SQLite's log is.
#[derive(Debug)]
pub struct Appended(File);

impl Appended {
    /// A fresh file in a folder.
    ///
    /// # Panics
    /// When it cannot be made.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        let path = dir.join("appended");
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
        Self(file.unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// Appends a page and waits for the disk.
    ///
    /// # Panics
    /// When it cannot be written.
    pub fn page(&mut self) -> Duration {
        let began = Instant::now();
        self.0.write_all(&[0x5a; 4096]).unwrap_or_else(|error| panic!("append: {error}"));
        self.0.sync_data().unwrap_or_else(|error| panic!("fsync: {error}"));
        began.elapsed()
    }
}

/// Writes the rows of a database again, into an empty one of the same schema, in groups of one transaction each:
/// prepared inserts, WAL, `synchronous=FULL`, nothing else. `tables` are written side by side, a row each for an event.
/// The result is events a second.
///
/// # Panics
/// When the database is not as expected.
#[must_use]
pub fn rewrite(source: &Path, tables: &[&str], group: usize, dir: &Path) -> f64 {
    let from = open(source);
    let into = open(&dir.join("bare.db"));
    into.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON;")
        .unwrap_or_else(|error| panic!("bare.db: {error}"));
    copy_schema(&from, &into);
    let rows: Vec<_> = tables.iter().map(|table| Rows::of(&from, table)).collect();
    let count = rows[0].rows.len();
    let began = Instant::now();
    for first in (0..count).step_by(group) {
        let write = || -> rusqlite::Result<()> {
            into.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
            for at in first..count.min(first + group) {
                for table in &rows {
                    into.prepare_cached(&table.insert)?.execute(params_from_iter(&table.rows[at]))?;
                }
            }
            into.prepare_cached("COMMIT")?.execute([]).map(drop)
        };
        write().unwrap_or_else(|error| panic!("bare.db: {error}"));
    }
    rate(count, began.elapsed())
}

struct Rows {
    insert: String,
    rows: Vec<Vec<Value>>,
}

impl Rows {
    fn of(from: &Connection, table: &str) -> Self {
        let read = || -> rusqlite::Result<Self> {
            let mut all = from.prepare(&format!("SELECT * FROM {table}"))?;
            let columns = all.column_count();
            let marks = vec!["?"; columns].join(", ");
            let rows = all.query_map([], |row| (0..columns).map(|at| row.get(at)).collect())?;
            Ok(Self {
                insert: format!("INSERT INTO {table} VALUES ({marks})"),
                rows: rows.collect::<Result<_, _>>()?,
            })
        };
        read().unwrap_or_else(|error| panic!("{table}: {error}"))
    }
}

fn copy_schema(from: &Connection, into: &Connection) {
    let copy = || -> rusqlite::Result<()> {
        let mut all =
            from.prepare("SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")?;
        let all = all.query_map([], |row| row.get::<_, String>(0))?;
        all.into_iter().try_for_each(|sql| into.execute_batch(&sql?))
    };
    copy().unwrap_or_else(|error| panic!("the schema: {error}"));
}

fn open(path: &Path) -> Connection {
    Connection::open(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// So many a second.
#[expect(clippy::cast_precision_loss, reason = "counts of a benchmark")]
#[must_use]
pub fn rate(count: usize, span: Duration) -> f64 {
    count as f64 / span.as_secs_f64()
}

/// What the benchmark's own binary is called with, to be [`Bare::start`]'s process.
pub const BARE_PROCESS: &str = "a-bare-process-connected-with-libvirt";

/// A process that has connected with libvirt's client library and does nothing.
#[derive(Debug)]
pub struct Bare(Child);

impl Bare {
    /// Starts it, connected on return.
    ///
    /// # Panics
    /// When it cannot be started.
    #[must_use]
    pub fn start() -> Self {
        let own = std::env::current_exe().unwrap_or_else(|error| panic!("where am I: {error}"));
        let mut command = Command::new(own);
        command.arg(BARE_PROCESS).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("a bare process: {error}"));
        let mut said = String::new();
        if let Some(out) = child.stdout.as_mut() {
            let _ = std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut said);
        }
        assert_eq!(said.trim(), "connected", "the bare process");
        Self(child)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// The process itself: connects, says so, and waits until nobody holds its stdin.
    pub fn be() {
        let libvirt = crate::host::Libvirt::connect();
        println!("connected");
        let _ = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        drop(libvirt);
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
