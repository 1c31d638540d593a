//! The store on SQLite: one file, one writer thread, some readers.
//!
//! Owns: the database file. Writes queue in a bounded channel and are committed in groups, one fsync
//! for the group (WAL, `synchronous=FULL`); an answer is sent only after the commit. Reads have connections of their
//! own and wait for no write. Never: opens a database of a newer schema.

mod admit;
mod assign;
mod audit;
mod catalogue;
pub mod check;
mod codec;
mod conditions;
pub mod copy;
mod destroys;
mod force;
mod history;
mod hosts;
mod lists;
mod new_event;
mod observed;
mod reader;
mod reconcile;
mod recovery;
mod report;
mod retire;
mod rows;
mod schema;
mod takeover;
mod writer;

use std::net::IpAddr;
use std::path::Path;

use async_trait::async_trait;
use dewpoint_proto::cause::Cause;
use dewpoint_proto::event::Body;
use dewpoint_proto::ids::{EventId, HostId, Seq, VmId};
use dewpoint_proto::names::NetworkName;
use dewpoint_proto::time::Millis;
use dewpoint_proto::vm_state::VmState;

use super::*;
use reader::Readers;
use writer::Writer;

/// The store on SQLite. Dropping it ends the writer after what is queued.
pub struct SqliteStore {
    writer: Writer,
    readers: Readers,
    #[cfg(test)]
    path: std::path::PathBuf,
}

impl SqliteStore {
    /// Opens or makes the database file.
    ///
    /// # Errors
    /// `Newer` for a newer schema, `Failed` when the file cannot be used.
    pub fn open(path: &Path) -> StoreResult<Self> {
        let connection = schema::open_writer(path)?;
        let readers = Readers::open(path)?;
        Ok(Self {
            writer: Writer::start(connection)?,
            readers,
            #[cfg(test)]
            path: path.to_owned(),
        })
    }
}

#[async_trait]
impl Store for SqliteStore {
    async fn admit_create(&self, mut create: CreateAdmission) -> StoreResult<Admission> {
        // Encoded and dropped here: the writer thread is what all wait for.
        let explanation = codec::json("events", &std::mem::take(&mut create.explanation))?;
        self.writer.offer("admit a create", move |db| admit::create(db, &create, &explanation)).await
    }

    async fn admit_change(&self, change: ChangeAdmission) -> StoreResult<Admission> {
        self.writer.offer("admit an event", move |db| admit::change(db, &change)).await
    }

    async fn place_again(&self, place: PlaceAgain) -> StoreResult<Placed> {
        self.writer.write("place a pending event", move |db| assign::place_again(db, &place)).await
    }

    async fn expire_pending(&self, now: Millis) -> StoreResult<Recorded> {
        self.writer.write("expire pending events", move |db| admit::expire_pending(db, now)).await
    }

    async fn force_event(&self, forcing: Forcing) -> StoreResult<Settled<Box<EventRecord>>> {
        self.writer.write("force an event", move |db| force::force(db, &forcing)).await
    }

    async fn move_finished(&self, before: Millis, at: Millis) -> StoreResult<u32> {
        self.writer.write("move finished events", move |db| history::move_finished(db, before, at)).await
    }

    async fn forget_bodies(&self, before: Millis) -> StoreResult<u32> {
        self.writer.write("remove old bodies", move |db| history::forget_bodies(db, before)).await
    }

    async fn claim_host(&self, hello: Hello, at: Millis) -> StoreResult<HostClaim> {
        self.writer.write("claim a host", move |db| hosts::claim(db, &hello, at)).await
    }

    async fn accepted_up_to(&self, under: Under, seq: Seq) -> StoreResult<Vec<Changed>> {
        self.writer.write("record an acceptance", move |db| report::accepted(db, under, seq)).await
    }

    async fn record_running(&self, under: Under, events: Vec<EventId>) -> StoreResult<Vec<Changed>> {
        self.writer.write("record a begin", move |db| report::running(db, under, &events)).await
    }

    async fn record_report(&self, under: Under, told: HostReport) -> StoreResult<Recorded> {
        self.writer.write("record a report", move |db| report::report(db, under, &told)).await
    }

    async fn observe_vms(&self, under: Under, states: Vec<VmState>) -> StoreResult<Observed> {
        self.writer.write("record VM states", move |db| observed::observe(db, under, &states)).await
    }

    async fn record_heartbeat(&self, under: Under, facts: HostFacts) -> StoreResult<()> {
        self.writer.write("record a heartbeat", move |db| hosts::heartbeat(db, under, &facts)).await
    }

    async fn set_cordon(&self, host: HostId, cordon: Switch, word: Word) -> StoreResult<HostSettled> {
        self.writer.write("cordon a host", move |db| hosts::set_cordon(db, host, cordon, word.clone())).await
    }

    async fn set_hold(&self, scope: HoldScope, hold: Switch, word: Word) -> StoreResult<Settled<u32>> {
        self.writer.write("set a hold", move |db| hosts::set_hold(db, scope, hold, word.clone())).await
    }

    async fn end_recovery(&self, word: Word) -> StoreResult<Settlement> {
        self.writer.write("end the recovery", move |db| takeover::end(db, word.clone())).await
    }

    async fn set_destroy_limit(&self, limit: Option<u32>, word: Word) -> StoreResult<()> {
        self.writer
            .write("set the limit on destroys", move |db| destroys::set_limit(db, limit, word.clone()))
            .await
    }

    async fn record_act(&self, entry: AuditEntry) -> StoreResult<()> {
        self.writer.write("keep what a person did", move |db| audit::record_act(db, &entry)).await
    }

    async fn beat(&self) -> StoreResult<()> {
        self.writer.beat().await
    }

