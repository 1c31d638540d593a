//! The Unix socket's service: submitting on the spot, and watching live.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::status::to_status;
use dewpoint_proto::wire::local::{
    AdoptOrphanRequest, AdoptOrphanResponse, Doing, DoingRequest, DoingResponse, Keeping,
    PurgeRecycledRequest, PurgeRecycledResponse, RemoveOrphanRequest, RemoveOrphanResponse, RepairRequest,
    RepairResponse, StatusRequest, StatusResponse, SubmitRequest, SubmitResponse, WatchRequest,
    WatchResponse, local_server::Local,
};
use futures::Stream;
use tokio::sync::mpsc::OwnedPermit;
use tokio::sync::{broadcast, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::doctor::orphans::Orphaned;
use crate::doctor::repair::{Key, Receipt};
use crate::execute::keep::board::Board;
use crate::journal::stage::Stage;
use crate::journal::{Admission, Admitted, Change, Delivery, Journal, Journaled, Origin, Payload};
use crate::report::progress::ProgressBoard;

/// How long a submitted event may wait for a place in the executor's queue.
const PLACE: Duration = Duration::from_secs(5);
/// Messages that may wait for a slow watcher; past that it is told the newest state only.
const WATCH_QUEUE: usize = 64;

/// What only the running daemon knows.
#[async_trait]
pub trait Live: Send + Sync + 'static {
    /// How it is now.
    async fn status(&self) -> StatusResponse;
}

/// What a person has done on the spot.
#[async_trait]
pub trait Mend: Send + Sync + 'static {
    /// Deletes disks of the recycle folder for good; returns those that were there.
    async fn purge_recycled(&self, disks: Vec<EventId>) -> Result<Vec<EventId>, Cause>;
    /// Repairs what is still found; none: it is no longer there.
    async fn repair(&self, key: Key) -> Result<Option<Receipt>, Cause>;
    /// Takes an orphan into the journal; says what was done.
    async fn adopt_orphan(&self, vm: VmId) -> Result<String, Cause>;
    /// Removes an orphan, or something from the quarantine; says what was done.
    async fn remove_orphan(&self, what: Orphaned) -> Result<String, Cause>;
}

/// The service behind the socket.
pub struct LocalService {
    /// Where submitted events are journaled.
    pub journal: Journal,
    /// Where accepted ones go.
    pub admitted: Admitted,
    /// Where running ones stand.
    pub board: ProgressBoard,
    /// Where the keeper stands.
    pub keeping: Board,
    /// How the daemon is.
    pub live: Arc<dyn Live>,
    /// What mends it.
    pub mend: Arc<dyn Mend>,
}

type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

#[async_trait]
impl Local for LocalService {
    type WatchStream = WatchStream;

    async fn submit(&self, request: Request<SubmitRequest>) -> Result<Response<SubmitResponse>, Status> {
        self.submitted(request.into_inner()).await.map(Response::new).map_err(to_status)
    }

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<WatchStream>, Status> {
        let event = match request.into_inner().event_id.as_str() {
            "" => None,
            id => Some(id.parse().map_err(to_status)?),
        };
        let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
        let watch = Watch { event, journal: self.journal.clone(), board: self.board.clone(), sender };
        tokio::spawn(watch.run());
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.live.status().await))
    }

    async fn doing(&self, _: Request<DoingRequest>) -> Result<Response<DoingResponse>, Status> {
        let doing = self.board.all().into_values().map(|progress| Doing {
            until_ms: progress.until.map_or(0, |until| until.0),
            progress: Some(progress.into()),
        });
        let doing = doing.collect();
        let keeping = self.keeping.standings().into_iter().map(|(vm, standing)| Keeping {
            vm_id: vm.to_string(),
            standing: standing.keeping,
            restart_at_ms: standing.restart_at.map_or(0, |at| at.0),
        });
        Ok(Response::new(DoingResponse { doing, keeping: keeping.collect(), tells_keeping: true }))
    }

    async fn purge_recycled(
        &self,
        request: Request<PurgeRecycledRequest>,
    ) -> Result<Response<PurgeRecycledResponse>, Status> {
        let named = request.into_inner().disks;
        let disks: Result<Vec<EventId>, Cause> = named.iter().map(|disk| disk.parse()).collect();
        let purged = self.mend.purge_recycled(disks.map_err(to_status)?).await.map_err(to_status)?;
        Ok(Response::new(PurgeRecycledResponse { disks: purged.iter().map(ToString::to_string).collect() }))
    }

    async fn adopt_orphan(
        &self,
        request: Request<AdoptOrphanRequest>,
    ) -> Result<Response<AdoptOrphanResponse>, Status> {
        let vm = request.into_inner().vm_id.parse().map_err(to_status)?;
        let done = self.mend.adopt_orphan(vm).await.map_err(to_status)?;
        Ok(Response::new(AdoptOrphanResponse { done }))
    }

    async fn remove_orphan(
        &self,
        request: Request<RemoveOrphanRequest>,
    ) -> Result<Response<RemoveOrphanResponse>, Status> {
        let what = Orphaned::of(&request.into_inner().what);
        let done = self.mend.remove_orphan(what).await.map_err(to_status)?;
        Ok(Response::new(RemoveOrphanResponse { done }))
    }

    async fn repair(&self, request: Request<RepairRequest>) -> Result<Response<RepairResponse>, Status> {
        let receipt = self.mend.repair(key(request.into_inner()).map_err(to_status)?).await;
        let done = receipt.map_err(to_status)?.map(|receipt| receipt.done).unwrap_or_default();
        Ok(Response::new(RepairResponse { done }))
    }
}

