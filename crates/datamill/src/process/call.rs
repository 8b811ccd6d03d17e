//! One run of user code for a file, as the engine and the code see it.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tempfile::TempDir;

use super::{Clock, Lock, ProcessingError};
use crate::assemble::DownloadDataFile;

/// What user code is told of a run beside the file, and what it says while it runs. It may be lent to other threads
/// until the run ends.
#[derive(Debug)]
pub struct Call<'a> {
    pub(crate) attempt: u32,
    pub(crate) is_last: bool,
    pub(crate) lock: &'a Lock,
    pub(crate) watch: &'a Arc<Watch>,
    pub(crate) stopping: &'a AtomicBool,
    /// Folder that files are placed in while user code reads them.
    pub(crate) folder: &'a Path,
}

impl<'a> Call<'a> {
    /// Number of this attempt for the file in this start of the program, from 1. A run that answered "not available"
    /// does not count. Attempts that ended the process do, where the code says that it
    /// [may do that](super::Needs::may_end_the_process).
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether the file has failed if this attempt fails.
    pub fn is_last_attempt(&self) -> bool {
        self.is_last
    }

    /// Says that the code begins with the file, from whatever thread: the time of `--processing_timeout` runs from
    /// here on. Only the first time counts. Nothing happens with [`Clock::AtOnce`].
    pub fn begin(&self) {
        self.watch.begin();
    }

    /// Says the same later, from a thread that cannot borrow the call.
    pub fn starter(&self) -> Starter {
        Starter { watch: Arc::clone(self.watch), call: self.watch.calls.load(Relaxed) }
    }

    /// When the call is given up. `None` where its time is not limited, or has not begun.
    pub fn deadline(&self) -> Option<Instant> {
        self.watch.deadline()
    }

    /// Whether the call was given up: its file has failed, and the answer is dropped.
    pub fn is_given_up(&self) -> bool {
        self.watch.is_given_up()
    }

    /// Whether the program stops. Code that has not begun with the file SHOULD answer
    /// [`not_available`](ProcessingError::not_available) then: the file is left to the next start.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Relaxed)
    }

    /// The lock that all workers of the program share.
    pub fn lock(&self) -> &'a Lock {
        self.lock
    }

    /// Makes a folder for what the code writes during this run, beside those of files that are lent. It goes when it is
    /// dropped, or with the next start.
    ///
    /// # Errors
    /// As [`path`](Self::path).
    pub fn folder(&self) -> Result<TempDir, ProcessingError> {
        tempfile::Builder::new().prefix("run-").tempdir_in(self.folder).map_err(placing_failed)
    }

    /// Where the file is on disk, in every mode: the absolute path of a real file with its name and suffix, in a folder
    /// of its own. In mode `memory` it is made at the first call and is gone when the run ends. Do not change it.
    ///
    /// # Errors
    /// The file cannot be written, of the kind that says what to do about it: hand it on.
    pub fn path<'f>(&self, file: &'f DownloadDataFile) -> Result<&'f Path, ProcessingError> {
        file.lend(self.folder).map_err(placing_failed)
    }
}

/// A full disk and the like pass, and hold everything; what only this file's name causes is its failure.
pub(crate) fn placing_failed(error: std::io::Error) -> ProcessingError {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::InvalidFilename | Io::InvalidInput | Io::IsADirectory | Io::NotADirectory | Io::AlreadyExists => {
            ProcessingError::file_failed(format_args!("the file cannot be written under this name: {error}"))
        }
        _ => ProcessingError::not_available(format_args!("the file cannot be written to the output folder: {error}")),
    }
}

/// Begins one call, as [`Call::begin`] does, and ends it; nothing happens once that call is over.
#[derive(Debug, Clone)]
pub struct Starter {
    watch: Arc<Watch>,
    call: u64,
}

impl Starter {
    /// Says that the code begins with the file.
    pub fn begin(&self) {
        if self.watch.calls.load(Relaxed) == self.call {
            self.watch.begin();
        }
    }

    /// Says that the code is done with the file, whose answer may come later: its time no longer runs, and it does not
    /// count as in hand where the process dies.
    pub fn end(&self) {
        if self.watch.calls.load(Relaxed) == self.call {
            self.watch.rest();
        }
    }
}

/// Learns when user code begins with the file of a call, and that it has ended.
pub(crate) trait Beginning: fmt::Debug + Send + Sync {
    fn begins(&self);
    fn has_ended(&self);
}

/// The clock of a worker's calls, one after another. The engine looks at it from another thread.
#[derive(Debug)]
pub(crate) struct Watch {
    limit: Option<Duration>,
    time: Mutex<Time>,
    /// Number of the call.
    calls: AtomicU64,
    has_begun: AtomicBool,
    given_up: AtomicBool,
    noted: Option<Arc<dyn Beginning>>,
}

/// Of the last call.
#[derive(Debug, Default)]
struct Time {
    /// While the code has the file.
    since: Option<Instant>,
    /// How long it had it.
    took: Option<Duration>,
}

impl Watch {
    pub(crate) fn new(limit: Option<Duration>, noted: Option<Arc<dyn Beginning>>) -> Self {
        let (time, calls, has_begun, given_up) = Default::default();
        Self { limit, time, calls, has_begun, given_up, noted }
    }

    /// Whether somebody has to know of each call.
    pub(crate) fn is_needed(&self) -> bool {
        self.limit.is_some() || self.noted.is_some()
    }

    /// A call is made.
    pub(crate) fn call(&self, clock: Clock) {
        *self.time.lock() = Time::default();
        self.calls.fetch_add(1, Relaxed);
        self.has_begun.store(false, Relaxed);
        if clock == Clock::AtOnce {
            self.begin();
        }
    }

    fn begin(&self) {
        if !self.is_needed() || self.has_begun.swap(true, Relaxed) || self.is_given_up() {
            return;
        }
        if let Some(noted) = &self.noted {
            noted.begins();
        }
        self.time.lock().since = Some(Instant::now());
    }

    /// The call has come back.
    pub(crate) fn end(&self) {
        self.calls.fetch_add(1, Relaxed);
        self.rest();
    }

    /// The code is done with the file.
    fn rest(&self) {
        let mut time = self.time.lock();
        if let Some(since) = time.since.take() {
            time.took = Some(since.elapsed());
        }
        drop(time);
        if let Some(noted) = &self.noted {
            noted.has_ended();
        }
    }

    /// How long the code had the file of the last call, where it was watched and has begun.
    pub(crate) fn took(&self) -> Option<Duration> {
        self.time.lock().took
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.has_begun.load(Relaxed)
    }

    fn deadline(&self) -> Option<Instant> {
        let limit = self.limit?;
        self.time.lock().since?.checked_add(limit)
    }

    pub(crate) fn is_overdue(&self) -> bool {
        self.deadline().is_some_and(|deadline| Instant::now() > deadline)
    }

    /// The worker has had its last call.
    pub(crate) fn give_up(&self) {
        self.given_up.store(true, Relaxed);
    }

    pub(crate) fn is_given_up(&self) -> bool {
        self.given_up.load(Relaxed)
    }
}
