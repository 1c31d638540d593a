//! Each call on a connection. Changes only domains that bear our mark, and looks before it does.

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::{HostId, VmId};
use virt::connect::Connect;
use virt::domain::Domain as Handle;
use virt_sys as sys;

use super::link::Session;
use super::trouble::{Trouble, code, is_no_domain};
use super::{Settings, backup, guest, mark, observe, xml};
use crate::hypervisor::{Call, Consistency, DomainSpec, Mark, Seen, domain_name};

type Done = Result<(), Trouble>;

/// Makes a call. An error proves nothing: it may have taken effect, or may yet.
pub(super) fn make(
    session: &Session,
    settings: &Settings,
    call: &Call,
) -> Result<Option<Consistency>, Trouble> {
    let connect = &session.connect;
    if let Call::Define(spec) = call {
        define(connect, &xml::domain(settings, session.owner()?, spec)?, settings.host, spec)?;
        return Ok(None);
    }
    let vm = call.vm();
    let handle = match connect.lookup_domain_by_uuid(vm.0) {
        Ok(handle) => handle,
        Err(error) if is_no_domain(&error) && matches!(call, Call::Undefine(_)) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    must_be_ours(&handle, settings.host, vm)?;
    match call {
        // Made above, as there need be no domain yet.
        Call::Define(_) => {}
        Call::Mark(mark) => set_mark(&handle, mark, settings.host)?,
        Call::Start(_) => start(&handle)?,
        Call::PowerOff(_) => handle.destroy_flags(sys::VIR_DOMAIN_DESTROY_DEFAULT)?,
        Call::AskShutdown(_) => ask_shutdown(&handle, settings)?,
        Call::Undefine(_) => undefine(&handle)?,
        Call::BeginBackup { target, freeze, .. } => {
            let xml = xml::backup(session.owner()?, target)?;
            return backup::begin(&handle, settings, &xml, freeze).map(Some);
        }
        Call::AbortBackup(_) => backup::abort(&handle)?,
        Call::Thaw { sent, .. } => guest::thaw(&handle, settings, *sent)?,
        Call::AutostartOff(_) => drop(handle.set_autostart(false)?),
    }
    Ok(None)
}

/// What the call is for, to be put after "libvirt did not".
pub(super) fn what(call: &Call) -> &'static str {
    match call {
        Call::Define(_) => "define the domain",
        Call::Mark(_) => "write the domain's metadata",
        Call::Start(_) => "start the domain",
        Call::PowerOff(_) => "power the domain off",
        Call::AskShutdown(_) => "ask the guest to shut down",
        Call::Undefine(_) => "undefine the domain",
        Call::BeginBackup { .. } => "begin the backup",
        Call::AbortBackup(_) => "end the backup",
        Call::Thaw { .. } => "thaw the guest's file systems",
        Call::AutostartOff(_) => "switch the domain's autostart off",
    }
}

fn define(connect: &Connect, xml: &str, here: Option<HostId>, spec: &DomainSpec) -> Done {
    match connect.lookup_domain_by_uuid(spec.mark.vm.0) {
        Ok(handle) => must_be_ours(&handle, here, spec.mark.vm)?,
        Err(error) if is_no_domain(&error) => {}
        Err(error) => return Err(error.into()),
    }
    match connect.define_domain_xml(xml) {
        Ok(_) => Ok(()),
        // Also the code of other failures: whether the name is taken is seen by looking.
        Err(error) if code(&error) == sys::VIR_ERR_OPERATION_FAILED => {
            let name = domain_name(&spec.name, spec.mark.vm);
            match connect.lookup_domain_by_name(&name) {
                Ok(other) if other.uuid()? != spec.mark.vm.0 => Err(name_taken(&name, &other)?.into()),
                _ => Err(error.into()),
            }
        }
        Err(error) => Err(error.into()),
    }
}

fn set_mark(handle: &Handle, mark: &Mark, here: Option<HostId>) -> Done {
    handle.set_metadata(
        sys::VIR_DOMAIN_METADATA_ELEMENT.cast_signed(),
        Some(&mark::to_xml(mark, here)),
        Some(mark::PREFIX),
        Some(mark::NAMESPACE),
        sys::VIR_DOMAIN_AFFECT_CONFIG,
    )?;
    Ok(())
}

/// A managed save, which a person or `libvirt-guests` may have made, would bring back an old run and its old
/// configuration: it is discarded.
fn start(handle: &Handle) -> Done {
    Ok(handle.create_with_flags(sys::VIR_DOMAIN_START_FORCE_BOOT)?)
}

/// By the guest agent when it answers, else by the power button. Never by a reboot call, which a guest that ignores it
/// would carry out at its next power-off.
fn ask_shutdown(handle: &Handle, settings: &Settings) -> Done {
    if !guest::shut_down(handle, settings)? {
        handle.shutdown_flags(sys::VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN)?;
    }
    Ok(())
}

fn undefine(handle: &Handle) -> Done {
    if handle.is_active()? {
        return Err(Cause::new(Reason::HypervisorError, "a running domain is not undefined")
            .advise("power it off first")
            .into());
    }
    let everything = sys::VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
        | sys::VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
        | sys::VIR_DOMAIN_UNDEFINE_NVRAM
        | sys::VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA;
    Ok(handle.undefine_flags(everything)?)
}

fn must_be_ours(handle: &Handle, here: Option<HostId>, vm: VmId) -> Done {
    let why = match observe::any_mark(handle, here, vm)? {
        Seen::There(_) => return Ok(()),
        Seen::Absent => "it bears no mark of this host".to_owned(),
        Seen::Unknown(why) => why,
    };
    let name = handle.name()?;
    Err(Cause::new(Reason::ForeignDomain, format!("the domain `{name}` is not ours to change: {why}"))
        .advise("see `virsh dumpxml` for whose it is; Dewpoint never touches it")
        .with("domain", name)
        .with("uuid", vm)
        .into())
}

fn name_taken(name: &str, other: &Handle) -> Result<Cause, Trouble> {
    let uuid = other.uuid()?;
    Ok(Cause::new(Reason::ForeignDomain, format!("another domain is called `{name}`"))
        .advise("rename or remove that domain, or destroy this VM and create it anew")
        .with("domain", name)
        .with("uuid", uuid))
}
