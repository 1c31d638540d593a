//! The coordinator's API, as a caller uses it: refusals come back as causes, events are followed to their end.

use std::time::Duration;

use dewpoint_proto::cause::Cause;
use dewpoint_proto::outcome::Outcome;
use dewpoint_proto::status::from_status;
use dewpoint_proto::wire::event::VmState;
use dewpoint_proto::wire::fleet::events_client::EventsClient;
use dewpoint_proto::wire::fleet::hosts_client::HostsClient;
use dewpoint_proto::wire::fleet::images_client::ImagesClient;
use dewpoint_proto::wire::fleet::networks_client::NetworksClient;
use dewpoint_proto::wire::fleet::vms_client::VmsClient;
use dewpoint_proto::wire::fleet::{
    CancelEventRequest, CreateVmRequest, DestroyVmRequest, EventOptions, EventRecord, GetEventRequest,
    GetVmRequest, Host, ListHostsRequest, RebootVmRequest, RestoreVmRequest, SnapshotVmRequest,
    StopVmRequest, Vm, VmRequest,
};
use tonic::transport::{Channel, Endpoint};
use tonic::{Response, Status};

use crate::request::{fresh, start, stop};
use crate::wait::{BOOT, EVENT, until};

/// A caller; its connection is made anew when the coordinator was.
#[derive(Clone, Debug)]
pub struct Caller(Channel);

impl Caller {
    /// A caller of the coordinator at that URL; it dials when it first asks.
    ///
    /// # Panics
    /// When that is no URL.
    #[must_use]
    pub fn of(url: &str) -> Self {
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap_or_else(|error| panic!("{url}: {error}"));
        Self(endpoint.connect_timeout(Duration::from_secs(5)).timeout(Duration::from_secs(20)).connect_lazy())
    }

    /// VMs.
    #[must_use]
    pub fn vms(&self) -> VmsClient<Channel> {
        VmsClient::new(self.0.clone())
    }

    /// Events.
    #[must_use]
    pub fn events(&self) -> EventsClient<Channel> {
        EventsClient::new(self.0.clone())
    }

    /// Hosts.
    #[must_use]
    pub fn hosts(&self) -> HostsClient<Channel> {
        HostsClient::new(self.0.clone())
    }

    /// Images.
    #[must_use]
    pub fn images(&self) -> ImagesClient<Channel> {
        ImagesClient::new(self.0.clone())
    }

    /// Networks.
    #[must_use]
    pub fn networks(&self) -> NetworksClient<Channel> {
        NetworksClient::new(self.0.clone())
    }

    /// Asks for what makes an event.
    ///
    /// # Errors
    /// The cause that it is refused with.
    pub async fn ask(&self, request: impl Into<Ask>) -> Result<EventRecord, Cause> {
        let mut vms = self.vms();
        answer(match request.into() {
            Ask::Create(request) => vms.create_vm(*request).await,
            Ask::Start(request) => vms.start_vm(request).await,
            Ask::Stop(request) => vms.stop_vm(request).await,
            Ask::Reboot(request) => vms.reboot_vm(request).await,
            Ask::Snapshot(request) => vms.snapshot_vm(request).await,
            Ask::Restore(request) => vms.restore_vm(request).await,
            Ask::Destroy(request) => vms.destroy_vm(request).await,
            Ask::Cancel(request) => self.events().cancel_event(request).await,
        })
    }

    /// Asks for it, and waits until it has succeeded.
    ///
    /// # Panics
    /// When it is refused or ends otherwise.
    pub async fn done(&self, request: impl Into<Ask>) -> EventRecord {
        let event = self.ask(request).await.unwrap_or_else(|cause| panic!("refused: {cause:?}"));
        self.succeeded(&event.event_id).await
    }

    /// Waits until an event has succeeded.
    ///
    /// # Panics
    /// When it ends otherwise.
    pub async fn succeeded(&self, event: &str) -> EventRecord {
        let event = self.ended(event).await;
        assert_eq!(event.stage, "succeeded", "the {} event: {:#?}", event.kind, event.outcome);
        event
    }

    /// Waits until an event has ended some other way, and says why.
    ///
    /// # Panics
    /// When it succeeds.
    pub async fn did_not_succeed(&self, event: &str) -> (String, Cause) {
        let event = self.ended(event).await;
        let outcome = event.outcome.clone().and_then(|outcome| Outcome::try_from(outcome).ok());
        let cause = outcome.as_ref().and_then(Outcome::cause).cloned();
        let cause = cause.unwrap_or_else(|| panic!("the event should not have succeeded: {event:#?}"));
        (event.stage, cause)
    }

    /// Waits until an event has ended, however it did.
    pub async fn ended(&self, event: &str) -> EventRecord {
        until(&format!("the event {event} ends"), EVENT * 2, async || match self.event(event).await {
            Ok(record) if has_ended(&record) => Ok(record),
            Ok(record) => Err(format!("{}, {:?}", record.stage, record.progress)),
            Err(cause) => Err(cause.to_string()),
        })
        .await
    }

