//! What the `virt` crate lacks or gets wrong, as safe functions: state (its wrapper drops the error), control info, job
//! statistics (its wrapper is unsound), backups, freezing, and events.
//!
//! The only file of the workspace with unsafe code. Never: holds a lock or calls back into us while in libvirt, except
//! for event callbacks, which libvirt makes on its event loop's thread.
#![expect(unsafe_code, reason = "the one place that calls libvirt's C functions")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr;
use std::sync::Arc;

use uuid::Uuid;
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt_sys as sys;

fn checked(result: c_int) -> Result<c_int, Error> {
    if result < 0 { Err(Error::last_error()) } else { Ok(result) }
}

/// State and reason, as `virDomainState` and the enumeration that belongs to it.
pub(super) fn state(domain: &Domain) -> Result<(i32, i32), Error> {
    let (mut state, mut reason) = (-1, -1);
    // SAFETY: the handle is alive while borrowed; both out-pointers are valid for the call.
    checked(unsafe { sys::virDomainGetState(domain.as_ptr(), &raw mut state, &raw mut reason, 0) })?;
    Ok((state, reason))
}

/// What libvirt says of its channel to a running domain.
pub(super) struct ControlInfo {
    /// `virDomainControlState`.
    pub state: u32,
    /// Milliseconds since it entered that state.
    pub millis: u64,
}

/// Whether the channel to a running domain is free. Does not wait for it.
pub(super) fn control(domain: &Domain) -> Result<ControlInfo, Error> {
    let mut info = sys::_virDomainControlInfo { state: 0, details: 0, stateTime: 0 };
    // SAFETY: the handle is alive while borrowed; `info` is the C struct that the function fills.
    checked(unsafe { sys::virDomainGetControlInfo(domain.as_ptr(), &raw mut info, 0) })?;
    Ok(ControlInfo { state: info.state, millis: info.stateTime })
}

/// The statistics of a job that we use.
pub(super) struct JobStats {
    /// `virDomainJobType`.
    pub kind: u32,
    /// `virDomainJobOperation`.
    pub operation: u32,
    /// Bytes of disk to copy.
    pub total: u64,
    /// Bytes of disk copied.
    pub done: u64,
    /// Why it failed.
    pub error: Option<String>,
}

/// The job of a domain; flags of `virDomainGetJobStatsFlags`.
pub(super) fn job_stats(domain: &Domain, flags: u32) -> Result<JobStats, Error> {
    let (mut kind, mut params, mut count) = (0, ptr::null_mut(), 0);
    // SAFETY: the handle is alive while borrowed; the out-pointers are valid for the call.
    checked(unsafe {
        sys::virDomainGetJobStats(domain.as_ptr(), &raw mut kind, &raw mut params, &raw mut count, flags)
    })?;
    let params = Params { list: params, count };
    Ok(JobStats {
        kind: kind.unsigned_abs(),
        operation: params.int(sys::VIR_DOMAIN_JOB_OPERATION).map_or(0, i32::unsigned_abs),
        total: params.ulonglong(sys::VIR_DOMAIN_JOB_DISK_TOTAL).unwrap_or(0),
        done: params.ulonglong(sys::VIR_DOMAIN_JOB_DISK_PROCESSED).unwrap_or(0),
        error: params.string(sys::VIR_DOMAIN_JOB_ERRMSG),
    })
}

/// A list of typed parameters that libvirt allocated; empty lists may be a null pointer.
struct Params {
    list: sys::virTypedParameterPtr,
    count: c_int,
}

impl Params {
    fn int(&self, name: &CStr) -> Option<i32> {
        let mut value = 0;
        // SAFETY: the list came from libvirt with this count (a null one with 0, which is accepted); `value` is valid.
        let found =
            unsafe { sys::virTypedParamsGetInt(self.list, self.count, name.as_ptr(), &raw mut value) };
        (found == 1).then_some(value)
    }

    fn ulonglong(&self, name: &CStr) -> Option<u64> {
        let mut value = 0;
        // SAFETY: as in `int`.
        let found =
            unsafe { sys::virTypedParamsGetULLong(self.list, self.count, name.as_ptr(), &raw mut value) };
        (found == 1).then_some(value)
    }

    fn string(&self, name: &CStr) -> Option<String> {
        let mut value: *const c_char = ptr::null();
        // SAFETY: as in `int`.
        let found =
            unsafe { sys::virTypedParamsGetString(self.list, self.count, name.as_ptr(), &raw mut value) };
        if found != 1 || value.is_null() {
            return None;
        }
        // SAFETY: a NUL-terminated string that the list owns, copied before the list is freed.
        Some(unsafe { CStr::from_ptr(value) }.to_string_lossy().into_owned())
    }
}

impl Drop for Params {
    fn drop(&mut self) {
        // SAFETY: allocated by libvirt, freed once; null is accepted.
        unsafe { sys::virTypedParamsFree(self.list, self.count) };
    }
}

