//! The pool that runs user code: whole files in, outcomes out.
//!
//! ```text
//!  read ──submit──▶ queue (bounded by the memory budget; files of one path one after another)
//!                     │  ▲
//!                     │  └──small files, hashed four at a time by who takes the first one
//!                     │
//!           worker 1 … worker n:  verify ─▶ place on disk ─▶ user code
//!                     │
//!                     └──outcomes (bounded)──▶ read
//! ```

use std::cell::RefCell;
use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex};

use super::outcome::{Failure, Outcome};
use crate::assemble::{
    Budget, DownloadDataFile, DroppedFile, FileInfo, InstanceId, Mode, NotVerified, SourceTopic, WholeFile,
};
use crate::ledger::FailureStatus;
use crate::process::{ErrorKind, Lock, ProcessingError, ReproducerMessage, UserCode};

/// Outcomes between the workers and the reader.
const OUTCOMES: usize = 1024;
/// The first wait while something that user code needs is not available; it doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_secs(1);
const LAST_WAIT: Duration = Duration::from_secs(30);
/// The wait before a function that failed runs again for the same file; it doubles up to the last.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);
const LAST_BACKOFF: Duration = Duration::from_secs(10);

/// What the pool works with.
pub(super) struct WorkSettings {
    pub(super) topic: Arc<SourceTopic>,
    pub(super) threads: usize,
    pub(super) mode: Mode,
    /// How often the function runs for a file before the file counts as failed, at least 1.
    pub(super) max_attempts: u32,
    /// How long one run of the function may take.
    pub(super) processing_timeout: Option<Duration>,
    /// Folder that files are placed in while user code reads them.
    pub(super) work_folder: PathBuf,
    /// Folder that they go to when they have their outcome.
    pub(super) output_dir: PathBuf,
}

/// What a worker reports.
#[derive(Debug)]
pub(super) enum Report {
    /// A file has its outcome.
    Outcome(Outcome),
    /// A part of the content was taken while the file filled up, and all of it is needed: it is to be read again.
    Again(DroppedFile),
    /// User code asks the program to stop.
    Stop { path: Arc<str>, reason: String },
}

/// What a worker made of a file.
struct Processed {
    report: Report,
    /// Content that nobody needs any more.
    content: Option<DownloadDataFile>,
}

impl From<Report> for Processed {
    fn from(report: Report) -> Self {
        Self { report, content: None }
    }
}

#[derive(Default)]
struct Queue {
    ready: VecDeque<WholeFile>,
    /// Files that wait for another one of their path; a key is there while a file of it is ready or runs.
    behind: HashMap<Arc<str>, VecDeque<WholeFile>>,
    waiting: usize,
    running: usize,
    stopping: bool,
    unavailable_until: Option<Instant>,
    /// Runs of user code by the number of their worker, where their time is limited.
    calls: HashMap<usize, Call>,
    /// Workers that were given up and whose user code still runs.
    given_up: HashSet<usize>,
}

/// One run of user code.
struct Call {
    since: Instant,
    info: Arc<FileInfo>,
    attempt: u32,
}

impl Queue {
    /// The next file, for a worker.
    fn take(&mut self) -> Option<WholeFile> {
        let file = self.ready.pop_front()?;
        self.waiting -= 1;
        self.running += 1;
        Some(file)
    }

    /// The three files behind this one, where all four are to be hashed together. They count as running.
    fn take_others(&mut self, file: &WholeFile) -> Option<[WholeFile; 3]> {
        if !file.is_small() || self.ready.len() < 3 || !self.ready.range(..3).all(WholeFile::is_small) {
            return None;
        }
        let [a, b, c] = [self.take(), self.take(), self.take()];
        Some([a?, b?, c?])
    }

    /// Files that wait again, before all others. After a stop nobody would take them up.
    fn give_back(&mut self, files: [WholeFile; 3]) {
        self.running -= files.len();
        if !self.stopping {
            self.waiting += files.len();
            files.into_iter().rev().for_each(|file| self.ready.push_front(file));
        }
    }

