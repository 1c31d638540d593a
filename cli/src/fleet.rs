//! The connection to the coordinator: one channel, a deadline on every request, and failures in our words.
//!
//! The first connection is made before anything is asked, so that a coordinator that is not there is told at once
//! from one that went away with our request. Later ones the channel makes by itself.

pub(crate) mod backoff;
pub(crate) mod paging;
pub(crate) mod target;
pub(crate) mod watch;

use std::error::Error;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::status::{DOMAIN, WHO, from_status};
use dewpoint_proto::wire::fleet::events_client::EventsClient;
use dewpoint_proto::wire::fleet::fleet_client::FleetClient;
use dewpoint_proto::wire::fleet::hosts_client::HostsClient;
use dewpoint_proto::wire::fleet::images_client::ImagesClient;
use dewpoint_proto::wire::fleet::networks_client::NetworksClient;
use dewpoint_proto::wire::fleet::vms_client::VmsClient;
use dewpoint_proto::wire::fleet::{GetHostRequest, Host};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;

use crate::args::Global;
use crate::args::values::HostRef;
use crate::config;
use crate::failure::Failure;
use target::{Plaintext, Target};

/// What every request but watches and uploads may take.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// How soon a connection that died silently is noticed: one interval and one timeout.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// A page of a list, each entry with its body at the worst.
const MESSAGE_BYTES: usize = 32 * 1024 * 1024;

/// The coordinator, connected.
pub(crate) struct Fleet {
    channel: Channel,
    target: Target,
    /// Also holds for the image server, which the coordinator names.
    pub(crate) plaintext: Plaintext,
}

macro_rules! clients {
    ($($name:ident: $client:ident),*) => {
        $(pub(crate) fn $name(&self) -> $client<Channel> {
            $client::new(self.channel.clone()).max_decoding_message_size(MESSAGE_BYTES)
        })*
    };
}

impl Fleet {
    clients!(
        vms: VmsClient,
        events: EventsClient,
        hosts: HostsClient,
        fleet: FleetClient,
        images: ImagesClient,
        networks: NetworksClient
    );

    /// Connects to the coordinator that the command line, the environment or the config file names.
    ///
    /// # Errors
    /// `PLAINTEXT_REFUSED`, `INVALID`, or `UNREACHABLE` after [`CONNECT`].
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let target = config::coordinator(global)?;
        let plaintext = global.plaintext();
        let endpoint = Endpoint::from_shared(target.admitted(plaintext)?.to_owned())
            .map_err(Failure::internal)?
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(KEEP_ALIVE)
            .keep_alive_while_idle(true)
            .user_agent(concat!("dewpoint/", env!("CARGO_PKG_VERSION")))
            .map_err(Failure::internal)?;
        // The connector's own timeout does not cover a peer that accepts and stays silent on a Unix socket.
        match tokio::time::timeout(CONNECT + Duration::from_secs(1), endpoint.connect()).await {
            Ok(Ok(channel)) => Ok(Self { channel, target, plaintext }),
            Ok(Err(error)) => Err(unreachable(&target, &innermost(&error)).into()),
            Err(_) => Err(unreachable(&target, "no answer in time").into()),
        }
    }

    /// The answer to one request, within [`DEADLINE`].
    ///
    /// # Errors
    /// The cause that the coordinator gave, or `UNREACHABLE`.
    pub(crate) async fn ask<T>(
        &self,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(DEADLINE, answer).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.failed(&status)),
            Err(_) => Err(unreachable(&self.target, "no answer in time").into()),
        }
    }

    /// A status as the failure that a person is told of.
    pub(crate) fn failed(&self, status: &Status) -> Failure {
        if is_lost(status) || from_status(status).reason == Reason::Unreachable {
            return unreachable(&self.target, &innermost(status)).into();
        }
        Failure::answered(status)
    }

    /// The host that a person named, as the coordinator knows it.
    pub(crate) async fn host(&self, host: &HostRef) -> Result<Host, Failure> {
        self.ask(self.hosts().get_host(request(GetHostRequest { host: host.to_string() }))).await
    }

    /// The id of the host that a person named; asked for only when it is not an id already. Empty for none.
    pub(crate) async fn host_id(&self, host: Option<&HostRef>) -> Result<String, Failure> {
        match host {
            None => Ok(String::new()),
            Some(HostRef::Id(id)) => Ok(id.to_string()),
            Some(named) => Ok(self.host(named).await?.host_id),
        }
    }
}

/// A request that the coordinator, too, gives up after [`DEADLINE`], and that says who asks.
pub(crate) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    // A name that metadata cannot carry is not told: the coordinator keeps where the request came from anyway.
    if let Ok(who) = who().parse() {
        request.metadata_mut().insert(WHO, who);
    }
    request
}

/// The person at this command, as far as the system says: `ann@ops1`, the one behind `sudo`.
fn who() -> String {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let machine = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    format!("{}@{}", user.unwrap_or_else(|| "unnamed".to_owned()), machine.trim())
}

/// Whether the wire failed rather than the coordinator answering: what was asked may have been done or not.
pub(crate) fn is_lost(status: &Status) -> bool {
    if status.get_details_error_info().is_some_and(|info| info.domain == DOMAIN) {
        return false;
    }
    match status.code() {
        Code::Unavailable | Code::Cancelled | Code::DeadlineExceeded => true,
        // tonic gives a broken connection these codes, and then keeps the error below it.
        Code::Unknown | Code::Internal => status.source().is_some(),
        _ => false,
    }
}

fn unreachable(target: &Target, detail: &str) -> Cause {
    Cause::new(Reason::Unreachable, format!("the coordinator at {target} does not answer: {detail}"))
        .advise("check that it runs, and that --coordinator or DEWPOINT_COORDINATOR names it")
        .with("coordinator", target)
}

/// The innermost error: `Connection refused`, where the outer ones only say that there was an error.
fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut inner = error;
    while let Some(next) = inner.source() {
        inner = next;
    }
    match inner.downcast_ref::<Status>() {
        Some(status) => status.message().to_owned(),
        None => inner.to_string(),
    }
}
