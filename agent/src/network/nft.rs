//! Anti-spoofing in one nftables table of the bridge family, by the `nft` command.
//!
//! The rules are the same for all; each VM has elements in sets (see `ruleset`). Every change is one transaction, so
//! that a crash leaves the old rules or the new ones. Touches no table but its own, and no interface but our taps. Others
//! may flush anything at any time: what is in force is looked up, never remembered.

use async_trait::async_trait;
use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;
use dewpoint_proto::names::InterfaceName;
use tokio::sync::Mutex;

use self::command::Command;
use self::listing::Listing;
use super::{Allowed, Rules, Seen, Shield, Survey, tap_prefix};

mod command;
mod listing;
mod ruleset;

#[cfg(test)]
mod tests;

pub use self::command::NftSettings;

/// The host's anti-spoofing rules, in nftables.
pub struct Nft {
    command: Command,
    table: String,
    /// A change is worked out from what is there: one at a time.
    changing: Mutex<()>,
}

impl Nft {
    /// Nothing is run or set yet.
    #[must_use]
    pub fn new(settings: NftSettings) -> Self {
        let table = settings.table.clone();
        Self { command: Command::new(settings), table, changing: Mutex::default() }
    }

    async fn listing(&self) -> Result<Listing, Cause> {
        match self.command.list().await? {
            Some(json) => Listing::parse(&json).map_err(|why| {
                Cause::new(
                    Reason::NetworkError,
                    format!("nftables' table `{}` is not ours: {why}", self.table),
                )
                .advise(format!("see `nft list table bridge {}`", self.table))
            }),
            None => Ok(Listing::default()),
        }
    }

    async fn replace(&self, vm: VmId, rules: &[Allowed]) -> Result<(), Cause> {
        let _turn = self.changing.lock().await;
        let listing = self.listing().await?;
        let (wanted, found) = (ruleset::elements(rules)?, listing.of(&tap_prefix(vm)));
        let mut script = String::new();
        // Nothing to keep out: no table is made for that.
        if !listing.is_whole() && !wanted.is_empty() {
            script.push_str(&ruleset::skeleton(&self.table));
        }
        for gone in found.difference(&wanted) {
            script.push_str(&gone.remove(&self.table));
        }
        for new in wanted.difference(&found) {
            script.push_str(&new.add(&self.table));
        }
        if script.is_empty() { Ok(()) } else { self.command.run(&script).await }
    }
}

#[async_trait]
impl Shield for Nft {
    async fn observe(&self, vm: VmId) -> Seen<Vec<Allowed>> {
        let listing = match self.listing().await {
            Ok(listing) => listing,
            Err(cause) => return Seen::Unknown(cause.text),
        };
        let found = listing.of(&tap_prefix(vm));
        if found.is_empty() {
            return Seen::Absent;
        }
        // Elements without the rules that use them hold nobody back.
        Seen::There(if listing.is_whole() { ruleset::in_force(&found) } else { Vec::new() })
    }

    async fn survey(&self) -> Result<Survey, Cause> {
        let listing = self.listing().await?;
        let all = listing.of("");
        let rules = match (listing.is_whole(), listing.has_rules()) {
            (true, _) => Rules::Whole,
            (false, true) => Rules::Broken,
            (false, false) => Rules::None,
        };
        let taps = all.iter().map(|element| element.tap.clone()).collect();
        Ok(Survey { rules, in_force: ruleset::in_force(&all), taps })
    }

    async fn clear_taps(&self, taps: &[InterfaceName]) -> Result<(), Cause> {
        let _turn = self.changing.lock().await;
        let listing = self.listing().await?;
        let mut script = String::new();
        for tap in taps {
            // A tap's whole name, and none that only begins so.
            for gone in listing.of(tap.as_str()).iter().filter(|element| element.tap == tap.as_str()) {
                script.push_str(&gone.remove(&self.table));
            }
        }
        if script.is_empty() { Ok(()) } else { self.command.run(&script).await }
    }

    async fn set(&self, vm: VmId, rules: &[Allowed]) -> Result<(), Cause> {
        let prefix = tap_prefix(vm);
        if let Some(other) = rules.iter().find(|rule| !rule.tap.as_str().starts_with(&prefix)) {
            return Err(Cause::new(Reason::Internal, format!("{} is not a tap of VM {vm}", other.tap)));
        }
        self.replace(vm, rules).await
    }

    async fn clear(&self, vm: VmId) -> Result<(), Cause> {
        self.replace(vm, &[]).await
    }
}