    /// The path has no file ready or running any more: the next one's turn.
    fn advance(&mut self, path: &Arc<str>) {
        let Some(next) = self.behind.get_mut(path) else { return };
        match next.pop_front() {
            Some(file) => self.ready.push_back(file),
            None => {
                self.behind.remove(path);
            }
        }
    }
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    settings: WorkSettings,
    budget: Arc<Budget>,
    code: UserCode,
    lock: Lock,
    reports: Sender<Report>,
}

/// A thread of the pool.
struct Worker {
    number: usize,
    thread: JoinHandle<()>,
}

impl Worker {
    fn start(shared: &Arc<Shared>, number: usize) -> std::io::Result<Self> {
        let shared = Arc::clone(shared);
        let named = std::thread::Builder::new().name(format!("{WORKER}{number}"));
        Ok(Self { number, thread: named.spawn(move || shared.work(number))? })
    }
}

/// The threads that run user code.
pub(super) struct Pool {
    shared: Arc<Shared>,
    workers: Mutex<Vec<Worker>>,
    /// What the workers report.
    pub(super) reports: Receiver<Report>,
}

impl Pool {
    pub(super) fn start(settings: WorkSettings, budget: Arc<Budget>, code: UserCode) -> std::io::Result<Self> {
        keep_panics_of_workers();
        let (sender, reports) = crossbeam_channel::bounded(OUTCOMES);
        let threads = settings.threads;
        let shared = Arc::new(Shared {
            queue: Mutex::default(),
            wake: Condvar::new(),
            settings,
            budget,
            code,
            lock: Lock::default(),
            reports: sender,
        });
        let workers = (1..=threads).map(|number| Worker::start(&shared, number)).collect::<Result<_, _>>()?;
        Ok(Self { shared, workers: Mutex::new(workers), reports })
    }

    /// Hands a whole file to the pool. After a stop it is dropped: nobody would take it up, and it is
    /// read again at the next start.
    pub(super) fn submit(&self, file: WholeFile) {
        self.submit_all(std::iter::once(file));
    }

    /// Hands several over at once, which wakes the workers once.
    pub(super) fn submit_all(&self, files: impl Iterator<Item = WholeFile>) {
        let mut queue = self.shared.queue.lock();
        if queue.stopping {
            return;
        }
        for file in files {
            queue.waiting += 1;
            let path = Arc::clone(&file.info.version.path);
            match queue.behind.get_mut(&path) {
                Some(behind) => behind.push_back(file),
                None => {
                    queue.behind.insert(path, VecDeque::new());
                    queue.ready.push_back(file);
                }
            }
        }
        // also a worker that waits for something else may be the one that is woken
        self.shared.wake.notify_all();
    }

    /// Number of files that no worker has taken up.
    pub(super) fn waiting(&self) -> usize {
        self.shared.queue.lock().waiting
    }

    /// Whether no file waits, runs, or has an outcome that was not received.
    pub(super) fn is_idle(&self) -> bool {
        let queue = self.shared.queue.lock();
        queue.waiting == 0 && queue.running == 0 && self.reports.is_empty()
    }

    /// Drops the files that no worker has taken up and that `drop` names.
    pub(super) fn cancel(&self, drop: impl Fn(InstanceId) -> bool) {
        let mut queue = self.shared.queue.lock();
        for behind in queue.behind.values_mut() {
            behind.retain(|file| !drop(file.info.id));
        }
        let (gone, kept): (VecDeque<_>, _) =
            std::mem::take(&mut queue.ready).into_iter().partition(|f| drop(f.info.id));
        queue.ready = kept;
        let paths: HashSet<_> = gone.iter().map(|f| Arc::clone(&f.info.version.path)).collect();
        for path in &paths {
            queue.advance(path);
        }
        queue.waiting = queue.ready.len() + queue.behind.values().map(VecDeque::len).sum::<usize>();
        self.shared.wake.notify_all();
    }