/// Begins a backup as the XML says, into files that exist.
pub(super) fn begin_backup(domain: &Domain, xml: &str) -> Result<(), Error> {
    let xml = CString::new(xml)?;
    let flags = sys::VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL;
    // SAFETY: the handle is alive while borrowed, the text for the call; no checkpoint is asked for.
    checked(unsafe { sys::virDomainBackupBegin(domain.as_ptr(), xml.as_ptr(), ptr::null(), flags) })?;
    Ok(())
}

/// Ends the job of a domain.
pub(super) fn abort_job(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the handle is alive while borrowed.
    checked(unsafe { sys::virDomainAbortJob(domain.as_ptr()) })?;
    Ok(())
}

/// How long calls to the guest agent wait for an answer, in seconds, as long as the domain runs.
pub(super) fn set_agent_timeout(domain: &Domain, seconds: i32) -> Result<(), Error> {
    // SAFETY: the handle is alive while borrowed.
    checked(unsafe { sys::virDomainAgentSetResponseTimeout(domain.as_ptr(), seconds, 0) })?;
    Ok(())
}

/// Freezes all file systems of the guest.
pub(super) fn freeze(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the handle is alive while borrowed; no mount points: all.
    checked(unsafe { sys::virDomainFSFreeze(domain.as_ptr(), ptr::null_mut(), 0, 0) })?;
    Ok(())
}

/// Thaws all file systems of the guest.
pub(super) fn thaw(domain: &Domain) -> Result<(), Error> {
    // SAFETY: the handle is alive while borrowed; no mount points: all.
    checked(unsafe { sys::virDomainFSThaw(domain.as_ptr(), ptr::null_mut(), 0, 0) })?;
    Ok(())
}

/// What libvirt tells through its event loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tidings {
    /// `virDomainEventType` and its detail.
    Lifecycle(i32, i32),
    /// The guest rebooted or was reset.
    Reboot,
    /// A disk failed.
    IoError,
    /// libvirt lost the domain's monitor.
    ControlError,
    /// A job ended.
    JobCompleted,
    /// Metadata was set.
    Metadata,
    /// The guest agent came or went.
    Agent,
}

/// Called on the event loop's thread: must not block, and must not call libvirt.
pub(super) type Listener = Arc<dyn Fn(Uuid, Tidings) + Send + Sync>;

/// Registered callbacks for all domains of a connection; dropped: deregistered.
pub(super) struct Subscription {
    connect: Connect,
    ids: Vec<c_int>,
}

impl Subscription {
    /// Registers for everything in [`Tidings`].
    pub(super) fn new(connect: &Connect, listener: &Listener) -> Result<Self, Error> {
        let mut subscription = Self { connect: connect.clone(), ids: Vec::new() };
        for (event, callback) in callbacks() {
            match subscription.register(event, callback, listener) {
                Ok(()) => {}
                // Only the lifecycle is known to every driver and daemon.
                Err(error) if event == sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE => return Err(error),
                Err(error) => tracing::debug!(event, %error, "libvirt does not tell of this"),
            }
        }
        Ok(subscription)
    }

    fn register(&mut self, event: u32, callback: Callback, listener: &Listener) -> Result<(), Error> {
        let opaque = Box::into_raw(Box::new(Arc::clone(listener)));
        // SAFETY: the connection is alive; the callback has the signature that libvirt documents for this event, whatever
        // its nominal type; `opaque` is a `Listener` that `free_listener` frees after the last callback.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                self.connect.as_ptr(),
                ptr::null_mut(),
                event.cast_signed(),
                Some(callback),
                opaque.cast(),
                Some(free_listener),
            )
        };
        if id < 0 {
            let error = Error::last_error();
            // SAFETY: a failed registration does not take the opaque pointer.
            drop(unsafe { Box::from_raw(opaque) });
            return Err(error);
        }
        self.ids.push(id);
        Ok(())
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        for id in &self.ids {
            // SAFETY: the connection is alive and the id is one of its own. It fails on a broken connection; then
            // closing it frees the callbacks.
            unsafe { sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), *id) };
        }
    }
}

/// Has `listener` called once when the connection breaks; false: this driver does not tell.
pub(super) fn on_close(connect: &Connect, listener: Box<dyn Fn() + Send + Sync>) -> bool {
    let opaque = Box::into_raw(Box::new(listener));
    // SAFETY: the connection is alive; `opaque` is what `closed` and `free_closer` expect.
    let result = unsafe {
        sys::virConnectRegisterCloseCallback(connect.as_ptr(), Some(closed), opaque.cast(), Some(free_closer))
    };
    if result < 0 {
        // SAFETY: a failed registration does not take the opaque pointer.
        drop(unsafe { Box::from_raw(opaque) });
    }
    result >= 0
}

