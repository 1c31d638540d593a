//! `dewpoint vm create`: everything that can be checked here is checked before anything is sent.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use dewpoint_proto::cause::Cause;
use dewpoint_proto::limits;
use dewpoint_proto::names::VmName;
use dewpoint_proto::spec::{DiskMode, Placement, Restart, VmSpec};
use dewpoint_proto::wire::event as wire;
use dewpoint_proto::wire::fleet::{CreateVmRequest, NicRequest};

use crate::args::values::{HostRef, ImageArg, Label, NicArg, Size, vcpus};
use crate::args::{EventOptions, Global, WaitBound};
use crate::failure::{Failure, invalid};
use crate::fleet::{Fleet, request};
use crate::output::Output;
use crate::submit::Submission;

/// Build a VM from an image.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    /// The VM's name, also its guest's hostname: 1 to 63 lower-case letters, digits and `-`
    name: VmName,
    /// The image or snapshot its disk begins as: name or digest
    #[arg(long, value_name = "IMAGE")]
    image: ImageArg,
    /// Virtual CPUs
    #[arg(long, value_name = "N", default_value = "1", value_parser = vcpus)]
    vcpus: u32,
    /// Memory, such as 512MiB or 2GiB
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    memory: Size,
    /// The disk, at least as large as the image's [default: the image's]
    #[arg(long, value_name = "SIZE")]
    disk: Option<Size>,
    /// A network interface; repeat for more. Without ip=, any free address of the network's pool
    #[arg(long = "network", value_name = "NETWORK[,ip=ADDRESS]")]
    networks: Vec<NicArg>,
    /// A file of public keys for the image's default user; repeat for more
    #[arg(long = "ssh-key-file", value_name = "FILE")]
    ssh_key_files: Vec<PathBuf>,
    /// A file given to cloud-init as it is
    #[arg(long, value_name = "FILE")]
    user_data: Option<PathBuf>,
    /// A label; repeat for more
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<Label>,
    /// On just this host: hostname or id [default: the scheduler chooses]
    #[arg(long, value_name = "HOST")]
    host: Option<HostRef>,
    /// A disk that shares nothing with the image, instead of an overlay on it
    #[arg(long)]
    full_copy: bool,
    /// It may be built on another host when this one is lost
    #[arg(long)]
    movable: bool,
    /// When it goes off by itself its host starts it again: never, on-crash (not when the guest powers itself off) or
    /// always
    #[arg(long, value_name = "POLICY", default_value = "on-crash")]
    restart: Restart,
    /// Leave it off when built
    #[arg(long)]
    off: bool,
    /// Stay pending while no host fits, instead of being refused
    #[arg(long)]
    wait_for_capacity: bool,
    #[command(flatten)]
    options: EventOptions,
    #[command(flatten)]
    bound: WaitBound,
}

/// Builds the request, then sends it.
pub(super) async fn carry_out(
    create: Create,
    global: &Global,
    output: &mut Output<'_>,
) -> Result<(), Failure> {
    let spec = create.spec()?;
    let submission = Submission::new(&create.options, create.bound.bound());
    let fleet = Fleet::connect(global).await?;
    let asked = create.request(spec, fleet.host_id(create.host.as_ref()).await?);
    let send = async |options| {
        let asked = CreateVmRequest { options: Some(options), ..asked.clone() };
        fleet.vms().create_vm(request(asked)).await
    };
    submission.carry_out(&fleet, output, send).await
}

impl Create {
    /// The VM asked for, within every bound; its network interfaces are the coordinator's to make.
    fn spec(&self) -> Result<VmSpec, Cause> {
        if self.networks.len() > limits::NICS {
            return Err(invalid(format!("{} networks are given", self.networks.len()))
                .advise(format!("give at most {}", limits::NICS)));
        }
        let mut ssh_keys = Vec::new();
        for file in &self.ssh_key_files {
            ssh_keys.extend(public_keys(file)?);
        }
        let user_data = match &self.user_data {
            Some(file) => read(file, limits::USER_DATA_BYTES)?,
            None => Vec::new(),
        };
        VmSpec {
            name: self.name.clone(),
            vcpus: self.vcpus,
            memory_bytes: self.memory.0,
            // Without one it is the image's, which the coordinator knows; any size in bounds does for the check.
            disk_bytes: self.disk.map_or(*limits::DISK_BYTES.start(), |disk| disk.0),
            disk_mode: if self.full_copy { DiskMode::FullCopy } else { DiskMode::Overlay },
            nics: Vec::new(),
            ssh_keys,
            user_data,
            labels: self.unique_labels()?,
            placement: if self.movable { Placement::Movable } else { Placement::Bound },
            restart: self.restart,
        }
        .checked()
    }

