use dewpoint_proto::cause::Reason;
use dewpoint_proto::wire::fleet::events_server::Events;
use dewpoint_proto::wire::fleet::{
    CancelEventRequest, EventRecord, ForceEventRequest, Forced, GetEventRequest, ListEventsRequest,
    ListEventsResponse, RetryEventRequest, WatchEventsRequest, WatchEventsResponse,
};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::{Request, Response, Status};

use super::{Service, Told, refusal};

#[tonic::async_trait]
impl Events for Service {
    async fn get_event(&self, request: Request<GetEventRequest>) -> Result<Response<EventRecord>, Status> {
        let wanted = request.into_inner().event_id;
        let found =
            self.0.with(|script| script.events.iter().find(|event| event.event_id == wanted).cloned());
        found.map(Response::new).ok_or_else(|| {
            refusal(Reason::EventNotFound, "there is no such event", "see `dewpoint event ls`")
        })
    }

    async fn list_events(
        &self,
        request: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        let request = request.into_inner();
        self.0
            .note("list_events", &format!("{} {} {}", request.vm, request.host_id, request.unfinished_only));
        let events = self.0.with(|script| script.events.clone());
        Ok(Response::new(ListEventsResponse { events, next_page_token: String::new() }))
    }

    type WatchEventsStream = BoxStream<'static, Result<WatchEventsResponse, Status>>;

    /// Without a script for it: the event is gone for good.
    async fn watch_events(
        &self,
        request: Request<WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let id = request.into_inner().event_id;
        self.0.note("watch_events", &id);
        let told = self.0.with(|script| script.watches.pop_front());
        let told = told.ok_or_else(|| refusal(Reason::EventNotFound, "there is no such event", ""))?;
        let all = !id.is_empty();
        let said = stream::iter(told).flat_map(move |told| match told {
            Told::Event(event) => {
                let event_id = if all { id.clone() } else { event.event_id.clone() };
                let event = EventRecord { event_id, ..event };
                one(Ok(WatchEventsResponse { event: Some(event), snapshot_complete: false }))
            }
            Told::SnapshotComplete => one(Ok(WatchEventsResponse { event: None, snapshot_complete: true })),
            Told::Break => one(Err(Status::unavailable("going away"))),
            Told::Fail(status) => one(Err(status)),
            Told::Silence => stream::pending().boxed(),
        });
        Ok(Response::new(said.boxed()))
    }

    async fn cancel_event(
        &self,
        request: Request<CancelEventRequest>,
    ) -> Result<Response<EventRecord>, Status> {
        let request = request.into_inner();
        self.make("cancel", request.options, &request.event_id).await
    }

    async fn retry_event(
        &self,
        request: Request<RetryEventRequest>,
    ) -> Result<Response<EventRecord>, Status> {
        let request = request.into_inner();
        self.make("retry", request.options, &request.event_id).await
    }

    async fn force_event(
        &self,
        request: Request<ForceEventRequest>,
    ) -> Result<Response<EventRecord>, Status> {
        let request = request.into_inner();
        self.0.note("force", &format!("{} {} {}", request.event_id, request.end, request.reason));
        let forced = Forced { who: "ann@ops1".into(), reason: request.reason, at_ms: 1_700_000_000_000 };
        Ok(Response::new(EventRecord { forced: Some(forced), ..super::record("start", &request.end) }))
    }
}

fn one(said: Result<WatchEventsResponse, Status>) -> BoxStream<'static, Result<WatchEventsResponse, Status>> {
    stream::once(async move { said }).boxed()
}