fn key(request: RepairRequest) -> Result<Key, Cause> {
    let vm = Some(request.vm_id.as_str()).filter(|id| !id.is_empty());
    Ok(Key { code: request.code, vm: vm.map(str::parse).transpose()?, subject: request.subject })
}

impl LocalService {
    async fn submitted(&self, request: SubmitRequest) -> Result<SubmitResponse, Cause> {
        let body = Body::decode(request.event)?;
        let event_id = body.event().id.to_string();
        let place = self.place().await?;
        let delivery = Delivery { origin: Origin::Local, payload: Payload::Event(body) };
        // From here on a caller that goes away changes nothing: the journal hands on what it accepts.
        let offered = self.journal.offer(delivery, place).await.map_err(Cause::from)?;
        let answer = SubmitResponse { event_id, generation: 0, refused: None, seen: false };
        Ok(match offered.answer().await.map_err(Cause::from)? {
            Admission::Refused(cause) => SubmitResponse { refused: Some(cause.into()), ..answer },
            Admission::Seen(_) => SubmitResponse { seen: true, ..answer },
            Admission::New(proof) => SubmitResponse { generation: proof.generation().0, ..answer },
        })
    }

    /// A place in the executor's queue, before anything is journaled.
    async fn place(&self) -> Result<OwnedPermit<Journaled>, Cause> {
        match tokio::time::timeout(PLACE, self.admitted.clone().reserve_owned()).await {
            Ok(Ok(place)) => Ok(place),
            Ok(Err(_)) => {
                Err(Cause::new(Reason::TooBusy, "the agent is stopping").advise("submit it again afterwards"))
            }
            Err(_) => Err(Cause::new(Reason::TooBusy, "the host has as many unfinished events as it takes")
                .advise("wait for some to end; see `dewpoint-agent events --unfinished`")),
        }
    }
}

/// One watcher.
struct Watch {
    event: Option<EventId>,
    journal: Journal,
    board: ProgressBoard,
    sender: mpsc::Sender<Result<WatchResponse, Status>>,
}

impl Watch {
    /// Where it stands now, then every change, until the watcher goes or its one event has ended.
    async fn run(self) {
        let mut changes = self.journal.changes();
        let mut progress = self.board.changes();
        if self.now().await.is_none() {
            return;
        }
        loop {
            let going = tokio::select! {
                () = self.sender.closed() => None,
                change = changes.recv() => match change {
                    Ok(change) => self.changed(&change).await,
                    Err(broadcast::error::RecvError::Lagged(_)) => self.now().await,
                    Err(broadcast::error::RecvError::Closed) => None,
                },
                changed = progress.changed() => match changed {
                    Ok(()) => self.progressed().await,
                    Err(_) => None,
                },
            };
            if going.is_none() {
                return;
            }
        }
    }

    fn concerns(&self, event: EventId) -> bool {
        self.event.is_none_or(|wanted| wanted == event)
    }

    /// The one event as its row has it; `None` once it has ended.
    async fn now(&self) -> Option<()> {
        let Some(event) = self.event else { return Some(()) };
        let (row, _) = self.journal.event(event).await.ok().flatten()?;
        let ended = row.outcome.is_some();
        self.tell(event, row.stage, row.outcome.map(Into::into)).await?;
        (!ended).then_some(())
    }

    async fn changed(&self, change: &Change) -> Option<()> {
        if !self.concerns(change.event) {
            return Some(());
        }
        let outcome = match &change.stage {
            Stage::Finished(outcome) | Stage::Reported(outcome) => Some(outcome.clone()),
            Stage::Accepted | Stage::Running | Stage::Undoing => None,
        };
        let ended = outcome.is_some() && self.event.is_some();
        self.tell(change.event, change.stage.name().to_owned(), outcome.map(Into::into)).await?;
        (!ended).then_some(())
    }

    async fn progressed(&self) -> Option<()> {
        for (event, progress) in self.board.all() {
            if self.concerns(event) {
                let message = WatchResponse { progress: Some(progress.into()), ..WatchResponse::default() };
                self.sender.send(Ok(message)).await.ok()?;
            }
        }
        Some(())
    }

    async fn tell(
        &self,
        event: EventId,
        stage: String,
        outcome: Option<dewpoint_proto::wire::event::Outcome>,
    ) -> Option<()> {
        let named =
            dewpoint_proto::wire::event::Progress { event_id: event.to_string(), ..Default::default() };
        let progress = self.board.all().remove(&event).map_or(named, Into::into);
        let message = WatchResponse { progress: Some(progress), stage, outcome };
        self.sender.send(Ok(message)).await.ok()
    }
}