    async fn settle_recovery(&self) -> StoreResult<Option<Cause>> {
        self.writer.write("settle the recovery", takeover::settle).await
    }

    async fn take_over(&self, account: TakeOver) -> StoreResult<Settled<TakenOver>> {
        self.writer.write("take a host's log over", move |db| takeover::take_over(db, &account)).await
    }

    async fn reconcile(&self, reconciliation: Reconciliation) -> StoreResult<Settled<Settlement>> {
        self.writer.write("reconcile a host", move |db| reconcile::reconcile(db, &reconciliation)).await
    }

    async fn retire_host(&self, retirement: Retirement) -> StoreResult<Settled<Settlement>> {
        self.writer.write("retire a host", move |db| retire::retire(db, &retirement)).await
    }

    async fn replace_host(&self, replacement: Replacement) -> StoreResult<HostSettled> {
        self.writer.write("replace a host", move |db| retire::replace(db, &replacement)).await
    }

    async fn recount_claims(&self) -> StoreResult<Vec<Miscount>> {
        self.writer.write("recount claims", hosts::recount).await
    }

    async fn add_image(&self, image: ImageAddition) -> StoreResult<Settled<ImageRecord>> {
        self.writer.write("add an image", move |db| catalogue::add_image(db, &image)).await
    }

    async fn remove_image(&self, image: ImageSelector) -> StoreResult<Settled<ImageRemoved>> {
        self.writer.write("remove an image", move |db| catalogue::remove_image(db, &image)).await
    }

    async fn add_network(&self, network: NetworkSpec) -> StoreResult<Settled<NetworkRecord>> {
        self.writer.write("add a network", move |db| catalogue::add_network(db, &network)).await
    }

    async fn remove_network(&self, name: NetworkName) -> StoreResult<Settled<()>> {
        self.writer.write("remove a network", move |db| catalogue::remove_network(db, &name)).await
    }

    async fn log_of(&self, host: HostId, at: Seq) -> StoreResult<Option<OurLog>> {
        let look = move |db: &rusqlite::Connection| {
            rows::host(db, host)?.map(|host| hosts::our_log(db, &host, at)).transpose()
        };
        self.readers.read("read a host's log", look).await
    }

    async fn create_of(&self, vm: VmId) -> StoreResult<Option<Body>> {
        self.readers.read("read a VM's create", move |db| reconcile::create_of(db, vm)).await
    }

    async fn deliverable(&self, host: HostId, after: Seq, limit: u32) -> StoreResult<Vec<QueueEntry>> {
        self.readers.read("read a host's queue", move |db| lists::deliverable(db, host, after, limit)).await
    }

    async fn event(&self, id: EventId) -> StoreResult<Option<EventRecord>> {
        self.readers.read("read an event", move |db| rows::event_with_explanation(db, id)).await
    }

    async fn seen(&self, id: EventId) -> StoreResult<Option<(RequestDigest, EventRecord)>> {
        self.readers.read("look for an event", move |db| rows::seen(db, id)).await
    }

    async fn events(&self, filter: EventFilter, page: Page) -> StoreResult<Paged<EventRecord>> {
        self.readers.read("list events", move |db| lists::events(db, &filter, &page)).await
    }

    async fn pending(&self, limit: u32) -> StoreResult<Vec<PendingCreate>> {
        self.readers.read("list pending events", move |db| lists::pending(db, limit)).await
    }

    async fn vm(&self, id: VmId) -> StoreResult<Option<VmRecord>> {
        self.readers.read("read a VM", move |db| rows::vm(db, id)).await
    }

    async fn vms(&self, filter: VmFilter, page: Page) -> StoreResult<Paged<VmRecord>> {
        self.readers.read("list VMs", move |db| lists::vms(db, &filter, &page)).await
    }

    async fn host(&self, id: HostId) -> StoreResult<Option<HostRecord>> {
        self.readers.read("read a host", move |db| rows::host(db, id)).await
    }

    async fn hosts_named(&self, hostname: &str) -> StoreResult<Vec<HostRecord>> {
        let hostname = hostname.to_owned();
        self.readers.read("look for a host", move |db| lists::hosts_named(db, &hostname)).await
    }

    async fn hosts(&self, page: Page) -> StoreResult<Paged<HostRecord>> {
        self.readers.read("list hosts", move |db| lists::hosts(db, &page)).await
    }

    async fn fleet(&self) -> StoreResult<FleetRecord> {
        self.readers.read("read the fleet", hosts::fleet).await
    }

    async fn audit(&self, about: About, page: Page) -> StoreResult<Paged<AuditRecord>> {
        self.readers.read("list what people did", move |db| audit::audit(db, about, &page)).await
    }

    async fn image(&self, image: ImageSelector) -> StoreResult<Option<ImageRecord>> {
        self.readers.read("read an image", move |db| catalogue::image(db, &image)).await
    }

    async fn images(&self, page: Page) -> StoreResult<Paged<ImageRecord>> {
        self.readers.read("list images", move |db| catalogue::images(db, &page)).await
    }

    async fn network(&self, name: &NetworkName) -> StoreResult<Option<NetworkRecord>> {
        let name = name.clone();
        self.readers.read("read a network", move |db| catalogue::network(db, &name)).await
    }

    async fn networks(&self, page: Page) -> StoreResult<Paged<NetworkRecord>> {
        self.readers.read("list networks", move |db| catalogue::networks(db, &page)).await
    }

    async fn addresses(&self, network: &NetworkName) -> StoreResult<Vec<IpAddr>> {
        let name = network.clone();
        self.readers.read("list addresses", move |db| catalogue::addresses(db, &name)).await
    }
}

#[cfg(test)]
pub(crate) mod tests;
