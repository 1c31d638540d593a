//! The tiny guest's HTTP interface, see `docs/lab.md`.

use std::net::Ipv4Addr;
use std::time::Duration;

use serde::Deserialize;

use crate::wait::{BOOT, until};

/// A guest, by its address.
#[derive(Clone, Debug)]
pub struct Guest {
    /// Where it answers.
    pub address: Ipv4Addr,
    http: reqwest::Client,
}

/// What it tells of itself.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Facts {
    /// The kernel's, new with every boot.
    pub boot_id: String,
    /// As it took it from its seed.
    pub hostname: String,
    /// As cloud-init would see it.
    pub instance_id: String,
    /// SHA-256 of the user-data that arrived, in hexadecimal.
    pub user_data_sha256: String,
    /// What was written to its disk.
    pub marker: Option<String>,
    /// Starts of this disk.
    pub boots: u64,
    /// Its memory.
    pub memory_mib: u64,
    /// Its processors.
    pub cpus: u32,
    /// Its disk's size.
    pub disk_bytes: u64,
    /// Its interfaces.
    pub nics: Vec<NicFacts>,
}

/// An interface of the guest.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct NicFacts {
    /// eth0, eth1, ...
    pub name: String,
    /// In lower case.
    pub mac: String,
    /// Each with its prefix length.
    pub addresses: Vec<String>,
}

/// What the guest's own guest agent tells.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct GuestAgent {
    /// How it behaves.
    pub manners: String,
    /// Freezes that it was asked for.
    pub freezes: u32,
    /// Thaws that it was asked for.
    pub thaws: u32,
    /// Its disk is frozen.
    pub frozen: bool,
}

/// The frames that a `spoof` sent.
#[derive(Clone, Debug, Deserialize)]
pub struct Spoofed {
    /// How many.
    pub sent: u32,
    /// One of them, in hexadecimal.
    pub frame: String,
}

impl Guest {
    /// The guest at an address; a guest that is off answers nothing for 3 s.
    ///
    /// # Panics
    /// When no HTTP client can be made.
    #[must_use]
    pub fn at(address: Ipv4Addr) -> Self {
        let http =
            reqwest::Client::builder().timeout(Duration::from_secs(3)).no_proxy().pool_max_idle_per_host(0);
        Self { address, http: http.build().unwrap_or_else(|error| panic!("an HTTP client: {error}")) }
    }

    /// What it tells now.
    ///
    /// # Errors
    /// While it does not answer.
    pub async fn facts(&self) -> Result<Facts, String> {
        self.get("").await
    }

    /// Waits until it answers.
    pub async fn until_up(&self) -> Facts {
        until(&format!("the guest at {} answers", self.address), BOOT, async || self.facts().await).await
    }

    /// Waits until it answers from another boot.
    pub async fn until_rebooted(&self, before: &Facts) -> Facts {
        let what = format!("the guest at {} answers from another boot", self.address);
        until(&what, BOOT, async || match self.facts().await {
            Ok(facts) if facts.boot_id != before.boot_id => Ok(facts),
            Ok(_) => Err("the boot id of before".to_owned()),
            Err(why) => Err(why),
        })
        .await
    }

    /// Writes the marker to its disk, durably.
    ///
    /// # Panics
    /// When it does not take it.
    pub async fn mark(&self, marker: &str) {
        let marked = self.try_mark(marker).await;
        marked.unwrap_or_else(|error| panic!("the guest at {} takes no marker: {error}", self.address));
    }

    /// The same, of a guest that may be off.
    ///
    /// # Errors
    /// When it does not answer: it may have written it.
    pub async fn try_mark(&self, marker: &str) -> Result<(), String> {
        let sent = self.http.post(self.url("marker")).body(marker.to_owned()).send().await;
        sent.and_then(reqwest::Response::error_for_status).map(drop).map_err(|error| format!("{error:?}"))
    }

    /// Tells it to do something to itself: `poweroff`, `reboot` or `crash`. It answers first.
    ///
    /// # Errors
    /// When it does not answer: it may do it.
    pub async fn tell(&self, what: &str) -> Result<(), String> {
        let sent = self.http.get(self.url(what)).send().await;
        sent.and_then(reqwest::Response::error_for_status).map(drop).map_err(|error| format!("{error:?}"))
    }

    /// Asks it for `poweroff`, `reboot` or `crash`, which it does by itself after it has answered.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn does(&self, what: &str) {
        let sent = self.http.get(self.url(what)).send().await;
        let answer = sent.and_then(reqwest::Response::error_for_status);
        answer.unwrap_or_else(|error| panic!("the guest at {} does no {what}: {error:?}", self.address));
    }

    /// What its guest agent tells.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn agent(&self) -> GuestAgent {
        let what = format!("the guest at {} tells of its agent", self.address);
        until(&what, BOOT, async || self.get("agent").await).await
    }

    /// Has its guest agent behave in that way from now on; what `times` means: see `docs/lab.md`.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn agent_behaves(&self, manners: &str, times: u32) -> GuestAgent {
        let what = format!("the guest agent at {} is {manners}", self.address);
        let path = format!("agent?manners={manners}&times={times}");
        until(&what, BOOT, async || self.get(&path).await).await
    }

    /// Sends frames of a kind toward the gateway.
    ///
    /// # Panics
    /// When the guest does not.
    pub async fn spoof(&self, kind: &str) -> Spoofed {
        // A guest under emulation that shares the machine may be slow; and after an `arpmac` the host may look for it.
        let what = format!("the guest at {} sends {kind}", self.address);
        until(&what, BOOT, async || self.get(&format!("spoof?kind={kind}")).await).await
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let answer = self.http.get(self.url(path)).send().await.map_err(|error| format!("{error:?}"))?;
        let answer = answer.error_for_status().map_err(|error| error.to_string())?;
        answer.json().await.map_err(|error| format!("{error:?}"))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}
