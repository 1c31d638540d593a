//! One fake domain, and what libvirt's calls do to it.

use std::path::Path;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{EventId, VmId};
use dewpoint_proto::vm_state::Power;

use super::world::{Content, Guest, State, Thawing};
use crate::hypervisor::{
    BackupJob, Call, ConfigDigest, Control, Details, Domain, DomainEvent, DomainNic, DomainSpec, Domains,
    InspectedNic, Mark, Seen, domain_name,
};

/// One fake domain.
#[derive(Clone, Debug)]
pub struct FakeDomain {
    /// Its persistent configuration; none: someone else's, without our mark.
    pub spec: Option<DomainSpec>,
    /// The mark that the running QEMU was started with.
    pub live: Option<Mark>,
    /// Its power.
    pub power: Power,
    /// libvirt's reason.
    pub detail: String,
    /// Its backup, and the event whose file it writes.
    pub backup: Option<(EventId, BackupJob)>,
    /// libvirt would start it by itself.
    pub autostart: bool,
    /// File systems are frozen.
    pub frozen: bool,
    /// An abandoned call that acts later, after so many looks.
    pub late: Option<(Call, u32)>,
    /// A guest that goes down after so many looks.
    pub going: Option<u32>,
    /// The name that somebody gave it; none: its own.
    pub renamed: Option<String>,
}

impl FakeDomain {
    /// A domain that is none of ours.
    #[must_use]
    pub fn foreign() -> Self {
        Self::with(None)
    }

    fn with(spec: Option<DomainSpec>) -> Self {
        Self {
            spec,
            live: None,
            power: Power::Off,
            detail: "shutoff/unknown".to_owned(),
            backup: None,
            autostart: false,
            frozen: false,
            late: None,
            going: None,
            renamed: None,
        }
    }

    fn is_on(&self) -> bool {
        self.power != Power::Off
    }

    fn go_off(&mut self, detail: &str) {
        self.power = Power::Off;
        self.detail = detail.to_owned();
        self.live = None;
        self.frozen = false;
        self.going = None;
    }

    fn seen(&self, vm: VmId) -> Domain {
        let found = self.spec.as_ref().map(|spec| &spec.mark);
        let mark = match found {
            Some(mark) if mark.vm == vm => Seen::There(mark.clone()),
            Some(mark) => Seen::Unknown(format!("bears the mark of VM {}", mark.vm)),
            None => Seen::Absent,
        };
        let own = |spec: &DomainSpec| domain_name(&spec.name, vm);
        let busy = |(call, _): &(Call, u32)| Control::Busy(format!("{} is at work", call.name()));
        Domain {
            vm,
            name: self
                .renamed
                .clone()
                .unwrap_or_else(|| self.spec.as_ref().map_or_else(|| "foreign".to_owned(), own)),
            power: self.power,
            detail: self.detail.clone(),
            mark,
            live: self.live.clone().map_or(Seen::Absent, Seen::There),
            backup: self.backup.as_ref().map_or(BackupJob::None, |(_, job)| job.clone()),
            control: self.late.as_ref().map_or(Control::Idle, busy),
            claims: found.map(|mark| mark.vm).filter(|of| *of != vm),
        }
    }
}

impl State {
    /// How a guest's domain looks now. Time passes with looks: jobs and late calls go on.
    pub(super) fn look(&mut self, vm: VmId) -> Seen<Domain> {
        self.pass_time(vm);
        self.domains.get(&vm).map_or(Seen::Absent, |domain| Seen::There(domain.seen(vm)))
    }

    pub(super) fn details(&self, vm: VmId) -> Seen<Details> {
        let Some(domain) = self.domains.get(&vm) else { return Seen::Absent };
        let Some(spec) = &domain.spec else { return Seen::There(Details::default()) };
        let nic = |nic: &DomainNic| InspectedNic {
            tap: Some(nic.tap.to_string()),
            bridge: Some(nic.bridge.to_string()),
            mac: Some(nic.mac.to_string()),
        };
        Seen::There(Details {
            persistent: true,
            autostart: domain.autostart,
            managed_save: false,
            disk: Some(spec.disk.clone()),
            seed: Some(spec.seed.clone()),
            nics: spec.nics.iter().map(nic).collect(),
            vcpus: spec.vcpus,
            memory_bytes: spec.memory_bytes,
            config: Some(ConfigDigest {
                written_by: "fake".to_owned(),
                sha256: format!("{} {:?} {:?}", spec.vcpus, spec.disk, spec.seed),
            }),
        })
    }

