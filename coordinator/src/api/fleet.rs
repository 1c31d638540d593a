//! `Fleet`: what holds for all, and what people did.

use std::net::SocketAddr;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::limits;
use dewpoint_proto::status::WHO;
use dewpoint_proto::time::Millis;
use dewpoint_proto::wire::fleet::{self, fleet_server::Fleet};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use super::{Api, text};
use crate::events::request::optional;
use crate::store::{About, AuditRecord, FleetRecord, Page, Word};

/// Characters of a caller's name that are kept.
const WHO_MOST: usize = 128;

#[tonic::async_trait]
impl Fleet for Api {
    async fn get_fleet(
        &self,
        _: Request<fleet::GetFleetRequest>,
    ) -> Result<Response<fleet::FleetRecord>, Status> {
        self.answer("GetFleet", self.fleet_record()).await
    }

    async fn set_destroy_limit(
        &self,
        request: Request<fleet::SetDestroyLimitRequest>,
    ) -> Result<Response<fleet::FleetRecord>, Status> {
        self.answer("SetDestroyLimit", async {
            let caller = Caller::of(&request);
            let fleet::SetDestroyLimitRequest { limit, as_configured, reason } = request.into_inner();
            let word = caller.word_with_reason(reason)?;
            self.events.set_destroy_limit((!as_configured).then_some(limit), word).await?;
            self.fleet_record().await
        })
        .await
    }

    async fn list_acts(
        &self,
        request: Request<fleet::ListActsRequest>,
    ) -> Result<Response<fleet::ListActsResponse>, Status> {
        self.answer("ListActs", async {
            let request = request.into_inner();
            let page = Page::parse(request.page_size, &request.page_token)?;
            let about = About {
                host: optional(&request.host_id)?,
                event: optional(&request.event_id)?,
                vm: optional(&request.vm_id)?,
            };
            let acts = self.events.audit(about, page).await?;
            Ok(fleet::ListActsResponse {
                acts: acts.items.into_iter().map(act).collect(),
                next_page_token: acts.next.unwrap_or_default(),
            })
        })
        .await
    }
}

impl Api {
    async fn fleet_record(&self) -> Result<fleet::FleetRecord, Cause> {
        let FleetRecord { held, recovering, destroy_limit } = self.events.fleet().await?;
        Ok(fleet::FleetRecord {
            held: held.is_some(),
            hold_reason: held.unwrap_or_default(),
            recovering: recovering.map(Into::into),
            destroy_limit: destroy_limit.unwrap_or_else(|| self.events.configured_destroy_limit()),
            destroy_limit_set: destroy_limit.is_some(),
        })
    }
}

fn act(record: AuditRecord) -> fleet::Act {
    let AuditRecord { act, about, hostname, detail, word } = record;
    fleet::Act {
        at_ms: word.at.0,
        who: word.who,
        act,
        host_id: text(about.host),
        hostname: hostname.unwrap_or_default(),
        event_id: text(about.event),
        vm_id: text(about.vm),
        detail,
        reason: word.reason,
    }
}

/// Who asks, as far as they say: taken before the request is taken apart.
pub(super) struct Caller {
    name: String,
}

impl Caller {
    pub(super) fn of<T>(request: &Request<T>) -> Self {
        Self { name: name(request.metadata(), request.remote_addr()) }
    }

    /// Their word, with a reason or without.
    ///
    /// # Errors
    /// `TOO_LARGE`.
    pub(super) fn word(self, reason: String) -> Result<Word, Cause> {
        if reason.len() > limits::NOTE_BYTES {
            return Err(Cause::new(Reason::TooLarge, format!("the reason has {} bytes", reason.len()))
                .advise(format!("give at most {} bytes", limits::NOTE_BYTES))
                .with("field", "reason"));
        }
        Ok(Word { who: self.name, reason, at: Millis::now() })
    }

    /// Their word on what cannot be taken back: never without a reason.
    ///
    /// # Errors
    /// `INVALID`, `TOO_LARGE`.
    pub(super) fn word_with_reason(self, reason: String) -> Result<Word, Cause> {
        if reason.trim().is_empty() {
            return Err(Cause::new(Reason::Invalid, "there is no reason")
                .advise("say why, for whoever reads it later")
                .with("field", "reason"));
        }
        self.word(reason)
    }
}

/// What the caller calls itself, and where it called from.
fn name(metadata: &MetadataMap, from: Option<SocketAddr>) -> String {
    let said = metadata.get(WHO).and_then(|who| who.to_str().ok()).unwrap_or("unnamed");
    let said: String = said.chars().filter(|c| !c.is_control()).take(WHO_MOST).collect();
    from.map_or_else(|| said.clone(), |from| format!("{said} from {}", from.ip()))
}
