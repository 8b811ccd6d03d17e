//! The desk between the engine's threads and those of Python: whole files wait here for a thread that calls the
//! function.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Sender, bounded};
use datamill::assemble::{DownloadDataFile, SharedContent};
use datamill::process::{Answer, Call, ProcessingError, Starter};
use datamill::upload::DEFAULT_CHUNK_SIZE;
use datamill::wire::sha512;
use parking_lot::{Condvar, Mutex};

/// What a thread of Python says to the engine's thread that waits for it.
pub enum Said {
    /// The file is wanted on disk.
    Path(Sender<Result<PathBuf, ProcessingError>>),
    Done(Answer),
}

/// What is said to a thread of the engine, by the numbers of the jobs that it waits for.
pub struct Ear {
    state: Mutex<Heard>,
    wake: Condvar,
    /// The process that listens.
    process: u32,
}

impl Default for Ear {
    fn default() -> Self {
        Self { state: Mutex::default(), wake: Condvar::new(), process: std::process::id() }
    }
}

#[derive(Default)]
struct Heard {
    open: Vec<u64>,
    said: Vec<(u64, Said)>,
}

impl Heard {
    /// Whether there is something to do, and nothing better than to do it.
    fn is_enough(&self) -> bool {
        !self.said.is_empty()
            && (self.open.is_empty() || self.said.iter().any(|(_, said)| matches!(said, Said::Path(_))))
    }
}

impl Ear {
    /// Waits until all is answered or a path is wanted, but not longer than this.
    pub fn listen(&self, time: Duration) -> Vec<(u64, Said)> {
        let until = Instant::now() + time;
        let mut heard = self.state.lock();
        while !heard.is_enough() && !self.wake.wait_until(&mut heard, until).timed_out() {}
        std::mem::take(&mut heard.said)
    }

    /// This job is waited for no longer.
    pub fn close(&self, job: u64) {
        self.state.lock().open.retain(|open| *open != job);
    }

    /// Answers whether it is waited for.
    fn say(&self, job: u64, said: impl FnOnce() -> Said) -> bool {
        let mut heard = self.state.lock();
        if !heard.open.contains(&job) {
            return false;
        }
        let said = said();
        if matches!(said, Said::Done(_)) {
            heard.open.retain(|open| *open != job);
        }
        heard.said.push((job, said));
        if heard.is_enough() {
            self.wake.notify_one();
        }
        true
    }
}

/// The way from a file's call to the thread of the engine that has the file. It ends with the call.
#[derive(Clone)]
pub struct Line {
    ear: Arc<Ear>,
    job: u64,
}

impl Line {
    fn open(ear: &Arc<Ear>) -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let job = COUNT.fetch_add(1, Relaxed);
        ear.state.lock().open.push(job);
        Self { ear: Arc::clone(ear), job }
    }

    /// Where the file is on disk. `None` where the call is over, and in a process that was forked. MUST NOT be called
    /// with the interpreter's lock.
    pub fn path(&self) -> Option<Result<PathBuf, ProcessingError>> {
        if std::process::id() != self.ear.process {
            return None;
        }
        let (reply, answer) = bounded(1);
        if !self.ear.say(self.job, || Said::Path(reply)) {
            return None;
        }
        answer.recv().ok()
    }
}

/// A file that the function is to be called for. One that is dropped without an answer has failed.
pub struct Job {
    pub path: Arc<str>,
    pub sha512: [u8; 64],
    pub modified: Option<SystemTime>,
    pub n_chunks: u32,
    pub content: SharedContent,
    pub attempt: u32,
    pub is_last: bool,
    pub line: Line,
    /// The content is not what was uploaded, so the file has failed.
    pub is_mismatch: bool,
    /// Is told that the function begins, where an engine has the call.
    pub starter: Option<Starter>,
    is_answered: bool,
}

impl Job {
    pub fn new(file: &DownloadDataFile, call: &Call<'_>, ear: &Arc<Ear>) -> std::io::Result<Self> {
        let mut job = Self::of_file(file, ear)?;
        (job.attempt, job.is_last, job.starter) = (call.attempt(), call.is_last_attempt(), Some(call.starter()));
        Ok(job)
    }

    /// A file that is not what was uploaded.
    pub fn of_mismatch(file: &DownloadDataFile, ear: &Arc<Ear>) -> std::io::Result<Self> {
        let mut job = Self::of_file(file, ear)?;
        job.is_mismatch = true;
        Ok(job)
    }

    /// For the only call of a function.
    fn of_file(file: &DownloadDataFile, ear: &Arc<Ear>) -> std::io::Result<Self> {
        let content = file.shared()?;
        Ok(Self {
            path: file.relative_path().into(),
            sha512: *file.sha512(),
            modified: file.modified(),
            n_chunks: file.n_chunks(),
            content,
            attempt: 1,
            is_last: true,
            line: Line::open(ear),
            is_mismatch: false,
            starter: None,
            is_answered: false,
        })
    }

    /// A local file, for the only call of a function.
    pub fn of_local(path: &Path, content: Vec<u8>, ear: &Arc<Ear>) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let n_chunks = content.len().div_ceil(DEFAULT_CHUNK_SIZE).max(1);
        Self {
            path: name.into(),
            sha512: sha512(&content),
            modified: path.metadata().and_then(|found| found.modified()).ok(),
            n_chunks: n_chunks.try_into().unwrap_or(u32::MAX),
            content: content.into(),
            attempt: 1,
            is_last: true,
            line: Line::open(ear),
            is_mismatch: false,
            starter: None,
            is_answered: false,
        }
    }

    pub fn number(&self) -> u64 {
        self.line.job
    }

    /// The call is over. That nobody waits for it any more is no error.
    pub fn answer(mut self, answer: Answer) {
        self.is_answered = true;
        self.line.ear.say(self.line.job, || Said::Done(answer));
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        // in a process that was forked, the lock may be held for ever
        if !self.is_answered && std::process::id() == self.line.ear.process {
            let error = || ProcessingError::file_failed("the thread that ran the function has ended");
            self.line.ear.say(self.line.job, || Said::Done(Err(error())));
        }
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    is_closed: bool,
}

/// See the module. It holds at most what the engine's threads have in hand.
#[derive(Default)]
pub struct Desk {
    state: Mutex<State>,
    wake: Condvar,
}

impl Desk {
    /// Puts jobs down. Where no thread will take them any more, they are dropped.
    pub fn put(&self, jobs: &mut Vec<Job>) {
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            jobs.clear();
            return;
        }
        match jobs.len() {
            1 => drop(self.wake.notify_one()),
            _ => drop(self.wake.notify_all()),
        }
        state.jobs.extend(jobs.drain(..));
    }

    /// Takes the job back, if no thread has taken it.
    pub fn withdraw(&self, number: u64) -> Option<Job> {
        let jobs = &mut self.state.lock().jobs;
        let place = jobs.iter().position(|job| job.number() == number)?;
        jobs.remove(place)
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
