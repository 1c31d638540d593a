//! From a request to an admitted event.
//!
//! What can be chosen outside the store is chosen here (id, image, addresses, ranked hosts), the body encoded once, and
//! the store decides.
//!
//! - [`create`]: a new VM, placed. [`change`]: what becomes of one that is there, and cancels.
//! - [`retry`]: what an ended event asked for, once more.

mod change;
mod create;
mod retry;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::{Body, Event, Kind};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::spec::{ImageRef, Nic};
use dewpoint_proto::time::Millis;

use super::request::{Options, VmSelector};
use super::{Inner, say};
use crate::store::causes::{no_image, reused};
use crate::store::{Changed, Claims, EventRecord, ImageSelector, Lease, RequestDigest, VmFilter, VmShape};

pub(super) use create::{no_capacity, placement_of};

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

impl Inner {
    /// The answer of before, when a request came before and has got nowhere now: its image may be gone since, its host
    /// full. Asked last, as few requests are repeats, and one that gets as far as the store is known there.
    pub(super) async fn or_seen(
        &self,
        event: Option<EventId>,
        digest: RequestDigest,
        refused: Cause,
    ) -> Result<EventRecord, Cause> {
        let Some(event) = event else { return Err(refused) };
        match self.store.seen(event).await? {
            None => Err(refused),
            Some((known, record)) if known == digest => Ok(record),
            Some(_) => Err(reused(event)),
        }
    }

    async fn image_of(&self, image: &ImageSelector) -> Result<ImageRef, Cause> {
        if let ImageSelector::Digest(digest) = image
            && let Some(known) = self.images.get(digest)
        {
            return Ok(known);
        }
        let record = self.store.image(image.clone()).await?.ok_or_else(|| no_image(image))?;
        let image = ImageRef {
            digest: record.digest,
            size_bytes: record.size_bytes,
            virtual_size_bytes: record.virtual_size_bytes,
            local_path: None,
        };
        self.images.keep(&image);
        Ok(image)
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
            match record.queue_entry() {
                Some(entry) => fleet.queued(host, entry),
                None => fleet.wake(host),
            }
        }
        self.tell([changed(record)]);
        say::assigned(record);
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
                .advise("see `dewpoint vm ls`; with --gone also those that are gone")
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
    Changed { event: record.id, vm: record.vm, host: record.host, kind: Some(record.kind) }
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
