//! From a request to an admitted event.
//!
//! What can be chosen outside the store is chosen here (id, image, addresses, ranked hosts), the body encoded once, and
//! the store decides. What it turns down because someone else was faster is chosen again, a bounded number of times.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Body, Cancel, Create, Event, Kind, Restore};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::spec::{DiskMode, ImageRef, Nic, VmSpec};
use dewpoint_proto::time::Millis;

use super::request::{CancelEvent, Change, ChangeVm, CreateVm, Options, VmSelector, WhenFull};
use super::{Events, Inner, digest};
use crate::scheduler::{Explanation, Ranking, Request, rank};
use crate::store::causes::{no_event, no_host, no_image, no_network, reused};
use crate::store::{
    Admission, ChangeAdmission, Changed, Claims, CreateAdmission, EventRecord, ImageSelector, Lease,
    NetworkSpec, RequestDigest, Unplaced, VmFilter, VmShape,
};

/// How often a create is chosen anew after someone else was faster.
const ATTEMPTS: usize = 8;

impl Events {
    /// Answers once the event is `assigned`, or `pending` when waiting was asked.
    ///
    /// # Errors
    /// `INVALID`, `TOO_LARGE`, `EVENT_ID_REUSED`, `VM_EXISTS`, `IMAGE_NOT_FOUND`, `NETWORK_NOT_FOUND`, `NO_ADDRESS`,
    /// `NO_CAPACITY`, `HOST_NOT_FOUND`, `TOO_BUSY`, `EXPIRED`, `JOURNAL_ERROR`.
    pub async fn create(&self, request: CreateVm) -> Result<EventRecord, Cause> {
        let inner = &self.inner;
        let digest = digest::of_create(&request)?;
        if let Some(seen) = inner.seen(&request.options, digest).await? {
            return Ok(seen);
        }
        let now = inner.now();
        check_deadline(&request.options, now)?;
        if let Some(host) = request.only_host.filter(|host| inner.fleet().view(*host).is_none()) {
            return Err(no_host(host));
        }
        let image = inner.image_of(&request.image).await?;
        let networks = inner.networks_of(&request).await?;
        let draft =
            Draft { event: digest::event_id(&request.options), digest, request, image, networks, now };
        for _ in 0..ATTEMPTS {
            match inner.try_create(&draft).await? {
                Tried::Done(record) => return Ok(*record),
                Tried::Again => {}
            }
        }
        Err(Cause::new(Reason::TooBusy, "others were faster each time a host or an address was chosen")
            .advise("send it again"))
    }

    /// Answers once the event is `assigned`.
    ///
    /// # Errors
    /// As [`Events::create`], and `VM_NOT_FOUND`, `NAME_AMBIGUOUS`, `VM_BUSY`, `DIVERGED`.
    pub async fn change(&self, request: ChangeVm) -> Result<EventRecord, Cause> {
        let inner = &self.inner;
        let digest = digest::of_change(&request)?;
        if let Some(seen) = inner.seen(&request.options, digest).await? {
            return Ok(seen);
        }
        let vm = inner.vm_of(&request.vm).await?;
        let kind = match request.change {
            Change::Start => Kind::Start,
            Change::Stop(stop) => Kind::Stop(stop),
            Change::Reboot(reboot) => Kind::Reboot(reboot),
            Change::Snapshot(snapshot) => {
                inner.check_name_free(snapshot.image_name.as_ref()).await?;
                Kind::Snapshot(snapshot)
            }
            Change::Restore(image) => inner.restore(vm, &image).await?,
            Change::Destroy(destroy) => Kind::Destroy(destroy),
        };
        inner.admit_change(request.options, digest, vm, kind).await
    }