/// Undoes [`on_close`]: libvirt holds a reference to the connection until then.
pub(super) fn forget_close(connect: &Connect) {
    // SAFETY: the connection is alive; an unregistered callback is an error that changes nothing.
    unsafe { sys::virConnectUnregisterCloseCallback(connect.as_ptr(), Some(closed)) };
}

type Callback = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);

/// Every event that we want, with its callback in the generic type that libvirt's registration takes.
fn callbacks() -> [(u32, Callback); 7] {
    type Lifecycle =
        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
    type IoError = unsafe extern "C" fn(
        sys::virConnectPtr,
        sys::virDomainPtr,
        *const c_char,
        *const c_char,
        c_int,
        *mut c_void,
    );
    type Job = unsafe extern "C" fn(
        sys::virConnectPtr,
        sys::virDomainPtr,
        sys::virTypedParameterPtr,
        c_int,
        *mut c_void,
    );
    type Metadata =
        unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *const c_char, *mut c_void);
    type Agent = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void);
    // SAFETY: function pointers of one size; libvirt casts each back to the type of its event before the call
    // (VIR_DOMAIN_EVENT_CALLBACK in libvirt-domain.h).
    unsafe {
        [
            (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, std::mem::transmute::<Lifecycle, Callback>(on_lifecycle)),
            (sys::VIR_DOMAIN_EVENT_ID_REBOOT, on_reboot),
            (sys::VIR_DOMAIN_EVENT_ID_CONTROL_ERROR, on_control_error),
            (sys::VIR_DOMAIN_EVENT_ID_IO_ERROR, std::mem::transmute::<IoError, Callback>(on_io_error)),
            (sys::VIR_DOMAIN_EVENT_ID_JOB_COMPLETED, std::mem::transmute::<Job, Callback>(on_job)),
            (
                sys::VIR_DOMAIN_EVENT_ID_METADATA_CHANGE,
                std::mem::transmute::<Metadata, Callback>(on_metadata),
            ),
            (sys::VIR_DOMAIN_EVENT_ID_AGENT_LIFECYCLE, std::mem::transmute::<Agent, Callback>(on_agent)),
        ]
    }
}

/// # Safety
/// `domain` and `opaque` are as libvirt passes them to a callback registered by [`Subscription`].
unsafe fn tell(domain: sys::virDomainPtr, opaque: *mut c_void, tidings: Tidings) {
    let mut uuid = [0; 16];
    // SAFETY: libvirt lends the domain for the callback; the buffer has VIR_UUID_BUFLEN bytes. No remote call.
    if unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) } == 0 {
        // SAFETY: the box that `register` made, freed only by `free_listener`.
        let listener = unsafe { &*opaque.cast::<Listener>() };
        listener(Uuid::from_bytes(uuid), tidings);
    }
}

unsafe extern "C" fn on_lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: called by libvirt as registered.
    unsafe { tell(domain, opaque, Tidings::Lifecycle(event, detail)) };
    0
}

unsafe extern "C" fn on_reboot(_: sys::virConnectPtr, domain: sys::virDomainPtr, opaque: *mut c_void) {
    // SAFETY: called by libvirt as registered.
    unsafe { tell(domain, opaque, Tidings::Reboot) };
}

unsafe extern "C" fn on_control_error(_: sys::virConnectPtr, domain: sys::virDomainPtr, opaque: *mut c_void) {
    // SAFETY: called by libvirt as registered.
    unsafe { tell(domain, opaque, Tidings::ControlError) };
}

unsafe extern "C" fn on_io_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _: *const c_char,
    _: *const c_char,
    _: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: called by libvirt as registered.
    unsafe { tell(domain, opaque, Tidings::IoError) };
}

unsafe extern "C" fn on_job(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _: sys::virTypedParameterPtr,
    _: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: called by libvirt as registered.
    unsafe { tell(domain, opaque, Tidings::JobCompleted) };
}

unsafe extern "C" fn on_metadata(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _: c_int,
    _: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: called by libvirt as registered.
    unsafe { tell(domain, opaque, Tidings::Metadata) };
}

unsafe extern "C" fn on_agent(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _: c_int,
    _: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: called by libvirt as registered.
    unsafe { tell(domain, opaque, Tidings::Agent) };
}

unsafe extern "C" fn free_listener(opaque: *mut c_void) {
    // SAFETY: the box that `register` made; libvirt calls this once.
    drop(unsafe { Box::from_raw(opaque.cast::<Listener>()) });
}

unsafe extern "C" fn closed(_: sys::virConnectPtr, _: c_int, opaque: *mut c_void) {
    // SAFETY: the box that `on_close` made, freed only by `free_closer`.
    let listener = unsafe { &*opaque.cast::<Box<dyn Fn() + Send + Sync>>() };
    listener();
}

unsafe extern "C" fn free_closer(opaque: *mut c_void) {
    // SAFETY: the box that `on_close` made; libvirt calls this once.
    drop(unsafe { Box::from_raw(opaque.cast::<Box<dyn Fn() + Send + Sync>>()) });
}
