//! Threads that make libvirt's blocking calls, each with a connection of its own, since a few calls that hang on one
//! connection freeze it.
//!
//! ```text
//! idle --job--> at work --in time--> idle
//!                  `----deadline---> abandoned --returns, late--> gone
//! ```
//!
//! An abandoned worker is replaced. At [`MOST_ABANDONED`] nothing more is begun.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use dewpoint_proto::cause::{Cause, Reason};
use tokio::sync::{Semaphore, oneshot};

use super::lanes::{Lanes, Ticket};
use super::link::Link;

/// Workers of all pools together that may be lost to calls that hang.
pub(super) const MOST_ABANDONED: usize = 16;

/// Jobs that may wait for a worker of one pool.
const MOST_WAITING: usize = 256;

/// How many workers are abandoned, shared by the pools of one [`super::Libvirt`].
#[derive(Clone, Default)]
pub(super) struct Abandoned(Arc<AtomicUsize>);

impl Abandoned {
    /// Why nothing more is begun.
    pub(super) fn degraded(&self) -> Option<Cause> {
        let count = self.0.load(Ordering::SeqCst);
        (count >= MOST_ABANDONED).then(|| {
            Cause::new(Reason::CallOverran, format!("{count} calls to libvirt have not returned"))
                .advise("restart libvirt's daemon on the host; running VMs are not affected")
                .with("calls", count)
        })
    }
}

/// A job: what it is, how long it may take, and the domain that it holds meanwhile.
pub(super) struct Job {
    /// For causes: "start", "observe".
    pub name: &'static str,
    /// From begin to end; the wait for a worker is bounded by it as well.
    pub deadline: Duration,
    /// Given back when the call returns, however late.
    pub ticket: Option<Ticket>,
}

/// Workers of one kind of work.
#[derive(Clone)]
pub(super) struct Pool(Arc<Inner>);

struct Inner {
    name: &'static str,
    uri: String,
    idle: Mutex<Vec<Worker>>,
    permits: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
    abandoned: Abandoned,
    lanes: Lanes,
}

type Work = Box<dyn FnOnce(&mut Link) + Send>;

/// An idle thread; dropped: it ends. Its channel holds one job, and is given one only when idle.
struct Worker(SyncSender<Work>);

impl Pool {
    /// At most `size` workers, begun when first needed.
    pub(super) fn new(
        name: &'static str,
        uri: &str,
        size: usize,
        abandoned: Abandoned,
        lanes: Lanes,
    ) -> Self {
        Self(Arc::new(Inner {
            name,
            uri: uri.to_owned(),
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(size)),
            waiting: Arc::new(Semaphore::new(MOST_WAITING)),
            abandoned,
            lanes,
        }))
    }

    /// Runs a job on a worker. Once begun it goes on when this future is dropped.
    ///
    /// # Errors
    /// Those of `work`; `TOO_BUSY` when it was not begun; `CALL_OVERRAN` when it has not returned, and may still act.
    pub(super) async fn run<T, F>(&self, job: Job, work: F) -> Result<T, Cause>
    where
        T: Send + 'static,
        F: FnOnce(&mut Link) -> Result<T, Cause> + Send + 'static,
    {
        if let Some(cause) = self.0.abandoned.degraded() {
            return Err(cause);
        }
        let busy = || {
            Cause::new(Reason::TooBusy, format!("no worker was free for {} in time", job.name))
                .advise("many calls to libvirt are under way: try again later")
        };
        let place = self.0.waiting.try_acquire().map_err(|_| busy())?;
        let permit = Arc::clone(&self.0.permits).acquire_owned();
        let permit = match tokio::time::timeout(job.deadline, permit).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Err(busy()),
        };
        drop(place);
        let worker = self.worker()?;
        let pool = self.clone();
        // A task of its own: the deadline must be kept even if nobody waits any more.
        let task = tokio::spawn(async move {
            let result = pool.watch(worker, job, work).await;
            drop(permit);
            result
        });
        task.await.unwrap_or_else(|_| Err(Cause::new(Reason::Internal, "a call to libvirt was cut off")))
    }

    async fn watch<T, F>(&self, worker: Worker, job: Job, work: F) -> Result<T, Cause>
    where
        T: Send + 'static,
        F: FnOnce(&mut Link) -> Result<T, Cause> + Send + 'static,
    {
        let Job { name, deadline, ticket } = job;
        let holds = ticket.as_ref().map(|ticket| (ticket.vm(), ticket.id()));
        let flight = Arc::new(Flight { abandoned: self.0.abandoned.clone(), left: AtomicBool::new(false) });
        let (reply, mut answer) = oneshot::channel();
        let landing = Landing(Arc::clone(&flight));
        let work: Work = Box::new(move |link| {
            let result = work(link);
            drop(ticket);
            drop(landing);
            // Nobody waits for an answer that comes too late.
            drop(reply.send(result));
        });
        if worker.0.send(work).is_err() {
            return Err(Cause::new(Reason::Internal, "a worker for libvirt had ended"));
        }
        let ended = match tokio::time::timeout(deadline, &mut answer).await {
            Ok(ended) => ended,
            Err(_) if flight.abandon() => {
                if let Some((vm, ticket)) = holds {
                    self.0.lanes.overran(vm, ticket);
                }
                return Err(overran(name, deadline));
            }
            // It landed at the last moment.
            Err(_) => answer.await,
        };
        if let Ok(result) = ended {
            self.idle().push(worker);
            return result;
        }
        Err(Cause::new(Reason::Internal, format!("a bug in {name}: its thread panicked")))
    }

    fn worker(&self) -> Result<Worker, Cause> {
        if let Some(worker) = self.idle().pop() {
            return Ok(worker);
        }
        let (jobs, inbox) = sync_channel::<Work>(1);
        let uri = self.0.uri.clone();
        let thread = thread::Builder::new().name(format!("libvirt-{}", self.0.name)).spawn(move || {
            let mut link = Link::new(uri);
            while let Ok(work) = inbox.recv() {
                // A panic is told by the dropped answer; the thread's connection may be in any state.
                if catch_unwind(AssertUnwindSafe(|| work(&mut link))).is_err() {
                    return;
                }
            }
        });
        match thread {
            Ok(_) => Ok(Worker(jobs)),
            Err(error) => {
                Err(Cause::new(Reason::Internal, format!("no thread could be begun for libvirt: {error}")))
            }
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.0.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call, about which its thread and its watcher must agree: whoever leaves second counts it as no longer lost.
struct Flight {
    abandoned: Abandoned,
    left: AtomicBool,
}

impl Flight {
    /// False: the call has returned already.
    fn abandon(&self) -> bool {
        self.abandoned.0.fetch_add(1, Ordering::SeqCst);
        let returned = self.left.swap(true, Ordering::SeqCst);
        if returned {
            self.abandoned.0.fetch_sub(1, Ordering::SeqCst);
        }
        !returned
    }
}

/// Dropped when the call returns, also by a panic.
struct Landing(Arc<Flight>);

impl Drop for Landing {
    fn drop(&mut self) {
        if self.0.left.swap(true, Ordering::SeqCst) {
            self.0.abandoned.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn overran(name: &str, deadline: Duration) -> Cause {
    Cause::new(
        Reason::CallOverran,
        format!("{name} did not return within {} s, and may still take effect", deadline.as_secs_f32()),
    )
    .advise("the domain is observed until its control channel is free; nothing else is begun for it before")
    .with("call", name)
}
