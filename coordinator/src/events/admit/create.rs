//! Creates: what can be chosen outside the store is chosen here (addresses, ranked hosts), and what the store turns down
//! because someone else was faster is chosen again, a bounded number of times.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Body, Create, Kind};
use dewpoint_proto::ids::EventId;
use dewpoint_proto::limits::in_units;
use dewpoint_proto::spec::{DiskMode, ImageRef, Nic, VmSpec};
use dewpoint_proto::time::Millis;

use super::{changed, check_deadline, each_address, encode, leases};
use crate::events::request::{CreateVm, WhenFull};
use crate::events::{Events, Inner, digest, say};
use crate::scheduler::{Explanation, Ranking, Request, rank};
use crate::store::causes::{no_host, no_network};
use crate::store::{Admission, CreateAdmission, EventRecord, Lease, NetworkSpec, RequestDigest, Unplaced};

/// How often a create is chosen anew after someone else was faster.
const ATTEMPTS: usize = 8;

impl Events {
    /// Answers once the event is `assigned`, or `pending` when waiting was asked.
    ///
    /// # Errors
    /// `INVALID`, `TOO_LARGE`, `EVENT_ID_REUSED`, `VM_EXISTS`, `IMAGE_NOT_FOUND`, `NETWORK_NOT_FOUND`, `NO_ADDRESS`,
    /// `NO_CAPACITY`, `HOST_NOT_FOUND`, `TOO_BUSY`, `EXPIRED`, `JOURNAL_ERROR`.
    pub async fn create(&self, request: CreateVm) -> Result<EventRecord, Cause> {
        let digest = digest::of_create(&request)?;
        self.create_as(request, digest).await
    }

    /// The same under another digest: that of the request which it was made from.
    pub(super) async fn create_as(
        &self,
        request: CreateVm,
        digest: RequestDigest,
    ) -> Result<EventRecord, Cause> {
        let event = request.options.event;
        match self.inner.create_new(request, digest).await {
            Err(cause) => self.inner.or_seen(event, digest, cause).await,
            created => created,
        }
    }
}

impl Inner {
    async fn create_new(&self, request: CreateVm, digest: RequestDigest) -> Result<EventRecord, Cause> {
        let now = self.now();
        check_deadline(&request.options, now)?;
        if let Some(host) = request.only_host.filter(|host| self.fleet().view(*host).is_none()) {
            return Err(no_host(host));
        }
        let image = self.image_of(&request.image).await?;
        let networks = self.networks_of(&request).await?;
        let draft =
            Draft { event: digest::event_id(&request.options), digest, request, image, networks, now };
        for _ in 0..ATTEMPTS {
            match self.try_create(&draft).await? {
                Tried::Done(record) => return Ok(*record),
                Tried::Again => {}
            }
        }
        Err(Cause::new(Reason::TooBusy, "others were faster each time a host or an address was chosen")
            .advise("send it again"))
    }
}

/// A create with all that stays the same over its attempts.
struct Draft {
    event: EventId,
    digest: RequestDigest,
    request: CreateVm,
    image: ImageRef,
    networks: Vec<NetworkSpec>,
    now: Millis,
}

enum Tried {
    Done(Box<EventRecord>),
    Again,
}

impl Draft {
    fn body(&self, nics: Vec<Nic>) -> Result<Body, Cause> {
        let r = &self.request;
        let spec = VmSpec {
            name: r.name.clone(),
            vcpus: r.vcpus,
            memory_bytes: r.memory_bytes,
            disk_bytes: r.disk_bytes.unwrap_or(self.image.virtual_size_bytes),
            disk_mode: r.disk_mode,
            nics,
            ssh_keys: r.ssh_keys.clone(),
            user_data: r.user_data.clone(),
            labels: r.labels.clone(),
            placement: r.placement,
            restart: r.restart,
        };
        let spec = spec.checked()?;
        if spec.disk_bytes < self.image.virtual_size_bytes {
            return Err(too_small(spec.disk_bytes, &self.image));
        }
        let create = Create { spec, source: self.image.clone(), power: r.power };
        let vm = r.vm.unwrap_or_else(|| digest::vm_of(self.event));
        encode(&r.options, self.event, vm, self.now, Kind::Create(Box::new(create)))
    }

    fn place(&self, spec: &VmSpec) -> Request {
        placement_of(self.event, spec, &self.image, self.request.only_host)
    }
}

/// What the scheduler is asked for a create.
pub(in crate::events) fn placement_of(
    event: EventId,
    spec: &VmSpec,
    image: &ImageRef,
    only_host: Option<dewpoint_proto::ids::HostId>,
) -> Request {
    let copied = match spec.disk_mode {
        DiskMode::Overlay => 0,
        DiskMode::FullCopy => image.virtual_size_bytes,
    };
    Request {
        event,
        vcpus: spec.vcpus,
        memory_bytes: spec.memory_bytes,
        disk_bytes: spec.disk_bytes,
        disk_now_bytes: image.size_bytes.saturating_add(copied),
        bridges: spec.nics.iter().filter_map(|nic| nic.bridge.clone()).collect(),
        only_host,
    }
}