    /// Tells the workers to end after the file in hand; a file that waits for something that is not
    /// available is given up.
    pub(super) fn stop(&self) {
        self.shared.queue.lock().stopping = true;
        self.shared.wake.notify_all();
    }

    /// Gives up the runs of user code whose time is over: their files have failed, another worker takes the
    /// place of each, and what they answer later is dropped.
    pub(super) fn give_up_overdue(&self) -> std::io::Result<Vec<Outcome>> {
        let Some(limit) = self.shared.settings.processing_timeout else { return Ok(Vec::new()) };
        let mut queue = self.shared.queue.lock();
        let overdue: Vec<(usize, Call)> = queue.calls.extract_if(|_, call| call.since.elapsed() > limit).collect();
        for (number, call) in &overdue {
            queue.given_up.insert(*number);
            queue.running -= 1;
            queue.advance(&call.info.version.path);
        }
        drop(queue);
        let mut workers = self.workers.lock();
        let mut outcomes = Vec::with_capacity(overdue.len());
        for (number, call) in overdue {
            workers.retain(|worker| worker.number != number);
            let next = number + self.shared.settings.threads;
            workers.push(Worker::start(&self.shared, next)?);
            let reason = format!("the function did not end within {} s and was given up", limit.as_secs_f64());
            let failure = Failure::new(self.shared.code.failure_status(), reason);
            outcomes.push(self.shared.outcome(call.info, Err(failure), call.attempt, None));
        }
        Ok(outcomes)
    }

    /// Number of runs of user code that were given up and still run.
    pub(super) fn given_up(&self) -> usize {
        self.shared.queue.lock().given_up.len()
    }

    /// Ends the workers. One whose user code still runs is left to itself.
    pub(super) fn join(self) {
        self.stop();
        for worker in self.workers.into_inner() {
            if wait_finished(&worker.thread) {
                // a worker catches the panics of user code and has no others
                let _ = worker.thread.join();
            }
        }
    }
}

/// Gives a worker that was told to stop a moment to notice it.
fn wait_finished(worker: &JoinHandle<()>) -> bool {
    let until = Instant::now() + Duration::from_millis(200);
    while !worker.is_finished() && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(2));
    }
    worker.is_finished()
}

impl Shared {
    fn work(&self, worker: usize) {
        let mut done = None;
        while let Some(file) = self.next(done.as_ref()) {
            let path = Arc::clone(&file.info.version.path);
            let processed = {
                let _span = tracing::error_span!("work", file = &*path).entered();
                self.process(file, worker)
            };
            if self.settings.processing_timeout.is_some() && self.queue.lock().given_up.remove(&worker) {
                tracing::warn!(file = %path, "a function that was given up has ended; its answer is dropped");
                return;
            }
            // the reader is gone only when the program ends
            if let Some(Processed { report, content }) = processed {
                if self.reports.send(report).is_err() {
                    return;
                }
                // a large file takes its time to go: its outcome does not wait for that
                drop(content);
            }
            done = Some(path);
        }
    }

    /// The next file, once the one of the path `done` is.
    fn next(&self, done: Option<&Arc<str>>) -> Option<WholeFile> {
        let mut queue = self.queue.lock();
        if let Some(path) = done {
            queue.running -= 1;
            queue.advance(path);
        }
        loop {
            if queue.stopping {
                return None;
            }
            if let Some(file) = queue.take() {
                if let Some(others) = queue.take_others(&file) {
                    drop(queue);
                    let [a, b, c] = &others;
                    WholeFile::hash_four([&file, a, b, c]);
                    self.queue.lock().give_back(others);
                    self.wake.notify_all();
                }
                return Some(file);
            }
            self.wake.wait(&mut queue);
        }
    }

