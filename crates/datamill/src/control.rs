//! How the world outside steers a running program.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use datamill_broker::Log;
use parking_lot::Mutex;

/// How a program stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopKind {
    /// Leave the group: others take over at once.
    Leave,
    /// Keep the place in the group for a restart of the same program.
    KeepPlace,
}

/// Flags between the console, the signals and the work.
#[derive(Default)]
pub struct Control {
    stop: AtomicU8,
    asked: OnceLock<Instant>,
    check: AtomicBool,
    hurries: AtomicBool,
    at_stop: Mutex<AtStop>,
}

/// What happens as soon as a stop is asked for, on the thread that asks: the work may wait for something at that moment.
#[derive(Default)]
struct AtStop {
    /// What is said.
    words: Option<String>,
    calls: Vec<Box<dyn FnOnce() + Send>>,
}

impl Control {
    /// Asks for an orderly stop: what runs is finished and committed. Says so at once.
    pub fn stop(&self, kind: StopKind) {
        let value = match kind {
            StopKind::Leave => 1,
            StopKind::KeepPlace => 2,
        };
        self.asked.get_or_init(Instant::now);
        // the first request decides
        if self.stop.compare_exchange(0, value, Relaxed, Relaxed).is_ok() {
            let AtStop { words, calls } = std::mem::take(&mut *self.at_stop.lock());
            tracing::info!("{}", words.as_deref().unwrap_or("stopping; a second signal ends the program at once"));
            calls.into_iter().for_each(|call| call());
        }
    }

    /// Asks for a stop within the few seconds after which the system ends the process: what an upload has not finished by
    /// then is given up, and sent at the next start.
    pub fn stop_in_a_hurry(&self) {
        self.hurries.store(true, Relaxed);
        self.stop(StopKind::KeepPlace);
    }

    /// Whether the system ends the process in a few seconds.
    pub(crate) fn hurries(&self) -> bool {
        self.hurries.load(Relaxed)
    }

    /// The stop that was asked for.
    pub fn stopping(&self) -> Option<StopKind> {
        match self.stop.load(Relaxed) {
            0 => None,
            1 => Some(StopKind::Leave),
            _ => Some(StopKind::KeepPlace),
        }
    }

    /// When it was asked for.
    pub(crate) fn stopping_since(&self) -> Option<Instant> {
        self.stopping().and_then(|_| self.asked.get().copied())
    }

    /// What is said when a stop is asked for, in place of what was to be said before.
    pub fn say_at_stop(&self, words: impl Into<String>) {
        self.at_stop.lock().words = Some(words.into());
    }

    /// Lets a log know as soon as a stop is asked for, so that no call waits for it if it does not answer.
    pub fn stops(&self, log: &Arc<dyn Log>) {
        let log = Arc::downgrade(log);
        self.at_stop(move || {
            if let Some(log) = log.upgrade() {
                log.stop();
            }
        });
    }

    /// Calls this as soon as a stop is asked for, on the thread that asks; at once where one was asked for.
    pub(crate) fn at_stop(&self, call: impl FnOnce() + Send + 'static) {
        let mut at_stop = self.at_stop.lock();
        if self.stopping().is_none() {
            at_stop.calls.push(Box::new(call));
        } else {
            drop(at_stop);
            call();
        }
    }

    /// Asks for a line about the state.
    pub fn check(&self) {
        self.check.store(true, Relaxed);
    }

    /// Whether a line about the state was asked for since the last call.
    pub(crate) fn take_check(&self) -> bool {
        self.check.swap(false, Relaxed)
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("stopping", &self.stopping()).finish_non_exhaustive()
    }
}
