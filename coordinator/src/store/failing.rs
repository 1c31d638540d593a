//! The store's failing twin: once broken, no write is done, and each says so. Reads go on.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// Passes everything on until it is broken.
pub(crate) struct FailingStore<S> {
    pub(crate) store: S,
    pub(crate) broken: AtomicBool,
}

impl<S> FailingStore<S> {
    pub(crate) fn whole(store: S) -> Self {
        Self { store, broken: AtomicBool::new(false) }
    }

    pub(crate) fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }

    fn check(&self) -> StoreResult<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(StoreError::Failed { doing: "write", text: "disk I/O error".into() });
        }
        Ok(())
    }
}

macro_rules! twin {
    (writes { $($write:ident($($w:ident: $wt:ty),*) -> $wout:ty;)* } reads { $($read:ident($($r:ident: $rt:ty),*) -> $rout:ty;)* }) => {
        #[async_trait]
        impl<S: Store> Store for FailingStore<S> {
            $(async fn $write(&self, $($w: $wt),*) -> StoreResult<$wout> {
                self.check()?;
                self.store.$write($($w),*).await
            })*
            $(async fn $read(&self, $($r: $rt),*) -> StoreResult<$rout> {
                self.store.$read($($r),*).await
            })*
        }
    };
}

twin! {
    writes {
    admit_create(create: CreateAdmission) -> Admission;
    admit_change(change: ChangeAdmission) -> Admission;
    place_again(place: PlaceAgain) -> Placed;
    expire_pending(now: Millis) -> Recorded;
    force_event(forcing: Forcing) -> Settled<Box<EventRecord>>;
    move_finished(before: Millis, at: Millis) -> u32;
    forget_bodies(before: Millis) -> u32;
    claim_host(hello: Hello, at: Millis) -> HostClaim;
    accepted_up_to(under: Under, seq: Seq) -> Vec<Changed>;
    record_running(under: Under, events: Vec<EventId>) -> Vec<Changed>;
    record_report(under: Under, report: HostReport) -> Recorded;
    observe_vms(under: Under, states: Vec<VmState>) -> Observed;
    record_heartbeat(under: Under, facts: HostFacts) -> ();
    set_cordon(host: HostId, cordon: Switch, word: Word) -> HostSettled;
    set_hold(scope: HoldScope, hold: Switch, word: Word) -> Settled<u32>;
    end_recovery(word: Word) -> Settlement;
    set_destroy_limit(limit: Option<u32>, word: Word) -> ();
    record_act(entry: AuditEntry) -> ();
    beat() -> ();
    settle_recovery() -> Option<Cause>;
    take_over(account: TakeOver) -> Settled<TakenOver>;
    reconcile(reconciliation: Reconciliation) -> Settled<Settlement>;
    retire_host(retirement: Retirement) -> Settled<Settlement>;
    replace_host(replacement: Replacement) -> HostSettled;
    recount_claims() -> Vec<Miscount>;
    add_image(image: ImageAddition) -> Settled<ImageRecord>;
    remove_image(image: ImageSelector) -> Settled<ImageRemoved>;
    add_network(network: NetworkSpec) -> Settled<NetworkRecord>;
    remove_network(name: NetworkName) -> Settled<()>;
    } reads {
    log_of(host: HostId, at: Seq) -> Option<OurLog>;
    create_of(vm: VmId) -> Option<Body>;
    deliverable(host: HostId, after: Seq, limit: u32) -> Vec<QueueEntry>;
    event(id: EventId) -> Option<EventRecord>;
    seen(id: EventId) -> Option<(RequestDigest, EventRecord)>;
    events(filter: EventFilter, page: Page) -> Paged<EventRecord>;
    pending(limit: u32) -> Vec<PendingCreate>;
    vm(id: VmId) -> Option<VmRecord>;
    vms(filter: VmFilter, page: Page) -> Paged<VmRecord>;
    host(id: HostId) -> Option<HostRecord>;
    hosts_named(hostname: &str) -> Vec<HostRecord>;
    hosts(page: Page) -> Paged<HostRecord>;
    fleet() -> FleetRecord;
    audit(about: About, page: Page) -> Paged<AuditRecord>;
    image(image: ImageSelector) -> Option<ImageRecord>;
    images(page: Page) -> Paged<ImageRecord>;
    network(name: &NetworkName) -> Option<NetworkRecord>;
    networks(page: Page) -> Paged<NetworkRecord>;
    addresses(network: &NetworkName) -> Vec<IpAddr>;
    }
}

mod tests {
    use super::FailingStore;
    use crate::store::contract::{Factory, contract_suite};
    use crate::store::sqlite::SqliteStore;
    use crate::store::sqlite::tests::InFolders;

    /// The suite knows a store by its trait alone: it runs unchanged for another one.
    struct Twins(InFolders);

    impl Factory for Twins {
        type Store = FailingStore<SqliteStore>;

        fn fresh(&self) -> Self::Store {
            FailingStore::whole(self.0.fresh())
        }

        fn after_crash(&self, store: &Self::Store) -> Self::Store {
            FailingStore::whole(self.0.after_crash(&store.store))
        }
    }

    contract_suite!(Twins(InFolders::new()));
}
