//! How the world outside steers a running program.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};

/// How a program stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopKind {
    /// Leave the group: others take over at once.
    Leave,
    /// Keep the place in the group for a restart of the same program.
    KeepPlace,
}

/// Flags between the console, the signals and the work.
#[derive(Debug, Default)]
pub struct Control {
    stop: AtomicU8,
    check: AtomicBool,
}

impl Control {
    /// Asks for an orderly stop: what runs is finished and committed.
    pub fn stop(&self, kind: StopKind) {
        let value = match kind {
            StopKind::Leave => 1,
            StopKind::KeepPlace => 2,
        };
        // the first request decides
        let _ = self.stop.compare_exchange(0, value, Relaxed, Relaxed);
    }

    /// The stop that was asked for.
    pub fn stopping(&self) -> Option<StopKind> {
        match self.stop.load(Relaxed) {
            0 => None,
            1 => Some(StopKind::Leave),
            _ => Some(StopKind::KeepPlace),
        }
    }

    /// Asks for a line about the state.
    pub fn check(&self) {
        self.check.store(true, Relaxed);
    }

    /// Whether a line about the state was asked for since the last call.
    pub fn take_check(&self) -> bool {
        self.check.swap(false, Relaxed)
    }
}
