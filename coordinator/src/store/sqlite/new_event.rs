//! The first row of an event. Its row number goes on from all there ever was, those that were moved included: lists
//! go by it.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{Generation, HostId};
use dewpoint_proto::names::VmName;
use dewpoint_proto::spec::ImageDigest;
use rusqlite::Connection;

use super::assign::Place;
use super::codec::{IdBytes, int, json};
use super::rows;
use crate::events::stage::Stage;
use crate::store::{EventRecord, RequestDigest, StoreResult};

/// An event's first row: assigned when it has a place, else pending.
pub(super) struct NewEvent<'a> {
    pub(super) body: &'a Body,
    pub(super) request: RequestDigest,
    pub(super) vm_name: VmName,
    pub(super) generation: Generation,
    pub(super) image: Option<ImageDigest>,
    pub(super) place: Option<Place>,
    pub(super) pending: Option<Waiting>,
}

/// What is kept of an event that waits for a host.
pub(super) struct Waiting {
    pub(super) why: Cause,
    pub(super) only_host: Option<HostId>,
}

impl NewEvent<'_> {
    /// Inserts it; the record is made of the same values, so it needs no reading.
    pub(super) fn insert(self, db: &Connection, explanation: Option<&str>) -> StoreResult<EventRecord> {
        let event = self.body.event();
        let stage = if self.place.is_some() { Stage::Assigned } else { Stage::Pending };
        let pending = self.pending.as_ref().map(|waiting| json("events", &waiting.why)).transpose()?;
        rows::change(
            db,
            "INSERT INTO events (n, event_id, vm_id, vm_name, kind, stage, ended, host_id, seq, generation, body, \
             digest, request, image, pending, explanation, accepted_at, not_after, retry_of, only_host, \
             stage_at) \
             VALUES ((SELECT 1 + max((SELECT coalesce(max(n), 0) FROM events), \
             (SELECT coalesce(max(n), 0) FROM finished))), \
             ?1, ?2, ?3, ?4, ?5, 0, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?15)",
            &[
                &event.id.bytes(),
                &event.vm.bytes(),
                &self.vm_name.as_str(),
                &event.kind.name().as_str(),
                &stage.as_str(),
                &self.place.as_ref().map(|place| place.host.bytes()),
                &self.place.as_ref().map(|place| int(place.seq.0)),
                &int(self.generation.0),
                &self.body.bytes().as_ref(),
                &self.body.digest().0,
                &self.request.0,
                &self.image.map(|image| image.0),
                &pending,
                &explanation,
                &event.accepted_at.0,
                &event.not_after.map(|at| at.0),
                &event.retry_of.map(IdBytes::bytes),
                &self.pending.as_ref().and_then(|waiting| waiting.only_host).map(IdBytes::bytes),
            ],
        )?;
        Ok(self.record(stage))
    }

    fn record(self, stage: Stage) -> EventRecord {
        let event = self.body.event();
        let (host, hostname, seq) = match self.place {
            Some(place) => (Some(place.host), Some(place.hostname), Some(place.seq)),
            None => (None, None, None),
        };
        EventRecord {
            id: event.id,
            vm: event.vm,
            vm_name: self.vm_name,
            kind: event.kind.name(),
            stage,
            host,
            hostname,
            seq,
            generation: self.generation,
            body: Some(self.body.clone()),
            outcome: None,
            unknown: None,
            contradicted_by: None,
            pending: self.pending.map(|waiting| waiting.why),
            explanation: None,
            accepted_at: event.accepted_at,
            not_after: event.not_after,
            begun_at: None,
            finished_at: None,
            retry_of: event.retry_of,
            retried_by: None,
            stage_since: Some(event.accepted_at),
            forced: None,
        }
    }
}
