//! A fleet of one host in a lab: coordinator, agent, the tiny image in the catalogue, a network.

use std::net::Ipv4Addr;

use dewpoint_proto::wire::fleet::{
    AddImageRequest, CreateNetworkRequest, GetImageServerRequest, Network, Vm,
};
use sha2::{Digest, Sha256};

use crate::agent::{Agent, Link};
use crate::caller::{Caller, answer};
use crate::coordinator::Coordinator;
use crate::guest::Guest;
use crate::host::{DomainSeen, Libvirt, files};
use crate::lab::{Lab, tiny_image};
use crate::libvirtd::Libvirtd;
use crate::request::{IMAGE, NETWORK};
use crate::wait::{BOOT, until};

/// A running fleet. Its parts are dropped in this order: daemons before the lab that they work in.
pub struct Fleet {
    /// Its agent.
    pub agent: Agent,
    /// Its coordinator.
    pub coordinator: Coordinator,
    /// The tests' own look at libvirt.
    pub libvirt: Libvirt,
    /// A caller.
    pub caller: Caller,
    /// Where it lives.
    pub lab: Lab,
}

impl Fleet {
    /// Starts a coordinator and an agent, and waits until VMs can be made.
    ///
    /// # Panics
    /// When they do not come up.
    pub async fn start() -> Self {
        Self::start_in(Lab::new()).await
    }

    /// The same in a lab that is there, whose libvirt answers.
    ///
    /// # Panics
    /// When they do not come up.
    pub async fn start_in(lab: Lab) -> Self {
        let mut coordinator = Coordinator::new(&lab);
        let mut agent = Agent::new(&lab, Link::Coordinator);
        coordinator.start().await;
        agent.start_without_waiting();
        let caller = Caller::of(coordinator.url());
        let libvirt = Libvirt::connect_to(lab.hypervisor());
        let mut fleet = Self { agent, coordinator, libvirt, caller, lab };
        prepare(&fleet.caller, &fleet.lab).await;
        fleet.agent.until_ready().await;
        fleet.until_alive().await;
        fleet
    }

    /// Waits until the coordinator has heard enough of its host to place VMs there.
    ///
    /// # Panics
    /// When it does not.
    pub async fn until_alive(&self) {
        until("the host is alive", BOOT, async || match self.caller.all_hosts().await {
            Ok(hosts) if hosts.len() == 1 && hosts[0].liveness == "alive" && hosts[0].memory_bytes > 0 => {
                Ok(())
            }
            Ok(hosts) => Err(format!("{hosts:?}")),
            Err(cause) => Err(cause.to_string()),
        })
        .await;
    }

    /// SIGKILL and a new start of the agent.
    pub async fn crash_agent(&mut self) {
        self.agent.kill();
        self.agent.start().await;
    }

    /// Connects anew to a libvirt that was started again.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn reconnect_libvirt(&mut self) {
        self.libvirt = Libvirt::connect_to(self.lab.hypervisor());
    }

    /// SIGKILL and a new start of the coordinator.
    pub async fn crash_coordinator(&mut self) {
        self.coordinator.kill();
        self.coordinator.start().await;
    }

    /// The guest of a VM, by its first address.
    ///
    /// # Panics
    /// When it has none.
    pub async fn guest(&self, vm: &str) -> Guest {
        let vm = self.caller.vm(vm).await.unwrap_or_else(|cause| panic!("{vm}: {cause:?}"));
        Guest::at(address4(&vm))
    }

    /// The domain of a VM.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn domain(&self, vm: &str) -> DomainSeen {
        self.libvirt.domain(vm).unwrap_or_else(|| panic!("VM {vm} has no domain"))
    }

    /// The domains that this fleet's agent made.
    #[must_use]
    pub fn domains(&self) -> Vec<DomainSeen> {
        self.libvirt.domains_with_files_in(self.lab.dir())
    }

    /// Fails unless nothing is left of a VM: domain, files, rules, tap.
    ///
    /// # Panics
    /// See above.
    pub fn assert_gone(&self, vm: &str, tap: Option<&str>) {
        assert_eq!(self.libvirt.domain(vm), None, "the domain is left");
        let left = files(&self.agent.vm_dir(vm));
        assert!(left.is_empty() && !self.agent.vm_dir(vm).exists(), "files are left: {left:?}");
        if let Some(tap) = tap {
            let rules = crate::host::rules(&self.lab);
            assert!(!rules.contains(tap), "rules are left for {tap}:\n{rules}");
            assert!(!std::path::Path::new("/sys/class/net").join(tap).exists(), "the tap {tap} is left");
        }
    }
}