    fn unique_labels(&self) -> Result<BTreeMap<String, String>, Cause> {
        let mut labels = BTreeMap::new();
        for Label { key, value } in &self.labels {
            if labels.insert(key.clone(), value.clone()).is_some() {
                return Err(invalid(format!("the label `{key}` is given twice")).advise("give each key once"));
            }
        }
        Ok(labels)
    }

    fn request(&self, spec: VmSpec, host_id: String) -> CreateVmRequest {
        let spec = wire::VmSpec::from(spec);
        let nics = self.networks.iter().map(|nic| NicRequest {
            network: nic.network.as_str().to_owned(),
            address4: nic.address4.clone(),
            address6: nic.address6.clone(),
        });
        CreateVmRequest {
            options: None,
            vm_id: String::new(),
            name: spec.name,
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            disk_bytes: self.disk.map_or(0, |disk| disk.0),
            disk_mode: spec.disk_mode,
            image: self.image.to_string(),
            nics: nics.collect(),
            ssh_keys: spec.ssh_keys,
            user_data: spec.user_data,
            labels: spec.labels,
            placement: spec.placement,
            restart: spec.restart,
            leave_off: self.off,
            host_id,
            wait_for_capacity: self.wait_for_capacity,
        }
    }
}

/// The keys of a `.pub` or `authorized_keys` file: a line each, blank ones and comments left out.
fn public_keys(file: &Path) -> Result<Vec<String>, Cause> {
    let bytes = read(file, limits::SSH_KEYS * limits::SSH_KEY_BYTES)?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable(file, "it is not text"))?;
    // A private key given by mistake must not leave this machine.
    if text.contains("PRIVATE KEY-----") {
        return Err(invalid(format!("{} holds a private key", file.display())).advise("give its .pub file"));
    }
    let keys: Vec<String> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect();
    if keys.is_empty() { Err(unreadable(file, "it holds no key")) } else { Ok(keys) }
}

fn read(file: &Path, most: usize) -> Result<Vec<u8>, Cause> {
    let opened = std::fs::File::open(file).map_err(|error| unreadable(file, &error.to_string()))?;
    let mut bytes = Vec::new();
    let bound = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    opened.take(bound).read_to_end(&mut bytes).map_err(|error| unreadable(file, &error.to_string()))?;
    if bytes.len() > most {
        return Err(Cause::new(
            dewpoint_proto::cause::Reason::TooLarge,
            format!("{} has more than {most} bytes", file.display()),
        )
        .advise("shorten it"));
    }
    Ok(bytes)
}

fn unreadable(file: &Path, why: &str) -> Cause {
    invalid(format!("{} cannot be used: {why}", file.display()))
        .advise("check the path and what is in the file")
        .with("path", file.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGJ0 me@example";

    fn keys_in(content: &str) -> Result<Vec<String>, Cause> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys");
        std::fs::write(&file, content).unwrap();
        public_keys(&file)
    }

    #[test]
    fn keys_come_a_line_each() {
        assert_eq!(keys_in(&format!("# mine\n\n{KEY}\r\n{KEY}\n")).unwrap(), [KEY, KEY]);
    }

    #[test]
    fn a_private_key_stays_here() {
        let cause = keys_in("-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n").unwrap_err();
        assert!(cause.text.contains("holds a private key") && !cause.text.contains("secret"));
    }

    #[test]
    fn an_empty_or_huge_file_is_named() {
        assert!(keys_in("\n").unwrap_err().text.contains("holds no key"));
        let huge = "x".repeat(limits::SSH_KEYS * limits::SSH_KEY_BYTES + 1);
        assert_eq!(keys_in(&huge).unwrap_err().reason, dewpoint_proto::cause::Reason::TooLarge);
    }
}