    pub(super) fn look_at_all(&mut self) -> Domains {
        self.domains.iter().map(|(vm, domain)| (*vm, domain.seen(*vm))).collect()
    }

    /// A call that is on its way, and acts after its caller has given up.
    pub(super) fn send_late(&mut self, call: Call) {
        let vm = call.vm();
        match self.domains.get_mut(&vm) {
            Some(domain) => domain.late = Some((call, 3)),
            // There is no domain to be busy: libvirt defines it at once.
            None => drop(self.carry_out(&call)),
        }
    }

    /// An error: it is frozen, and its agent does not say so.
    pub(super) fn freeze(&mut self, vm: VmId) -> Result<(), Cause> {
        let domain = self.domain(vm)?;
        domain.frozen = domain.is_on();
        match self.thawing.get(&vm) {
            Some(Thawing::After(1..) | Thawing::Never) => Err(frozen()),
            Some(Thawing::After(0)) | None => Ok(()),
        }
    }

    /// What the guest agent answers to a thaw.
    fn ask_to_thaw(&mut self, vm: VmId) -> Result<(), Cause> {
        if !self.domain(vm)?.is_on() {
            return Ok(());
        }
        match self.thawing.get_mut(&vm) {
            Some(Thawing::Never) => return Err(frozen()),
            Some(Thawing::After(left @ 1..)) => {
                *left -= 1;
                return Err(frozen());
            }
            Some(Thawing::After(0)) | None => self.thaw(vm),
        }
        Ok(())
    }

    pub(super) fn thaw(&mut self, vm: VmId) {
        if let Some(domain) = self.domains.get_mut(&vm) {
            domain.frozen = false;
        }
    }

    /// What libvirt does.
    pub(super) fn carry_out(&mut self, call: &Call) -> Result<(), Cause> {
        let vm = call.vm();
        let foreign = self.domains.get(&vm).is_some_and(|domain| domain.spec.is_none());
        if foreign {
            self.wrongs.push(format!("{} of a foreign domain", call.name()));
        }
        let done = match call {
            Call::Define(spec) => {
                let domain = self.domains.entry(vm).or_insert_with(|| FakeDomain::with(None));
                domain.spec = Some((**spec).clone());
                Ok(())
            }
            Call::Mark(mark) => {
                let spec = self.domain(vm)?.spec.as_mut();
                spec.ok_or_else(|| said("no persistent configuration")).map(|spec| spec.mark = mark.clone())
            }
            Call::Start(_) => self.start(vm),
            Call::PowerOff(_) => self.need_on(vm).map(|()| self.power_off(vm, "shutoff/destroyed")),
            Call::AskShutdown(_) => self.need_on(vm).map(|()| self.ask(vm)),
            Call::Undefine(_) => self.undefine(vm),
            Call::BeginBackup { target, .. } => self.begin_backup(vm, target),
            Call::AbortBackup(_) => self.need_on(vm).map(|()| {
                if let Some(domain) = self.domains.get_mut(&vm) {
                    domain.backup = None;
                }
            }),
            Call::Thaw { .. } => self.ask_to_thaw(vm),
            Call::AutostartOff(_) => self.domain(vm).map(|domain| domain.autostart = false),
        };
        self.told.push(DomainEvent::Changed(vm, call.name().to_owned()));
        done
    }

    /// libvirt says something of a domain.
    pub fn tell(&mut self, vm: VmId, word: &str) {
        self.told.push(DomainEvent::Changed(vm, word.to_owned()));
    }

    /// The plug is pulled, or the guest went down: libvirt deletes the target of a backup that was at work.
    pub fn power_off(&mut self, vm: VmId, detail: &str) {
        self.power_off_untold(vm, detail);
        self.told.push(DomainEvent::Changed(vm, detail.to_owned()));
    }

    /// The same, and libvirt has yet to tell of it.
    pub fn power_off_untold(&mut self, vm: VmId, detail: &str) {
        let Some(domain) = self.domains.get_mut(&vm) else { return };
        domain.go_off(detail);
        if let Some((event, BackupJob::Running { .. })) = domain.backup.take()
            && let Some(folder) = self.folders.get_mut(&vm)
        {
            folder.snapshots.remove(&event);
        }
    }

