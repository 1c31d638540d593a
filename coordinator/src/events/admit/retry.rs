//! Retries: a new event that names the old one and asks for the same.
//!
//! The old event's body says what was asked, so nothing needs to be given again. A create makes another VM, with the
//! same addresses: it is tried only when the first one is proven gone, which frees them.

use std::net::IpAddr;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Body, Create, Kind, KindName};
use dewpoint_proto::spec::Nic;

use crate::events::request::{CreateVm, NicRequest, Options, RetryEvent, WhenFull};
use crate::events::stage::Stage;
use crate::events::{Events, Inner, digest};
use crate::store::causes::no_event;
use crate::store::{EventRecord, ImageSelector, RequestDigest};

impl Events {
    /// Answers once the new event is `assigned`, or `pending` when waiting was asked.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`, `WRONG_STAGE` when there is nothing to try again, and as the first try.
    pub async fn retry(&self, request: RetryEvent) -> Result<EventRecord, Cause> {
        let (event, digest) = (request.options.event, digest::of_retry(&request)?);
        match self.retry_new(request, digest).await {
            Err(cause) => self.inner.or_seen(event, digest, cause).await,
            retried => retried,
        }
    }

    async fn retry_new(&self, request: RetryEvent, digest: RequestDigest) -> Result<EventRecord, Cause> {
        let inner = &self.inner;
        let target = request.target;
        let old = inner.store.event(target).await?.ok_or_else(|| no_event(target))?;
        let body = inner.sense_of(&old).await?;
        let options = inner.options(&request, body)?;
        match &body.event().kind {
            Kind::Create(create) => {
                self.create_as(create_again(create, options, request.when_full)?, digest).await
            }
            kind => {
                if let Kind::Snapshot(snapshot) = kind {
                    inner.check_name_free(snapshot.image_name.as_ref()).await?;
                }
                inner.admit_change(options, digest, old.vm, kind.clone()).await
            }
        }
    }
}

impl Inner {
    /// What a retry would ask for, when there is sense in one.
    async fn sense_of<'a>(&self, old: &'a EventRecord) -> Result<&'a Body, Cause> {
        let id = old.id;
        let wrong = |text: String, advice: &str| {
            Err(Cause::new(Reason::WrongStage, text)
                .advise(advice)
                .with("event_id", id)
                .with("stage", old.stage))
        };
        if !old.stage.has_ended() {
            return wrong(
                format!("event {id} is {}, and has not ended", old.stage),
                "wait for it, or cancel it",
            );
        }
        if old.stage == Stage::Succeeded {
            return wrong(format!("event {id} has succeeded"), "send a new request for more of the same");
        }
        if old.kind == KindName::Cancel {
            return wrong(format!("event {id} is a cancel"), "cancel its target again, if it has not ended");
        }
        if let Some(by) = old.retried_by
            && let Some(later) = self.store.event(by).await?
            && (!later.stage.has_ended() || later.stage == Stage::Succeeded)
        {
            return wrong(
                format!("event {id} was tried again by {by}, which is {}", later.stage),
                "look at that one",
            );
        }
        if old.kind == KindName::Create && self.store.vm(old.vm).await?.is_some_and(|vm| !vm.gone) {
            return wrong(
                format!("the VM that event {id} was to build is not proven gone: {}", old.vm_name),
                "destroy it first: a retry builds another one",
            );
        }
        match &old.body {
            Some(body) => Ok(body),
            None => wrong(format!("what event {id} asked for is not kept any more"), "send a new request"),
        }
    }

    fn options(&self, request: &RetryEvent, body: &Body) -> Result<Options, Cause> {
        let given = &request.options;
        if given.retry_of.is_some_and(|other| other != request.target) {
            return Err(Cause::new(Reason::Invalid, "a retry names two events")
                .advise("leave retry_of empty")
                .with("field", "retry_of"));
        }
        let note = if given.note.is_empty() { &body.event().note } else { &given.note };
        Ok(Options { retry_of: Some(request.target), note: note.clone(), ..given.clone() })
    }
}

/// The request that an admitted create came from, as far as it says what to build.
fn create_again(create: &Create, options: Options, when_full: WhenFull) -> Result<CreateVm, Cause> {
    let spec = &create.spec;
    Ok(CreateVm {
        options,
        vm: None,
        name: spec.name.clone(),
        vcpus: spec.vcpus,
        memory_bytes: spec.memory_bytes,
        disk_bytes: Some(spec.disk_bytes),
        disk_mode: spec.disk_mode,
        image: ImageSelector::Digest(create.source.digest),
        nics: spec.nics.iter().map(nic_again).collect::<Result<_, _>>()?,
        ssh_keys: spec.ssh_keys.clone(),
        user_data: spec.user_data.clone(),
        labels: spec.labels.clone(),
        placement: spec.placement,
        restart: spec.restart,
        power: create.power,
        only_host: None,
        when_full,
    })
}

/// The same network, and the same addresses: whoever expects the VM expects it there.
fn nic_again(nic: &Nic) -> Result<NicRequest, Cause> {
    let network = nic.network.clone().ok_or_else(|| {
        Cause::new(
            Reason::WrongStage,
            "the VM was made on its host, with a NIC in no network of the catalogue",
        )
        .advise("submit it on the host again")
    })?;
    let (mut address4, mut address6) = (None, None);
    for cidr in &nic.addresses {
        match cidr.address {
            IpAddr::V4(address) => address4 = Some(address),
            IpAddr::V6(address) => address6 = Some(address),
        }
    }
    Ok(NicRequest { network, address4, address6 })
}
