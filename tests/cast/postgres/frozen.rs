//! A PostgreSQL that hangs: its connections stay, and nobody answers on them.

use rustix::process::{Pid, Signal, kill_process};

use super::Postgres;
use crate::process::children_of;

/// Processes that were stopped; they go on when this is dropped.
#[derive(Debug)]
pub struct Frozen(Vec<Pid>);

// === impl Postgres ===

impl Postgres {
    /// Stops all of its processes where they are, as a machine does whose disk or hypervisor hangs.
    #[must_use]
    #[track_caller]
    pub fn freeze(&self) -> Frozen {
        let mut frozen = Frozen(Vec::new());
        // First the one that would start others.
        frozen.stop(self.pid());
        for child in children_of(self.pid()) {
            frozen.stop(child);
        }
        frozen
    }
}

// === impl Frozen ===

impl Frozen {
    #[track_caller]
    fn stop(&mut self, pid: u32) {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id is a positive i32");
        // A child may have ended by itself meanwhile.
        if kill_process(pid, Signal::STOP).is_ok() {
            self.0.push(pid);
        }
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        for pid in &self.0 {
            // Whoever was killed while it was stopped is gone.
            let _ = kill_process(*pid, Signal::CONT);
        }
    }
}