/// Puts the tiny image into a coordinator's catalogue, and makes the lab's network.
///
/// # Panics
/// When it does not take them.
pub async fn prepare(caller: &Caller, lab: &Lab) {
    add_tiny_image(caller).await;
    add_network(caller, lab).await;
}

async fn add_tiny_image(caller: &Caller) {
    let path = tiny_image();
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let digest = hex::encode(Sha256::digest(&bytes));
    let mut images = caller.images();
    let server = answer(images.get_image_server(GetImageServerRequest {}).await);
    let url = server.unwrap_or_else(|cause| panic!("{cause:?}")).url;
    let put = reqwest::Client::new().put(format!("{url}/images/{digest}")).body(bytes).send().await;
    let put = put.unwrap_or_else(|error| panic!("the image server: {error:?}"));
    assert!(put.status().is_success(), "the image server: {}", put.status());
    let image = AddImageRequest { name: IMAGE.to_owned(), digest };
    answer(images.add_image(image).await).unwrap_or_else(|cause| panic!("{cause:?}"));
}

async fn add_network(caller: &Caller, lab: &Lab) {
    let network = Network {
        name: NETWORK.to_owned(),
        subnet4: network_of(&lab.cidr4(0)),
        gateway4: lab.ip4(1).to_string(),
        subnet6: network_of(&lab.cidr6(0)),
        gateway6: lab.cidr6(1).trim_end_matches("/64").to_owned(),
        ..Network::default()
    };
    let request = CreateNetworkRequest { network: Some(network) };
    answer(caller.networks().create_network(request).await).unwrap_or_else(|cause| panic!("{cause:?}"));
}

/// A fleet with a libvirt of its own. Its parts are dropped in this order: libvirt's daemon before the lab's folder.
pub struct Site {
    /// The lab's libvirtd.
    pub libvirtd: Libvirtd,
    /// The fleet on it.
    pub fleet: Fleet,
}

impl Site {
    /// Starts all of it, and waits until VMs can be made.
    ///
    /// # Panics
    /// When it does not come up.
    pub async fn start() -> Self {
        let lab = Lab::with_libvirt();
        let mut libvirtd = Libvirtd::new(&lab);
        libvirtd.start().await;
        Self { fleet: Fleet::start_in(lab).await, libvirtd }
    }

    /// Starts libvirtd again after it was killed or stopped.
    ///
    /// # Panics
    /// When it does not answer.
    pub async fn start_libvirtd(&mut self) {
        self.libvirtd.start().await;
        self.fleet.reconnect_libvirt();
    }

    /// Waits until the coordinator shows that the host's libvirt cannot be reached.
    ///
    /// # Panics
    /// When it is not shown.
    pub async fn until_libvirt_is_missed(&self) {
        until("the host says that libvirt is down", BOOT, async || {
            let degraded = self.degraded().await?;
            if degraded.iter().any(|reason| reason == "HYPERVISOR_DOWN") {
                Ok(())
            } else {
                Err(format!("{degraded:?}"))
            }
        })
        .await;
    }

    /// Waits until nothing is wrong with the host.
    ///
    /// # Panics
    /// When something stays wrong.
    pub async fn until_well(&self) {
        until("nothing is wrong with the host", BOOT, async || {
            let degraded = self.degraded().await?;
            if degraded.is_empty() { Ok(()) } else { Err(format!("{degraded:?}")) }
        })
        .await;
    }

    async fn degraded(&self) -> Result<Vec<String>, String> {
        let hosts = self.fleet.caller.all_hosts().await.map_err(|cause| cause.to_string())?;
        Ok(hosts.into_iter().flat_map(|host| host.degraded).map(|cause| cause.reason).collect())
    }
}

/// The first IPv4 address of a VM.
///
/// # Panics
/// When it has none.
#[must_use]
pub fn address4(vm: &Vm) -> Ipv4Addr {
    let mut addresses = vm.nics.iter().flat_map(|nic| &nic.addresses);
    addresses
        .find_map(|address| address.split('/').next()?.parse().ok())
        .unwrap_or_else(|| panic!("the VM has no IPv4 address: {vm:?}"))
}

/// `fdd0::0/64` as `fdd0::/64`.
fn network_of(cidr: &str) -> String {
    cidr.replace("::0/", "::/")
}
