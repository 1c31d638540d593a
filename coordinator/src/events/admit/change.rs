//! Changes of a VM that is there, and cancels.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Cancel, Kind, Restore};
use dewpoint_proto::ids::VmId;

use super::{changed, check_deadline, each_address, encode, leases};
use crate::events::request::{CancelEvent, Change, ChangeVm, Options};
use crate::events::{Events, Inner, digest, say};
use crate::store::causes::no_event;
use crate::store::{Admission, ChangeAdmission, EventFilter, EventRecord, ImageSelector, RequestDigest};

impl Events {
    /// Answers once the event is `assigned`.
    ///
    /// # Errors
    /// As [`Events::create`], and `VM_NOT_FOUND`, `NAME_AMBIGUOUS`, `VM_BUSY`, `DIVERGED`,
    /// `DESTROY_LIMIT`.
    pub async fn change(&self, request: ChangeVm) -> Result<EventRecord, Cause> {
        let (event, digest) = (request.options.event, digest::of_change(&request)?);
        match self.inner.change_new(request, digest).await {
            Err(cause) => self.inner.or_seen(event, digest, cause).await,
            changed => changed,
        }
    }

    /// Answers once the cancel is `assigned`, or done when its target was `pending`.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`, `TOO_LATE`, `VM_BUSY`, `EVENT_ID_REUSED`.
    pub async fn cancel(&self, request: CancelEvent) -> Result<EventRecord, Cause> {
        let (event, digest) = (request.options.event, digest::of_cancel(&request)?);
        match self.inner.cancel_new(request, digest).await {
            Err(cause) => self.inner.or_seen(event, digest, cause).await,
            cancelled => cancelled,
        }
    }
}

impl Inner {
    async fn change_new(&self, request: ChangeVm, digest: RequestDigest) -> Result<EventRecord, Cause> {
        let vm = self.vm_of(&request.vm).await?;
        let kind = match request.change {
            Change::Start => Kind::Start,
            Change::Stop(stop) => Kind::Stop(stop),
            Change::Reboot(reboot) => Kind::Reboot(reboot),
            Change::Snapshot(snapshot) => {
                self.check_name_free(snapshot.image_name.as_ref()).await?;
                Kind::Snapshot(snapshot)
            }
            Change::Restore(image) => self.restore(vm, &image).await?,
            Change::Destroy(destroy) => Kind::Destroy(destroy),
        };
        self.admit_change(request.options, digest, vm, kind).await
    }

    async fn cancel_new(&self, request: CancelEvent, digest: RequestDigest) -> Result<EventRecord, Cause> {
        let target = request.target;
        let vm = self.store.event(target).await?.ok_or_else(|| no_event(target))?.vm;
        self.admit_change(request.options, digest, vm, Kind::Cancel(Cancel { target })).await
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

    pub(super) async fn check_name_free(
        &self,
        name: Option<&dewpoint_proto::names::ImageName>,
    ) -> Result<(), Cause> {
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

    pub(super) async fn admit_change(
        &self,
        options: Options,
        request: RequestDigest,
        vm: VmId,
        kind: Kind,
    ) -> Result<EventRecord, Cause> {
        let now = self.now();
        check_deadline(&options, now)?;
        let body = encode(&options, digest::event_id(&options), vm, now, kind)?;
        let destroys_a_minute = self.destroys_a_minute;
        match self.store.admit_change(ChangeAdmission { body, request, destroys_a_minute }).await? {
            Admission::Assigned(record) => {
                self.assigned(&record);
                Ok(*record)
            }
            Admission::Ended(record) => {
                say::without_host(&record);
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
        let filter = EventFilter { vm: Some(record.vm), ..Default::default() };
        let all = self.store.events(filter, crate::events::every()).await?;
        if let Some(vm) = self.store.vm(record.vm).await? {
            let mut pools = self.pools();
            leases(&vm.shape.nics).iter().for_each(|lease| pools.release(each_address(lease)));
        }
        self.tell(all.items.iter().map(changed));
        Ok(())
    }
}
