//! A lane held closed: while a person mends a VM, no event works on it, and what comes meanwhile waits.

use std::sync::Arc;

use dewpoint_proto::cause::{Cause, Reason};
use dewpoint_proto::ids::VmId;

use super::{Door, Executor, Shared};

impl Executor {
    /// Keeps a VM without a lane while a person mends it: events that come meanwhile wait until the hold is dropped.
    ///
    /// # Errors
    /// `VM_BUSY` when it has a lane, or somebody else mends it.
    pub fn hold_lane(&self, vm: VmId) -> Result<LaneHold, Cause> {
        let mut doors = self.shared.doors();
        if doors.contains_key(&vm) {
            return Err(Cause::new(Reason::VmBusy, "an event of the VM is at work")
                .advise("wait for it; see `dewpoint-agent events --unfinished`")
                .with("vm_id", vm));
        }
        doors.insert(vm, Door::default());
        Ok(LaneHold { shared: Arc::clone(&self.shared), vm })
    }
}

/// A VM without a lane, for as long as this is kept.
pub struct LaneHold {
    shared: Arc<Shared>,
    vm: VmId,
}

impl Drop for LaneHold {
    fn drop(&mut self) {
        // What came meanwhile gets its lane now.
        if !self.shared.close(self.vm) {
            self.shared.spawn_lane(self.vm);
        }
    }
}