    /// An event.
    ///
    /// # Errors
    /// The coordinator's cause.
    pub async fn event(&self, id: &str) -> Result<EventRecord, Cause> {
        answer(self.events().get_event(GetEventRequest { event_id: id.to_owned() }).await)
    }

    /// A VM, by id or name.
    ///
    /// # Errors
    /// The coordinator's cause.
    pub async fn vm(&self, vm: &str) -> Result<Vm, Cause> {
        answer(self.vms().get_vm(GetVmRequest { vm: vm.to_owned() }).await)
    }

    /// Waits until a VM's host says of it what the predicate looks for.
    pub async fn until_told(&self, vm: &str, what: &str, told: impl Fn(&VmState) -> bool) -> VmState {
        until(&format!("the host tells of {vm} that {what}"), BOOT, async || {
            let seen = self.vm(vm).await.map_err(|cause| cause.to_string())?.observed;
            seen.clone().filter(|seen| told(seen)).ok_or_else(|| format!("{seen:?}"))
        })
        .await
    }

    /// All hosts.
    ///
    /// # Errors
    /// The coordinator's cause.
    pub async fn all_hosts(&self) -> Result<Vec<Host>, Cause> {
        answer(self.hosts().list_hosts(ListHostsRequest::default()).await).map(|listed| listed.hosts)
    }

    /// Asks for the cancel of an event.
    ///
    /// # Errors
    /// The cause that it is refused with.
    pub async fn cancel(&self, event: &str) -> Result<EventRecord, Cause> {
        self.ask(CancelEventRequest { options: fresh(), event_id: event.to_owned() }).await
    }

    /// Powers a VM off as its guest pleases, and on again.
    pub async fn stop_and_start(&self, vm: &str) {
        self.done(stop(vm, 60)).await;
        self.done(start(vm)).await;
    }
}

/// What makes an event.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the requests say what they ask")]
pub enum Ask {
    Create(Box<CreateVmRequest>),
    Start(VmRequest),
    Stop(StopVmRequest),
    Reboot(RebootVmRequest),
    Snapshot(SnapshotVmRequest),
    Restore(RestoreVmRequest),
    Destroy(DestroyVmRequest),
    Cancel(CancelEventRequest),
}

impl Ask {
    /// Its options: the id of the event that it asks for.
    #[must_use]
    pub fn options(&self) -> Option<EventOptions> {
        match self {
            Self::Create(request) => request.options.clone(),
            Self::Start(request) => request.options.clone(),
            Self::Stop(request) => request.options.clone(),
            Self::Reboot(request) => request.options.clone(),
            Self::Snapshot(request) => request.options.clone(),
            Self::Restore(request) => request.options.clone(),
            Self::Destroy(request) => request.options.clone(),
            Self::Cancel(request) => request.options.clone(),
        }
    }

    /// The id of the event that it asks for.
    #[must_use]
    pub fn event_id(&self) -> String {
        self.options().map(|options| options.event_id).unwrap_or_default()
    }

    /// The kind of event.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Start(_) => "start",
            Self::Stop(_) => "stop",
            Self::Reboot(_) => "reboot",
            Self::Snapshot(_) => "snapshot",
            Self::Restore(_) => "restore",
            Self::Destroy(_) => "destroy",
            Self::Cancel(_) => "cancel",
        }
    }

    /// What is particular to it, for people.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Create(request) => {
                format!("from {}, left off: {}, {:?}", request.image, request.leave_off, request.disk_mode())
            }
            Self::Start(_) => String::new(),
            Self::Stop(request) => format!("within {} s, force: {}", request.timeout_seconds, request.force),
            Self::Reboot(request) => format!("within {} s, hard: {}", request.timeout_seconds, request.hard),
            Self::Snapshot(request) => format!("as {}", request.image_name),
            Self::Restore(request) => format!("from {}", request.image),
            Self::Destroy(request) => format!("now: {}", request.now),
            Self::Cancel(request) => format!("of {}", request.event_id),
        }
    }
}

impl From<CreateVmRequest> for Ask {
    fn from(request: CreateVmRequest) -> Self {
        Self::Create(Box::new(request))
    }
}

macro_rules! asks {
    ($($kind:ident($request:ty);)*) => {
        $(impl From<$request> for Ask {
            fn from(request: $request) -> Self {
                Self::$kind(request)
            }
        })*
    };
}

asks! {
    Start(VmRequest);
    Stop(StopVmRequest);
    Reboot(RebootVmRequest);
    Snapshot(SnapshotVmRequest);
    Restore(RestoreVmRequest);
    Destroy(DestroyVmRequest);
    Cancel(CancelEventRequest);
}

/// Whether an event's stage is a last one.
#[must_use]
pub fn has_ended(event: &EventRecord) -> bool {
    !matches!(event.stage.as_str(), "pending" | "assigned" | "accepted" | "running")
}

/// The answer, or the cause of its refusal.
///
/// # Errors
/// See above.
pub fn answer<T>(answered: Result<Response<T>, Status>) -> Result<T, Cause> {
    answered.map(Response::into_inner).map_err(|status| from_status(&status))
}
