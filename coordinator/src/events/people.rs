//! What people decide: switches, and what no machine can prove. Each is kept with who said it, and why.

use dewpoint_proto::cause::Cause;
use dewpoint_proto::ids::EventId;

use super::admit::changed;
use super::request::HostSelector;
use super::stage::ForcedAs;
use super::{Events, HostStatus, say};
use crate::store::{About, AuditRecord, EventRecord, Forcing, HoldScope, Page, Paged, Switch, Word};

impl Events {
    /// A cordoned host gets no new VMs.
    ///
    /// # Errors
    /// `HOST_NOT_FOUND`.
    pub async fn cordon(&self, host: HostSelector, cordon: Switch, word: Word) -> Result<HostStatus, Cause> {
        let id = self.inner.host_of(&host).await?.id;
        let record = self.inner.store.set_cordon(id, cordon, word).await??;
        self.inner.fleet_mut().take(&record);
        self.inner.room.notify_one();
        Ok(self.inner.status(*record))
    }

    /// A held host, or fleet, is delivered nothing. The number of hosts it concerns.
    ///
    /// # Errors
    /// `HOST_NOT_FOUND`.
    pub async fn hold(&self, scope: HoldScope, hold: Switch, word: Word) -> Result<u32, Cause> {
        let hosts = self.inner.store.set_hold(scope, hold, word.clone()).await??;
        say::held(scope, hold, &word);
        match scope {
            HoldScope::Fleet => {
                let held = self.inner.store.fleet().await?.held;
                self.inner.fleet_mut().set_fleet_held(held);
            }
            HoldScope::Host(host) => self.inner.take_host(host).await?,
        }
        self.inner.room.notify_one();
        Ok(hosts)
    }

    /// A person says that this database may place again: hosts that are ahead of it go on from their own last seq,
    /// with their next session. What it was recovering from; none: it was not, and nothing changes.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn end_recovery(&self, word: Word) -> Result<Option<Cause>, Cause> {
        let Some(recovering) = self.inner.store.fleet().await?.recovering else { return Ok(None) };
        tracing::warn!(who = word.who, why = word.reason, "a person ends the recovery: {recovering}");
        let settlement = self.inner.store.end_recovery(word).await?;
        self.inner.tell(settlement.changed);
        self.inner.take_every_host().await?;
        self.inner.room.notify_one();
        Ok(Some(recovering))
    }

    /// A person answers for an event's host: the event ends by their word. Claim and addresses stand.
    ///
    /// # Errors
    /// `EVENT_NOT_FOUND`; `WRONG_STAGE` while its host may still carry it out; `TOO_LATE` when it has ended.
    pub async fn force(&self, event: EventId, ends: ForcedAs, word: Word) -> Result<EventRecord, Cause> {
        tracing::warn!(event_id = %event, who = word.who, why = word.reason, ?ends, "a person answers for a host");
        let record = self.inner.store.force_event(Forcing { event, ends, word }).await??;
        self.inner.fleet_mut().ended(event);
        self.inner.tell([changed(&record)]);
        Ok(*record)
    }

    /// Sets how many VMs may be destroyed in a minute, 0 for any number; none: as configured.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub async fn set_destroy_limit(&self, limit: Option<u32>, word: Word) -> Result<(), Cause> {
        tracing::warn!(who = word.who, reason = word.reason, ?limit, "a person sets the limit on destroys");
        Ok(self.inner.store.set_destroy_limit(limit, word).await?)
    }

    /// The limit that holds when no person set one.
    #[must_use]
    pub fn configured_destroy_limit(&self) -> u32 {
        self.inner.destroys_a_minute
    }

    /// What people did, newest first.
    ///
    /// # Errors
    /// `INVALID` for a wrong page token.
    pub async fn audit(&self, about: About, page: Page) -> Result<Paged<AuditRecord>, Cause> {
        Ok(self.inner.store.audit(about, page).await?)
    }
}
