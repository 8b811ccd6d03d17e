//! What of a topic has no outcome yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};

use parking_lot::Mutex;

/// What was read of a partition of this process and has no outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// The partition.
    pub partition: i32,
    /// The next offset that was never read.
    pub next: i64,
    /// Uploads of which chunks were read, and that have no outcome.
    pub files: u64,
    /// Their chunks that were read.
    pub messages: u64,
    /// Bytes of these chunks.
    pub bytes: u64,
    /// Time of the first record of the oldest of them, milliseconds since the epoch.
    pub oldest_ms: Option<i64>,
}

/// A question that the thread that steers the work answers, once it comes round. Nobody waits for another here: who asks
/// looks for the answer later, and the lock is held for as long as it takes to put the answer down.
#[derive(Debug, Default)]
pub(super) struct Question {
    is_open: AtomicBool,
    answer: Mutex<Arc<[Backlog]>>,
}

impl Question {
    pub(super) fn ask(&self) {
        self.is_open.store(true, Release);
    }

    /// Whether somebody waits for an answer.
    pub(super) fn is_open(&self) -> bool {
        self.is_open.load(Acquire)
    }

    pub(super) fn answer(&self, backlog: Vec<Backlog>) {
        *self.answer.lock() = backlog.into();
        self.is_open.swap(false, AcqRel);
    }

    /// The answer. `None` while there is none to the last question.
    pub(super) fn answered(&self) -> Option<Arc<[Backlog]>> {
        (!self.is_open()).then(|| Arc::clone(&self.answer.lock()))
    }
}