    fn start(&mut self, vm: VmId) -> Result<(), Cause> {
        let domain = self.domain(vm)?;
        if domain.is_on() {
            return Err(said("the domain is already running"));
        }
        let mark = domain.spec.as_ref().map(|spec| spec.mark.clone());
        let mark = mark.ok_or_else(|| said("no persistent configuration"))?;
        domain.power = Power::Running;
        domain.detail = "running/booted".to_owned();
        domain.live = Some(mark.clone());
        domain.backup = None;
        let disk = self.folders.get(&vm).and_then(|folder| folder.disks.get(&mark.disk));
        if !disk.is_some_and(|content| *content != Content::Torn) {
            self.wrongs.push(format!("started from {disk:?}"));
        }
        match mark.run {
            Some(run) => self.runs.push((vm, run, mark.disk)),
            None => self.wrongs.push("started without a run".to_owned()),
        }
        Ok(())
    }

    fn ask(&mut self, vm: VmId) {
        match self.guests.get(&vm).copied().unwrap_or_default() {
            Guest::Obeys => self.power_off(vm, "shutoff/shutdown"),
            Guest::TakesLooks(looks) => {
                if let Some(domain) = self.domains.get_mut(&vm) {
                    domain.going.get_or_insert(looks);
                }
            }
            Guest::Ignores => {}
        }
    }

    fn undefine(&mut self, vm: VmId) -> Result<(), Cause> {
        let domain = self.domain(vm)?;
        if domain.is_on() {
            self.wrongs.push("undefined while it runs".to_owned());
            return Err(said("the domain is running"));
        }
        self.domains.remove(&vm);
        Ok(())
    }

    fn begin_backup(&mut self, vm: VmId, target: &Path) -> Result<(), Cause> {
        self.need_on(vm)?;
        let event = event_of(target)?;
        let domain = self.domain(vm)?;
        if matches!(domain.backup, Some((_, BackupJob::Running { .. }))) {
            return Err(said("another job is at work"));
        }
        domain.backup = Some((event, BackupJob::Running { done: 0, total: 3 }));
        Ok(())
    }

    fn pass_time(&mut self, vm: VmId) {
        let Some(domain) = self.domains.get_mut(&vm) else { return };
        if let Some((event, BackupJob::Running { done, total })) = &mut domain.backup {
            let event = *event;
            *done += 1;
            if done == total {
                domain.backup = Some((event, BackupJob::Completed));
                let disk = domain.live.as_ref().map(|live| live.disk);
                self.write_backup(vm, event, disk);
            }
        }
        self.go_down(vm);
        self.act_late(vm);
    }

    fn go_down(&mut self, vm: VmId) {
        let Some(domain) = self.domains.get_mut(&vm) else { return };
        match domain.going {
            Some(0) => self.power_off(vm, "shutoff/shutdown"),
            Some(looks) => domain.going = Some(looks - 1),
            None => {}
        }
    }

    fn act_late(&mut self, vm: VmId) {
        let Some(domain) = self.domains.get_mut(&vm) else { return };
        match domain.late.take() {
            Some((call, 0)) => drop(self.carry_out(&call)),
            Some((call, looks)) => domain.late = Some((call, looks - 1)),
            None => {}
        }
    }

    fn write_backup(&mut self, vm: VmId, event: EventId, disk: Option<EventId>) {
        let part = self.folders.get_mut(&vm).and_then(|folder| folder.snapshots.get_mut(&event));
        if let (Some((content, _)), Some(disk)) = (part, disk) {
            *content = Content::DiskOf(disk);
        }
        self.told.push(DomainEvent::Changed(vm, "job completed".to_owned()));
    }

    fn need_on(&mut self, vm: VmId) -> Result<(), Cause> {
        if self.domain(vm)?.is_on() { Ok(()) } else { Err(said("the domain is not running")) }
    }

    fn domain(&mut self, vm: VmId) -> Result<&mut FakeDomain, Cause> {
        self.domains.get_mut(&vm).ok_or_else(|| said("no such domain"))
    }
}

/// The event that a snapshot's file is named after.
fn event_of(target: &Path) -> Result<EventId, Cause> {
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.split('.').next().unwrap_or_default().parse()
}

fn frozen() -> Cause {
    Cause::new(Reason::GuestFrozen, "the guest agent took a freeze and does not thaw")
}

fn said(text: &str) -> Cause {
    Cause::new(Reason::HypervisorError, text)
}