    /// `None` when the program stops before the file has an outcome.
    fn process(&self, whole: WholeFile, worker: usize) -> Option<Processed> {
        let info = Arc::clone(&whole.info);
        // A file that failed before has had its waits: new files do not stand behind it.
        let max_attempts = if whole.failed_before { 1 } else { self.settings.max_attempts };
        let mut file = match DownloadDataFile::verify(&self.settings.topic, whole) {
            Ok(file) => file,
            Err(NotVerified::Again(dropped)) => return Some(Report::Again(dropped).into()),
            Err(error) => {
                return Some(self.failed(info, FailureStatus::MismatchedHash, crate::report::chain(&error)).into());
            }
        };
        if self.settings.mode != Mode::Memory
            && let Some(reason) = self.refusal(&file)
        {
            return Some(self.failed(info, self.code.failure_status(), reason).into());
        }
        if self.settings.mode != Mode::Memory
            && let Err(error) = self.when_available(|| {
                file.place(&self.settings.work_folder, self.settings.mode == Mode::Both).map_err(placing_failed)
            })?
        {
            let reason = error.to_string();
            return Some(self.failed(info, self.code.failure_status(), reason).into());
        }
        let (attempts, computed) = self.attempts(&file, &info, max_attempts, worker)?;
        if file.is_asked_again() {
            return Some(Report::Again(file.into_dropped()).into());
        }
        let (placed, content) = if file.path().is_some() { (Some(file), None) } else { (None, Some(file)) };
        let result = match computed {
            Ok(message) => Ok(message),
            Err(error) if error.kind() == ErrorKind::Stop => {
                let path = Arc::clone(&info.version.path);
                return Some(Report::Stop { path, reason: error.to_string() }.into());
            }
            Err(error) => Err(Failure::new(self.code.failure_status(), error.to_string())),
        };
        let report = Report::Outcome(self.outcome(info, result, attempts, placed));
        Some(Processed { report, content })
    }

    /// Why the file cannot go to the output folder.
    fn refusal(&self, file: &DownloadDataFile) -> Option<String> {
        let path = file.relative_path();
        if super::folder::is_reserved(path) {
            return Some("its path is one that the program keeps for itself in the output folder".to_owned());
        }
        let output = &self.settings.output_dir;
        file.own_files().would_hold(&output.join(path)).then(|| super::folder::of_the_log(path, output))
    }

    /// Runs the function until it is done with the file, asks to stop, or has failed often enough.
    /// `None` when the program stops before, or the run is given up.
    fn attempts(
        &self,
        file: &DownloadDataFile,
        info: &Arc<FileInfo>,
        max_attempts: u32,
        worker: usize,
    ) -> Option<(u32, Result<Option<ReproducerMessage>, ProcessingError>)> {
        let mut attempts = 0;
        let mut wait = FIRST_BACKOFF;
        loop {
            attempts += 1;
            let computed = self.when_available(|| self.run_in_time(file, info, attempts, worker))?;
            if self.is_given_up(worker) {
                return None;
            }
            match computed {
                Err(error)
                    if error.kind() == ErrorKind::FileFailed && attempts < max_attempts && !file.is_asked_again() =>
                {
                    tracing::warn!(attempt = attempts, max_attempts, error = %error,
                        "the function failed; it runs again in {wait:?}");
                }
                computed => return Some((attempts, computed)),
            }
            if !self.pause(wait) {
                return None;
            }
            wait = (wait * 2).min(LAST_BACKOFF);
        }
    }

    /// Waits. `false` when the program stops.
    fn pause(&self, wait: Duration) -> bool {
        let until = Instant::now() + wait;
        let mut queue = self.queue.lock();
        while !queue.stopping && !self.wake.wait_until(&mut queue, until).timed_out() {}
        !queue.stopping
    }

    /// The file failed before the function ran.
    fn failed(&self, info: Arc<FileInfo>, status: FailureStatus, reason: String) -> Report {
        Report::Outcome(self.outcome(info, Err(Failure::new(status, reason)), 0, None))
    }

