//! The desk between the engine's threads and those of Python: whole files wait here for a thread that calls the
//! function.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};
use datamill::assemble::{DownloadDataFile, SharedContent};
use datamill::process::{Call, ProcessingError, ReproducerMessage, Starter};
use datamill::upload::DEFAULT_CHUNK_SIZE;
use datamill::wire::sha512;
use parking_lot::{Condvar, Mutex};

/// What the function made of a file.
pub type Answer = Result<Option<ReproducerMessage>, ProcessingError>;

/// What a thread of Python says to the engine's thread that waits for it.
pub enum Said {
    /// The file is wanted on disk.
    Path(Sender<Result<PathBuf, ProcessingError>>),
    Done(Answer),
}

/// The way from a file's call to the thread of the engine that has the file. It ends with the call.
#[derive(Clone)]
pub struct Line {
    to_engine: Sender<Said>,
    /// The process that has the other end.
    process: u32,
}

impl Line {
    /// Says something; that nobody listens any more is no error.
    pub fn say(&self, said: Said) {
        let _ = self.to_engine.send(said);
    }

    /// Where the file is on disk. `None` where the call is over, and in a process that was forked. MUST NOT be called
    /// with the interpreter's lock.
    pub fn path(&self) -> Option<Result<PathBuf, ProcessingError>> {
        if std::process::id() != self.process {
            return None;
        }
        let (reply, answer) = bounded(1);
        self.to_engine.send(Said::Path(reply)).ok()?;
        answer.recv().ok()
    }
}

/// A file that the function is to be called for.
pub struct Job {
    number: u64,
    pub path: Arc<str>,
    pub sha512: [u8; 64],
    pub modified: Option<SystemTime>,
    pub n_chunks: u32,
    pub content: SharedContent,
    pub attempt: u32,
    pub is_last: bool,
    pub line: Line,
    /// Is told that the function begins, where an engine has the call.
    pub starter: Option<Starter>,
}

/// What can be said before anybody listens: the end, and a path before it.
const SAID: usize = 2;

impl Job {
    pub fn new(file: &DownloadDataFile, call: &Call<'_>) -> std::io::Result<(Self, Receiver<Said>)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let (to_engine, said) = bounded(SAID);
        let job = Self {
            number: COUNT.fetch_add(1, Relaxed),
            path: file.relative_path().into(),
            sha512: *file.sha512(),
            modified: file.modified(),
            n_chunks: file.n_chunks(),
            content: file.shared()?,
            attempt: call.attempt(),
            is_last: call.is_last_attempt(),
            line: Line { to_engine, process: std::process::id() },
            starter: Some(call.starter()),
        };
        Ok((job, said))
    }

    /// A local file, for the only call of a function.
    pub fn of_local(path: &Path, content: Vec<u8>) -> (Self, Receiver<Said>) {
        let (to_engine, said) = bounded(SAID);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let n_chunks = content.len().div_ceil(DEFAULT_CHUNK_SIZE).max(1);
        let job = Self {
            number: 0,
            path: name.into(),
            sha512: sha512(&content),
            modified: path.metadata().and_then(|found| found.modified()).ok(),
            n_chunks: n_chunks.try_into().unwrap_or(u32::MAX),
            content: content.into(),
            attempt: 1,
            is_last: true,
            line: Line { to_engine, process: std::process::id() },
            starter: None,
        };
        (job, said)
    }

    pub fn number(&self) -> u64 {
        self.number
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

/// See the module. It holds at most one job for each thread of the engine.
#[derive(Default)]
pub struct Desk {
    state: Mutex<State>,
    wake: Condvar,
}

impl Desk {
    /// Puts a job down. Where no thread will take it any more, it is dropped.
    pub fn put(&self, job: Job) {
        let mut state = self.state.lock();
        if !state.is_closed {
            state.jobs.push_back(job);
            self.wake.notify_one();
        }
    }

    /// Takes the job back, if no thread has taken it.
    pub fn withdraw(&self, number: u64) -> bool {
        let jobs = &mut self.state.lock().jobs;
        match jobs.iter().position(|job| job.number == number) {
            Some(place) => jobs.remove(place).is_some(),
            None => false,
        }
    }

    /// The next job, if it is there.
    pub fn try_take(&self) -> Option<Job> {
        self.state.lock().jobs.pop_front()
    }

    /// Waits for the next job; `None` once there will be no more. MUST NOT be called with the interpreter's lock.
    pub fn take(&self) -> Option<Job> {
        let mut state = self.state.lock();
        loop {
            match state.jobs.pop_front() {
                Some(job) => return Some(job),
                None if state.is_closed => return None,
                // a thread of an interpreter that ends is looked after, too
                None => drop(self.wake.wait_for(&mut state, Duration::from_secs(1))),
            }
        }
    }

    /// There are no more jobs: the threads end.
    pub fn close(&self) {
        let mut state = self.state.lock();
        state.is_closed = true;
        state.jobs.clear();
        self.wake.notify_all();
    }
}