    /// Answers once the cancel is `assigned`, or done when its target was `pending`.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`, `TOO_LATE`, `VM_BUSY`, `EVENT_ID_REUSED`.
    pub async fn cancel(&self, request: CancelEvent) -> Result<EventRecord, Cause> {
        let inner = &self.inner;
        let digest = digest::of_cancel(&request)?;
        if let Some(seen) = inner.seen(&request.options, digest).await? {
            return Ok(seen);
        }
        let target = request.target;
        let vm = inner.store.event(target).await?.ok_or_else(|| no_event(target))?.vm;
        inner.admit_change(request.options, digest, vm, Kind::Cancel(Cancel { target })).await
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
pub(super) fn placement_of(
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
    Cause::new(Reason::Invalid, format!("disk_bytes is {asked}, the image's disk is {least}"))
        .advise("give at least the image's virtual size, or 0 for just that")
        .with("field", "disk_bytes")
        .with("least", least)
}

fn encode(options: &Options, id: EventId, vm: VmId, now: Millis, kind: Kind) -> Result<Body, Cause> {
    Body::encode(Event {
        id,
        vm,
        accepted_at: now,
        not_after: options.not_after,
        retry_of: options.retry_of,
        note: options.note.clone(),
        kind,
    })
}

fn check_deadline(options: &Options, now: Millis) -> Result<(), Cause> {
    match options.not_after.filter(|not_after| *not_after <= now) {
        None => Ok(()),
        Some(not_after) => Err(Cause::new(Reason::Expired, "its deadline is past already")
            .advise("give a later one, or none; do the clocks agree?")
            .with("not_after_ms", not_after.0)
            .with("now_ms", now.0)),
    }
}

/// What is said when no host fits: how many each rule turned away, and the first of them.
pub(super) fn no_capacity(explanation: &Explanation) -> Cause {
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
    /// The answer of before, when this request came before.
    async fn seen(&self, options: &Options, digest: RequestDigest) -> Result<Option<EventRecord>, Cause> {
        let Some(event) = options.event else { return Ok(None) };
        match self.store.seen(event).await? {
            None => Ok(None),
            Some((known, record)) if known == digest => Ok(Some(record)),
            Some(_) => Err(reused(event)),
        }
    }

    async fn image_of(&self, image: &ImageSelector) -> Result<ImageRef, Cause> {
        let record = self.store.image(image.clone()).await?.ok_or_else(|| no_image(image))?;
        Ok(ImageRef {
            digest: record.digest,
            size_bytes: record.size_bytes,
            virtual_size_bytes: record.virtual_size_bytes,
            local_path: None,
        })
    }

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
            WhenFull::Refuse if candidates.is_empty() => return Err(no_capacity(&explanation)),
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
    pub(super) fn rank(&self, request: &Request) -> Ranking {
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

    /// After an event was assigned: the view follows, its host is woken, watchers hear.
    pub(super) fn assigned(&self, record: &EventRecord) {
        let Some(host) = record.host else { return };
        {
            let mut fleet = self.fleet_mut();
            match record.body.as_ref().map(|body| &body.event().kind) {
                Some(Kind::Create(create)) => {
                    let gained = Claims::from(&VmShape::from(&create.spec));
                    fleet.shift(host, gained, Claims::default());
                    fleet.builds(record.id, host);
                }
                Some(Kind::Restore(_)) => fleet.builds(record.id, host),
                _ => {}
            }
            fleet.wake(host);
        }
        self.tell([changed(record)]);
    }

    async fn restore(&self, vm: VmId, image: &ImageSelector) -> Result<Kind, Cause> {
        let source = self.image_of(image).await?;
        let disk = self.store.vm(vm).await?.map_or(0, |vm| vm.shape.disk_bytes);
        if disk < source.virtual_size_bytes {
            return Err(Cause::new(
                Reason::Invalid,
                format!("the image's disk has {} bytes, the VM's {disk}", source.virtual_size_bytes),
            )
            .advise("create a VM with a larger disk from that image")
            .with("vm_id", vm));
        }
        Ok(Kind::Restore(Restore { source }))
    }

    async fn check_name_free(&self, name: Option<&dewpoint_proto::names::ImageName>) -> Result<(), Cause> {
        let Some(name) = name else { return Ok(()) };
        match self.store.image(ImageSelector::Name(name.clone())).await? {
            None => Ok(()),
            Some(image) => Err(Cause::new(
                Reason::ImageNameTaken,
                format!("the name {name} points at image {}", image.digest),
            )
            .advise("choose another name, or remove that one first")
            .with("name", name)),
        }
    }

    async fn admit_change(
        &self,
        options: Options,
        request: RequestDigest,
        vm: VmId,
        kind: Kind,
    ) -> Result<EventRecord, Cause> {
        let now = self.now();
        check_deadline(&options, now)?;
        let body = encode(&options, digest::event_id(&options), vm, now, kind)?;
        match self.store.admit_change(ChangeAdmission { body, request }).await? {
            Admission::Assigned(record) => {
                self.assigned(&record);
                Ok(*record)
            }
            Admission::Ended(record) => {
                self.unplaced_ended(&record).await?;
                Ok(*record)
            }
            Admission::Seen(record) | Admission::Pending(record) => Ok(*record),
            Admission::Refused(cause) => Err(cause),
            Admission::ClaimLost | Admission::LeaseTaken(_) => {
                Err(Cause::new(Reason::Internal, "the store answered a change as a create"))
            }
        }
    }

    /// A VM that never had a host is given up: its create ended too, and its addresses are free.
    async fn unplaced_ended(&self, record: &EventRecord) -> Result<(), Cause> {
        let filter = crate::store::EventFilter { vm: Some(record.vm), ..Default::default() };
        let all = self.store.events(filter, super::every()).await?;
        if let Some(vm) = self.store.vm(record.vm).await? {
            let mut pools = self.pools();
            leases(&vm.shape.nics).iter().for_each(|lease| pools.release(each_address(lease)));
        }
        self.tell(all.items.iter().map(changed));
        Ok(())
    }

    /// The VM that a request names.
    pub(super) async fn vm_of(&self, vm: &VmSelector) -> Result<VmId, Cause> {
        let name = match vm {
            VmSelector::Id(id) => return Ok(*id),
            VmSelector::Name(name) => name,
        };
        let filter = VmFilter { name: Some(name.to_string()), ..VmFilter::default() };
        let found = self.store.vms(filter, crate::store::Page::first(2)).await?.items;
        match found.as_slice() {
            [] => Err(Cause::new(Reason::VmNotFound, format!("there is no VM {name}"))
                .advise("list the VMs")
                .with("name", name)),
            [one] => Ok(one.id),
            [one, other, ..] => {
                Err(Cause::new(Reason::NameAmbiguous, format!("more than one VM is called {name}"))
                    .advise("give the VM's id")
                    .with("vm_id", one.id)
                    .with("other_vm_id", other.id))
            }
        }
    }
}

/// What watchers are told of an event.
pub(super) fn changed(record: &EventRecord) -> Changed {
    Changed { event: record.id, vm: record.vm, host: record.host }
}

/// What NICs take from their networks.
pub(super) fn leases(nics: &[Nic]) -> Vec<Lease> {
    nics.iter()
        .filter_map(|nic| {
            let addresses = nic.addresses.iter().map(|cidr| cidr.address).collect();
            Some(Lease { network: nic.network.clone()?, mac: nic.mac, addresses })
        })
        .collect()
}

fn each_address(
    lease: &Lease,
) -> impl Iterator<Item = (&dewpoint_proto::names::NetworkName, std::net::IpAddr)> {
    lease.addresses.iter().map(|address| (&lease.network, *address))
}