fn too_small(asked: u64, image: &ImageRef) -> Cause {
    let least = image.virtual_size_bytes;
    let text = format!("disk_bytes is {}, the image's disk is {}", in_units(asked), in_units(least));
    Cause::new(Reason::Invalid, text)
        .advise("give at least the image's virtual size, or 0 for just that")
        .with("field", "disk_bytes")
        .with("least", least)
}

/// What is said when no host fits: how many each rule turned away, and the first of them.
pub(in crate::events) fn no_capacity(explanation: &Explanation) -> Cause {
    let counts: Vec<String> =
        explanation.rejected.iter().map(|(filter, count)| format!("{filter} {count}")).collect();
    let mut cause = Cause::new(
        Reason::NoCapacity,
        format!("none of {} hosts fits (turned away by {})", explanation.considered, counts.join(", ")),
    )
    .advise(
        "see which hosts there are and what they have left; ask for less, add a host, or wait for capacity",
    );
    if explanation.considered == 0 {
        cause.text = "there is no host".to_owned();
        cause.advice = "start an agent that dials this coordinator".to_owned();
    }
    for verdict in explanation.hosts.iter().take(4) {
        cause = cause.with(&verdict.hostname, &verdict.text);
    }
    cause
}

impl Inner {
    /// The networks of a create's NICs, in their order, with their pools loaded.
    async fn networks_of(&self, request: &CreateVm) -> Result<Vec<NetworkSpec>, Cause> {
        let mut found = Vec::with_capacity(request.nics.len());
        for nic in &request.nics {
            let record = self.store.network(&nic.network).await?.ok_or_else(|| no_network(&nic.network))?;
            if !self.pools().knows(&nic.network) {
                let used = self.store.addresses(&nic.network).await?;
                self.pools().load(nic.network.clone(), used);
            }
            found.push(record.spec);
        }
        Ok(found)
    }

    fn choose_nics(&self, draft: &Draft) -> Result<Vec<Nic>, Cause> {
        let mut pools = self.pools();
        let mut nics: Vec<Nic> = Vec::with_capacity(draft.networks.len());
        for (spec, wanted) in draft.networks.iter().zip(&draft.request.nics) {
            match pools.choose(spec, wanted) {
                Ok(nic) => nics.push(nic),
                Err(cause) => {
                    leases(&nics).iter().for_each(|lease| pools.release(each_address(lease)));
                    return Err(cause);
                }
            }
        }
        Ok(nics)
    }

    /// One attempt. What was chosen and not admitted is given back, whatever happened.
    async fn try_create(&self, draft: &Draft) -> Result<Tried, Cause> {
        let nics = self.choose_nics(draft)?;
        let leases = leases(&nics);
        let admitted = self.admit_create(draft, nics, leases.clone()).await;
        if !matches!(admitted, Ok(Admission::Assigned(_) | Admission::Pending(_))) {
            let mut pools = self.pools();
            leases.iter().for_each(|lease| pools.release(each_address(lease)));
        }
        match admitted? {
            Admission::Assigned(record) => {
                self.assigned(&record);
                Ok(Tried::Done(record))
            }
            Admission::Pending(record) | Admission::Ended(record) => {
                say::without_host(&record);
                self.tell([changed(&record)]);
                Ok(Tried::Done(record))
            }
            Admission::Seen(record) => Ok(Tried::Done(record)),
            Admission::ClaimLost => {
                self.reread_claims(draft).await?;
                Ok(Tried::Again)
            }
            Admission::LeaseTaken(lease) => {
                self.pools().mark(&lease);
                Ok(Tried::Again)
            }
            Admission::Refused(cause) => Err(cause),
        }
    }

    async fn admit_create(
        &self,
        draft: &Draft,
        nics: Vec<Nic>,
        leases: Vec<Lease>,
    ) -> Result<Admission, Cause> {
        let body = draft.body(nics)?;
        let Kind::Create(create) = &body.event().kind else {
            return Err(Cause::new(Reason::Internal, "a create's body is of another kind"));
        };
        let Ranking { candidates, explanation } = self.rank(&draft.place(&create.spec));
        let unplaced = match draft.request.when_full {
            WhenFull::Refuse if candidates.is_empty() => {
                // That nothing is placed anywhere says more than that no host fits.
                let recovering = self.store.fleet().await?.recovering;
                return Err(recovering.unwrap_or_else(|| no_capacity(&explanation)));
            }
            WhenFull::Refuse => Unplaced::Refuse,
            WhenFull::Wait => {
                Unplaced::Wait { why: no_capacity(&explanation), only_host: draft.request.only_host }
            }
        };
        let request = draft.digest;
        let create = CreateAdmission { body, request, leases, candidates, explanation, unplaced };
        Ok(self.store.admit_create(create).await?)
    }

    /// Ranks on the view of now.
    pub(in crate::events) fn rank(&self, request: &Request) -> Ranking {
        rank(request, self.fleet().views(), &self.rules, self.now())
    }

    /// The view granted what the store did not: another coordinator, or a race, was faster. The truth is read again.
    async fn reread_claims(&self, draft: &Draft) -> Result<(), Cause> {
        let spec = draft.body(Vec::new())?;
        let Kind::Create(create) = &spec.event().kind else { return Ok(()) };
        for candidate in self.rank(&draft.place(&create.spec)).candidates {
            if let Some(host) = self.store.host(candidate.host).await? {
                self.fleet_mut().take(&host);
            }
        }
        Ok(())
    }
}
