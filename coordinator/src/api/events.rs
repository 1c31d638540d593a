//! `Events`: where they stand, and how they ended.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::status::to_status;
use dewpoint_proto::wire::event;
use dewpoint_proto::wire::fleet::{self, events_server::Events};
use tonic::{Request, Response, Status};

use super::fleet::Caller;
use super::{Answers, Api, millis, text};
use crate::events::request::{CancelEvent, RetryEvent};
use crate::events::{EventStatus, Watched};
use crate::scheduler::Explanation;
use crate::store::{EventFilter, EventRecord, Page};

#[tonic::async_trait]
impl Events for Api {
    type WatchEventsStream = Answers<fleet::WatchEventsResponse>;

    async fn get_event(
        &self,
        request: Request<fleet::GetEventRequest>,
    ) -> Result<Response<fleet::EventRecord>, Status> {
        self.answer("GetEvent", async {
            let EventStatus { record, progress, waiting_for } =
                self.events.event(request.into_inner().event_id.parse()?).await?;
            Ok(fleet::EventRecord { progress, waiting_for: waiting_for.unwrap_or_default(), ..full(record) })
        })
        .await
    }

    async fn list_events(
        &self,
        request: Request<fleet::ListEventsRequest>,
    ) -> Result<Response<fleet::ListEventsResponse>, Status> {
        self.answer("ListEvents", async {
            let request = request.into_inner();
            let page = Page::parse(request.page_size, &request.page_token)?;
            let filter = EventFilter {
                unfinished_only: request.unfinished_only,
                ..self.event_filter("", &request.vm, &request.host_id).await?
            };
            let events = self.events.events(filter, page).await?;
            Ok(fleet::ListEventsResponse {
                events: events.items.into_iter().map(brief).collect(),
                next_page_token: events.next.unwrap_or_default(),
            })
        })
        .await
    }

    async fn watch_events(
        &self,
        request: Request<fleet::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let request = request.into_inner();
        let filter = self.event_filter(&request.event_id, &request.vm, &request.host_id).await;
        let filter = filter.map_err(to_status)?;
        self.stream(self.events.watch_events(filter), |item| match item {
            Watched::Item(event) => {
                fleet::WatchEventsResponse { event: Some(brief(event)), snapshot_complete: false }
            }
            Watched::SnapshotComplete => fleet::WatchEventsResponse { event: None, snapshot_complete: true },
        })
    }

    async fn cancel_event(
        &self,
        request: Request<fleet::CancelEventRequest>,
    ) -> Result<Response<fleet::EventRecord>, Status> {
        self.answer("CancelEvent", async {
            let cancel = CancelEvent::try_from(request.into_inner())?;
            self.events.cancel(cancel).await.map(full)
        })
        .await
    }

    async fn retry_event(
        &self,
        request: Request<fleet::RetryEventRequest>,
    ) -> Result<Response<fleet::EventRecord>, Status> {
        self.answer("RetryEvent", async {
            let retry = RetryEvent::try_from(request.into_inner())?;
            self.events.retry(retry).await.map(full)
        })
        .await
    }

    async fn force_event(
        &self,
        request: Request<fleet::ForceEventRequest>,
    ) -> Result<Response<fleet::EventRecord>, Status> {
        self.answer("ForceEvent", async {
            let caller = Caller::of(&request);
            let fleet::ForceEventRequest { event_id, end, reason } = request.into_inner();
            let word = caller.word_with_reason(reason)?;
            self.events.force(event_id.parse()?, end.parse()?, word).await.map(full)
        })
        .await
    }
}

impl Api {
    /// An event that is asked for by id must be there; names become ids once, at the beginning of a watch.
    async fn event_filter(&self, event_id: &str, vm: &str, host: &str) -> Result<EventFilter, Cause> {
        let mut filter = EventFilter { host: self.host_id(host).await?, ..EventFilter::default() };
        if !event_id.is_empty() {
            filter.event = Some(self.events.event(event_id.parse()?).await?.record.id);
        }
        if !vm.is_empty() {
            filter.vm = Some(self.events.vm(vm.parse()?).await?.id);
        }
        Ok(filter)
    }
}

/// With everything that is known but its progress.
pub(super) fn full(record: EventRecord) -> fleet::EventRecord {
    let explanation = record.explanation.map(|found| explanation(found, text(record.host)));
    fleet::EventRecord {
        event_id: record.id.to_string(),
        vm_id: record.vm.to_string(),
        vm_name: record.vm_name.into(),
        kind: record.kind.to_string(),
        stage: record.stage.to_string(),
        host_id: text(record.host),
        seq: record.seq.map_or(0, |seq| seq.0),
        generation: record.generation.0,
        body: record.body.map(|body| body.event().clone().into()),
        outcome: outcome(record.outcome, record.unknown),
        accepted_at_ms: record.accepted_at.0,
        begun_at_ms: millis(record.begun_at),
        finished_at_ms: millis(record.finished_at),
        pending: record.pending.map(Into::into),
        explanation,
        progress: None,
        hostname: record.hostname.unwrap_or_default(),
        retry_of: text(record.retry_of),
        contradicted_by: record.contradicted_by.map(Into::into),
        forced: record.forced.map(|word| fleet::Forced {
            who: word.who,
            reason: word.reason,
            at_ms: word.at.0,
        }),
        waiting_for: String::new(),
        stage_since_ms: millis(record.stage_since),
        retried_by: text(record.retried_by),
    }
}

/// As in lists and watches: without what may be long, the user-data and the keys.
fn brief(status: EventStatus) -> fleet::EventRecord {
    let mut record = fleet::EventRecord {
        progress: status.progress,
        waiting_for: status.waiting_for.unwrap_or_default(),
        explanation: None,
        ..full(status.record)
    };
    if let Some(event::Event { kind: Some(event::event::Kind::Create(create)), .. }) = &mut record.body
        && let Some(spec) = &mut create.spec
    {
        spec.user_data = bytes::Bytes::new();
        spec.ssh_keys.clear();
    }
    record
}

/// A host's outcome, or the coordinator's own word that none can come any more.
fn outcome(told: Option<dewpoint_proto::outcome::Outcome>, unknown: Option<Cause>) -> Option<event::Outcome> {
    let unknown =
        unknown.map(|cause| event::Outcome { end: Some(event::outcome::End::Unknown(cause.into())) });
    told.map(Into::into).or(unknown)
}

fn explanation(found: Explanation, chosen_host_id: String) -> fleet::Explanation {
    let hosts = found.hosts.into_iter().map(|verdict| fleet::HostVerdict {
        host_id: verdict.host.to_string(),
        hostname: verdict.hostname,
        rejected_by: verdict.rejected_by.unwrap_or_default().into_owned(),
        text: verdict.text,
        score: verdict.score,
        weights: verdict.weights.into_iter().map(|(name, weight)| (name.into_owned(), weight)).collect(),
    });
    fleet::Explanation {
        hosts: hosts.collect(),
        chosen_host_id,
        decided_at_ms: found.decided_at.0,
        considered: found.considered,
    }
}