    fn outcome(
        &self,
        info: Arc<FileInfo>,
        result: Result<Option<ReproducerMessage>, Failure>,
        attempts: u32,
        file: Option<DownloadDataFile>,
    ) -> Outcome {
        Outcome::new(info, result, attempts, file, &self.budget)
    }

    /// Runs the function where its time is watched, if it is limited.
    fn run_in_time(
        &self,
        file: &DownloadDataFile,
        info: &Arc<FileInfo>,
        attempt: u32,
        worker: usize,
    ) -> Result<Option<ReproducerMessage>, ProcessingError> {
        if self.settings.processing_timeout.is_none() {
            return self.run_user_code(file);
        }
        let call = Call { since: Instant::now(), info: Arc::clone(info), attempt };
        self.queue.lock().calls.insert(worker, call);
        let answer = self.run_user_code(file);
        match self.queue.lock().calls.remove(&worker) {
            Some(_) => answer,
            None => Err(ProcessingError::file_failed("it was given up")),
        }
    }

    fn is_given_up(&self, worker: usize) -> bool {
        self.settings.processing_timeout.is_some() && self.queue.lock().given_up.contains(&worker)
    }

    /// Runs `attempt` until it answers anything but "not available". `None` when the program stops.
    fn when_available<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, ProcessingError>,
    ) -> Option<Result<T, ProcessingError>> {
        let mut wait = FIRST_WAIT;
        loop {
            if !self.wait_until_available() {
                return None;
            }
            match attempt() {
                Err(error) if error.kind() == ErrorKind::NotAvailable => {
                    let mut queue = self.queue.lock();
                    if queue.unavailable_until.is_none() {
                        tracing::warn!(error = %error, "not available; holding, nothing is skipped");
                    }
                    queue.unavailable_until = Some(Instant::now() + wait);
                    wait = (wait * 2).min(LAST_WAIT);
                }
                answer => {
                    if self.queue.lock().unavailable_until.take().is_some() {
                        tracing::info!("available again; going on");
                        self.wake.notify_all();
                    }
                    return Some(answer);
                }
            }
        }
    }

    /// Waits while something is known not to be available. `false` when the program stops.
    fn wait_until_available(&self) -> bool {
        let mut queue = self.queue.lock();
        while let Some(until) = queue.unavailable_until {
            if queue.stopping {
                return false;
            }
            if self.wake.wait_until(&mut queue, until).timed_out() {
                break;
            }
        }
        !queue.stopping
    }

    fn run_user_code(&self, file: &DownloadDataFile) -> Result<Option<ReproducerMessage>, ProcessingError> {
        let call = AssertUnwindSafe(|| self.code.run(file, &self.lock));
        catch_unwind(call).unwrap_or_else(|_| {
            let panic = PANIC.take().unwrap_or_else(|| "the function panicked".to_owned());
            Err(ProcessingError::file_failed(panic))
        })
    }
}

/// A full disk and the like pass, and hold everything; what only this file's name causes is its failure.
fn placing_failed(error: std::io::Error) -> ProcessingError {
    use std::io::ErrorKind as Io;
    match error.kind() {
        Io::InvalidFilename | Io::InvalidInput | Io::IsADirectory | Io::NotADirectory | Io::AlreadyExists => {
            ProcessingError::file_failed(format_args!("the file cannot be written under this name: {error}"))
        }
        _ => ProcessingError::not_available(format_args!("the file cannot be written to the output folder: {error}")),
    }
}

const WORKER: &str = "datamill-worker-";

thread_local! {
    static PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// A panic of user code is reported with its file by the worker, not by the hook of the program.
fn keep_panics_of_workers() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().name().is_some_and(|name| name.starts_with(WORKER)) {
                let place = panic.location().map(|l| format!(" at {}:{}", l.file(), l.line())).unwrap_or_default();
                let text = panic.payload_as_str().unwrap_or("no message");
                PANIC.set(Some(format!("the function panicked{place}: {text}")));
            } else {
                usual(panic);
            }
        }));
    });
}

#[cfg(test)]
mod tests;
