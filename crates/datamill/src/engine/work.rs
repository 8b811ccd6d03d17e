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
//! The life of a worker is in `life.rs`.

mod alone;
mod life;
mod queue;
mod several;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex};

use life::{Hand, PoolThread, Seat};
use queue::{Place, Queue, Running};

use super::in_hand::{Deaths, HandSlot, InHand};
use super::outcome::{Failure, Outcome};
use super::{Control, EngineError};
use crate::assemble::{
    Budget, DownloadDataFile, DroppedFile, FileInfo, InstanceId, Mode, NotVerified, SourceTopic, WholeFile,
};
use crate::facts::{Fact, Facts, FailureStatus};
use crate::panics;
use crate::process::{
    Access, Answer, Call, Clock, ErrorKind, Lock, ProcessingError, ReproducerMessage, TellMismatch, TellOverdue,
    UserCode, placing_failed,
};

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
    pub(super) facts: Facts,
    pub(super) threads: usize,
    pub(super) mode: Mode,
    /// What user code needs besides.
    pub(super) access: Access,
    pub(super) clock: Clock,
    /// Whether files on disk have their public names before they have their outcome.
    pub(super) public_names: bool,
    /// Small files that a worker may have at once, at least 1.
    pub(super) together: usize,
    /// Where a call that is overdue ends the program.
    pub(super) tell_overdue: Option<TellOverdue>,
    /// Where code wants the files that are not what was uploaded.
    pub(super) tell_mismatch: Option<TellMismatch>,
    /// Where user code may take the process down.
    pub(super) in_hand: Option<Arc<InHand>>,
    /// Whether each file has a message: there is a topic for results.
    pub(super) has_results: bool,
    /// How often the function runs for a file before the file counts as failed, at least 1.
    pub(super) max_attempts: u32,
    /// How long one run of the function may take.
    pub(super) processing_timeout: Option<Duration>,
    /// Folder that files are placed in while user code reads them.
    pub(super) work_folder: PathBuf,
    /// Folder that they go to when they have their outcome.
    pub(super) output_dir: PathBuf,
    /// How long a stop waits for workers that end.
    pub(super) shutdown_timeout: Duration,
}

/// How the pool stands.
pub(super) struct Standing {
    /// Files that no worker has taken up.
    pub(super) waiting: u64,
    /// Files that workers have.
    pub(super) running: u64,
    /// Something that user code needs is not available.
    pub(super) is_held: bool,
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
    /// A worker could not start.
    NotStarted(String),
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

/// A file as the function gets it.
struct Prepared {
    info: Arc<FileInfo>,
    file: DownloadDataFile,
    /// Attempts that were made before.
    before: u32,
    max_attempts: u32,
    failed_before: bool,
}

struct Shared {
    queue: Mutex<Queue>,
    wake: Condvar,
    settings: WorkSettings,
    budget: Arc<Budget>,
    code: UserCode,
    lock: Lock,
    /// As in the queue, for user code that looks.
    stopping: AtomicBool,
    reports: Sender<Report>,
}

/// The threads that run user code.
pub(super) struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<PoolThread>>,
    /// What the workers report.
    pub(super) reports: Receiver<Report>,
}

impl Pool {
    /// Answers once all workers have started, or when the program is asked to stop before.
    ///
    /// # Errors
    /// The threads or the workers cannot start. No worker is left then that could be stopped.
    pub(super) fn start(
        settings: WorkSettings,
        budget: Arc<Budget>,
        code: UserCode,
        control: &Control,
    ) -> Result<Self, EngineError> {
        let (sender, reports) = crossbeam_channel::bounded(OUTCOMES);
        let mut numbers = 1..=settings.threads;
        let in_hand = settings.in_hand.clone();
        let queue = Queue { held: in_hand.is_some(), in_hand, ..Queue::default() };
        let shared = Arc::new(Shared {
            queue: Mutex::new(queue),
            wake: Condvar::new(),
            settings,
            budget,
            code,
            lock: Lock::default(),
            stopping: AtomicBool::new(false),
            reports: sender,
        });
        let pool = Self { shared, threads: Mutex::default(), reports };
        let spawned = numbers.try_for_each(|number| pool.spawn(number));
        match spawned.map_err(EngineError::Thread).and_then(|()| pool.wait_until_started(control)) {
            Ok(()) => Ok(pool),
            Err(error) => {
                pool.join();
                Err(error)
            }
        }
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
        files.for_each(|file| queue.submit(file));
        // also a worker that waits for something else may be the one that is woken
        self.shared.wake.notify_all();
    }

    /// Number of files that no worker has taken up.
    pub(super) fn waiting(&self) -> usize {
        self.shared.queue.lock().waiting
    }

    /// How the pool stands.
    pub(super) fn standing(&self) -> Standing {
        let queue = self.shared.queue.lock();
        let (waiting, running) = (queue.waiting as u64, queue.running as u64);
        Standing { waiting, running, is_held: queue.unavailable_until.is_some() }
    }

    /// Whether no file waits, runs, or has an outcome that was not received.
    pub(super) fn is_idle(&self) -> bool {
        let queue = self.shared.queue.lock();
        queue.waiting == 0 && queue.running == 0 && self.reports.is_empty()
    }

    /// Drops the files that no worker has taken up and that `drop` names.
    pub(super) fn cancel(&self, drop: impl Fn(InstanceId) -> bool) {
        self.shared.queue.lock().cancel(drop);
        self.shared.wake.notify_all();
    }

    /// Tells the workers to end after the file in hand; a file that waits for something that is not
    /// available is given up.
    pub(super) fn stop(&self) {
        self.shared.queue.lock().stopping = true;
        self.shared.stopping.store(true, Relaxed);
        self.shared.wake.notify_all();
    }

    /// Gives up the runs of user code whose time is over: their files have failed, another worker takes the
    /// place of each, and what they answer later is dropped.
    pub(super) fn give_up_overdue(&self) -> std::io::Result<Vec<Outcome>> {
        let Some(limit) = self.shared.settings.processing_timeout else { return Ok(Vec::new()) };
        if self.shared.settings.tell_overdue.is_some() {
            // these end the program, and their files have not failed
            return Ok(Vec::new());
        }
        let mut queue = self.shared.queue.lock();
        let overdue: Vec<(Place, Running)> = queue.calls.extract_if(|_, call| call.watch.is_overdue()).collect();
        for ((number, _), call) in &overdue {
            queue.give_up(*number, call);
        }
        drop(queue);
        let mut outcomes = Vec::with_capacity(overdue.len());
        for ((number, _), call) in overdue {
            self.threads.lock().retain(|thread| thread.number != number);
            self.spawn(number + self.shared.settings.threads)?;
            let reason = format!("the function did not end within {} s and was given up", limit.as_secs_f64());
            let failure = Failure::new(self.shared.failure_status(), reason);
            outcomes.push(self.shared.outcome(call.info, Err(failure), call.attempt, None));
        }
        Ok(outcomes)
    }

    /// Number of runs of user code that were given up and still run.
    pub(super) fn given_up(&self) -> usize {
        self.shared.queue.lock().given_up.len()
    }
}

impl Shared {
    /// What the registry calls a file for which user code failed.
    fn failure_status(&self) -> FailureStatus {
        if self.settings.has_results { FailureStatus::ComputingResultMessageFailed } else { FailureStatus::Failed }
    }

    fn work(&self, hand: &mut Hand) {
        let mut done = None;
        while let Some((file, more)) = self.next(done.take().as_ref()) {
            let goes_on = if more.is_empty() {
                done = Some(Arc::clone(&file.info.version.path));
                self.work_on(file, hand)
            } else {
                self.work_on_several(std::iter::once(file).chain(more), hand)
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Answers whether the worker goes on.
    fn work_on(&self, file: WholeFile, hand: &mut Hand) -> bool {
        let path = Arc::clone(&file.info.version.path);
        let _span = tracing::error_span!("work", file = &*path).entered();
        let processed = self.process(file, hand);
        !self.is_given_up(hand.number) && self.tell(processed)
    }

    /// Whether the worker was given up, and ends now that its function has.
    fn is_given_up(&self, number: usize) -> bool {
        let is_given_up = self.settings.processing_timeout.is_some() && self.queue.lock().given_up.remove(&number);
        if is_given_up {
            tracing::warn!("a function that was given up has ended; its answer is dropped");
        }
        is_given_up
    }

    /// Answers whether there is somebody to tell.
    fn tell(&self, processed: Option<Processed>) -> bool {
        let Some(Processed { report, content }) = processed else { return true };
        // the reader is gone only when the program ends
        let is_told = self.reports.send(report).is_ok();
        // a large file takes its time to go: its outcome does not wait for that
        drop(content);
        is_told
    }

    /// The next file, once the one of the path `done` is, and more where the worker takes several.
    fn next(&self, done: Option<&Arc<str>>) -> Option<(WholeFile, Vec<WholeFile>)> {
        let mut queue = self.queue.lock();
        if let Some(path) = done {
            let ran_alone = queue.runs_alone;
            queue.end(path);
            if ran_alone {
                self.wake.notify_all();
            }
        }
        loop {
            if queue.stopping {
                return None;
            }
            if let Some(file) = queue.take() {
                let more = queue.take_more(&file, self.settings.together);
                if !more.is_empty() {
                    return Some((file, more));
                }
                if let Some(others) = queue.take_others(&file) {
                    drop(queue);
                    let [a, b, c] = &others;
                    WholeFile::hash_four([&file, a, b, c]);
                    self.queue.lock().give_back(others);
                    self.wake.notify_all();
                }
                return Some((file, Vec::new()));
            }
            self.wake.wait(&mut queue);
        }
    }

    /// `None` when the program stops before the file has an outcome.
    fn process(&self, whole: WholeFile, hand: &mut Hand) -> Option<Processed> {
        match self.prepare(whole, hand.seats[0].slot.as_ref())? {
            Ok(prepared) => self.compute(prepared, hand, 0, None),
            Err(processed) => Some(processed),
        }
    }

    /// The file as the function gets it, or its outcome where it does not get it. `None` when the program stops before.
    fn prepare(&self, whole: WholeFile, slot: Option<&Arc<HandSlot>>) -> Option<Result<Prepared, Processed>> {
        let info = Arc::clone(&whole.info);
        // A file that failed before has had its waits: new files do not stand behind it.
        let failed_before = whole.failed_before;
        let max_attempts = if failed_before { 1 } else { self.settings.max_attempts };
        let mut file = match DownloadDataFile::verify(&self.settings.topic, whole) {
            Ok(file) => file,
            Err(NotVerified::Again(dropped)) => return Some(Err(Report::Again(dropped).into())),
            Err(error) => {
                let failed = self.failed(info, FailureStatus::MismatchedHash, crate::report::chain(&error));
                if let NotVerified::Mismatch(_, file) = &error {
                    self.tell_mismatch(file);
                }
                return Some(Err(failed.into()));
            }
        };
        let mut before = 0;
        if let Some(slot) = slot {
            let deaths = slot.deaths(&info, failed_before);
            before = deaths.map_or(0, Deaths::attempts);
            if let Some(deaths) = deaths.filter(|deaths| deaths.are_enough(max_attempts)) {
                let failure = Failure::new(FailureStatus::EndedTheProgram, deaths.reason());
                return Some(Err(Report::Outcome(self.outcome(info, Err(failure), before, None)).into()));
            }
            slot.prepare(&info, deaths.is_some() && self.runs_alone(), failed_before);
        }
        if self.settings.mode != Mode::Memory
            && let Some(reason) = self.refusal(&file)
        {
            return Some(Err(self.failed(info, self.failure_status(), reason).into()));
        }
        if self.settings.mode != Mode::Memory
            && let Err(error) = self.when_available(|| self.place(&mut file, failed_before).map_err(placing_failed))?
        {
            let reason = error.to_string();
            return Some(Err(self.failed(info, self.failure_status(), reason).into()));
        }
        Some(Ok(Prepared { info, file, before, max_attempts, failed_before }))
    }

    /// Runs the function for the file, from this answer on where there is one. `None` when the program stops before the
    /// file has an outcome, or the run is given up.
    fn compute(
        &self,
        mut prepared: Prepared,
        hand: &mut Hand,
        place: usize,
        first: Option<Answer>,
    ) -> Option<Processed> {
        let (attempts, computed) = self.attempts(&mut prepared, hand, place, first)?;
        Some(self.concluded(prepared, attempts, computed))
    }

    /// The outcome of a file whose function has answered for the last time.
    fn concluded(&self, prepared: Prepared, attempts: u32, computed: Answer) -> Processed {
        let Prepared { info, file, .. } = prepared;
        if file.is_asked_again() {
            return Report::Again(file.into_dropped()).into();
        }
        let (placed, content) = if file.path().is_some() { (Some(file), None) } else { (None, Some(file)) };
        let result = match computed {
            Ok(message) => Ok(message),
            Err(error) if error.kind() == ErrorKind::Stop => {
                let path = Arc::clone(&info.version.path);
                return Report::Stop { path, reason: error.to_string() }.into();
            }
            Err(error) => Err(Failure::new(self.failure_status(), error.to_string())),
        };
        let report = Report::Outcome(self.outcome(info, result, attempts, placed));
        Processed { report, content }
    }

    /// Lets code have a file that is not what was uploaded; whatever becomes of that, the file has failed.
    fn tell_mismatch(&self, file: &DownloadDataFile) {
        let Some(TellMismatch(tell)) = &self.settings.tell_mismatch else { return };
        if let Err(panic) = panics::caught(|| tell(file)) {
            tracing::warn!(error = %panic, "the code that wants files with a wrong hash has failed");
        }
    }

    /// Why the file cannot go to the output folder.
    fn refusal(&self, file: &DownloadDataFile) -> Option<String> {
        let path = file.relative_path();
        if super::folder::is_reserved(path) {
            return Some("its path is one that the program keeps for itself in the output folder".to_owned());
        }
        super::folder::taken(&self.settings.output_dir, path, file.own_files())
    }

    /// Puts the file on disk, where the code finds it.
    fn place(&self, file: &mut DownloadDataFile, failed_before: bool) -> std::io::Result<()> {
        file.place(&self.settings.work_folder, self.stays_in_memory())?;
        let output = &self.settings.output_dir;
        // a version that came later may be there already
        if self.settings.public_names && !(failed_before && output.join(file.relative_path()).exists()) {
            file.show(output)?;
        }
        Ok(())
    }

    /// Whether the bytes of a file that is on disk are in memory as well.
    fn stays_in_memory(&self) -> bool {
        self.settings.mode == Mode::Both || self.settings.access == Access::Bytes
    }

    /// Whether nothing but the file in hand is with user code.
    fn runs_alone(&self) -> bool {
        let queue = self.queue.lock();
        queue.runs_alone && queue.given_up.is_empty()
    }

    /// Runs the function until it is done with the file, asks to stop, or has failed often enough. `first` is what it
    /// has answered already. Answers how many attempts were made.
    /// `None` when the program stops before, or the run is given up.
    fn attempts(
        &self,
        prepared: &mut Prepared,
        hand: &mut Hand,
        place: usize,
        mut first: Option<Answer>,
    ) -> Option<(u32, Answer)> {
        let Prepared { info, file, before, max_attempts, failed_before } = prepared;
        let (mut attempts, max_attempts, again) = (*before, *max_attempts, *failed_before);
        let mut wait = FIRST_BACKOFF;
        loop {
            if self.settings.access == Access::Path
                && let Err(error) = self.when_available(|| self.lend(file))?
            {
                return Some((attempts, Err(error)));
            }
            attempts += 1;
            let is_last = attempts >= max_attempts;
            let (path, attempt) = (&*info.version.path, attempts);
            if first.is_none() {
                self.settings.facts.tell(&Fact::Started { file: path, attempt, again });
            }
            let mut took = None;
            let computed = self.when_available(|| {
                if let Some(answer) = first.take() {
                    return answer;
                }
                let begun = Instant::now();
                let computed = self.run_in_time(file, info, attempt, is_last, hand, place);
                took = Some(hand.seats[place].watch.took().unwrap_or_else(|| begun.elapsed()));
                computed
            })?;
            if let Some(took) = took {
                self.settings.facts.tell(&Fact::Ran { file: path, took });
            }
            if hand.seats[place].watch.is_given_up() {
                return None;
            }
            file.take_back();
            match computed {
                Err(error)
                    if error.kind() == ErrorKind::FileFailed && attempts < max_attempts && !file.is_asked_again() =>
                {
                    let (file, attempt) = (&*info.version.path, attempts);
                    let (status, reason) = (self.failure_status(), &*error.to_string());
                    let facts = &self.settings.facts;
                    facts.tell(&Fact::AttemptFailed { file, attempt, max_attempts, status, reason, wait });
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

    fn call<'a>(&'a self, seat: &'a Seat, attempt: u32, is_last: bool) -> Call<'a> {
        Call {
            attempt,
            is_last,
            lock: &self.lock,
            watch: &seat.watch,
            stopping: &self.stopping,
            folder: &self.settings.work_folder,
        }
    }

    /// The call is about to be made, and is watched from here on where that is needed.
    fn begin_call(&self, place: Place, seat: &Seat, info: &Arc<FileInfo>, attempt: u32) {
        if !seat.watch.is_needed() {
            return;
        }
        seat.watch.call(self.settings.clock);
        if self.settings.processing_timeout.is_some() {
            let (watch, slot) = (Arc::clone(&seat.watch), seat.slot.clone());
            self.queue.lock().calls.insert(place, Running { watch, info: Arc::clone(info), attempt, slot });
        }
    }

    /// The call has come back. `false` where it was given up.
    fn end_call(&self, place: Place, seat: &Seat) -> bool {
        if !seat.watch.is_needed() {
            return true;
        }
        seat.watch.end();
        self.settings.processing_timeout.is_none() || self.queue.lock().calls.remove(&place).is_some()
    }

    /// Runs the function where its time is watched, if it is limited.
    fn run_in_time(
        &self,
        file: &DownloadDataFile,
        info: &Arc<FileInfo>,
        attempt: u32,
        is_last: bool,
        hand: &mut Hand,
        place: usize,
    ) -> Answer {
        let Hand { number, seats, worker } = hand;
        let (seat, place) = (&seats[place], (*number, place));
        self.begin_call(place, seat, info, attempt);
        let call = self.call(seat, attempt, is_last);
        let answer = panics::caught(|| worker.run(file, &call));
        let answer = self.checked(answer.unwrap_or_else(|panic| Err(ProcessingError::file_failed(panic))));
        if self.end_call(place, seat) { answer } else { Err(ProcessingError::file_failed("it was given up")) }
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
                    if queue.stopping {
                        return None;
                    }
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

    /// Places the file for code that needs a path, in whatever mode.
    fn lend(&self, file: &DownloadDataFile) -> Result<(), ProcessingError> {
        file.lend(&self.settings.work_folder).map(drop).map_err(placing_failed)
    }

    /// A message where the program has a topic for results, and none where it has not.
    fn checked(&self, answer: Answer) -> Answer {
        let message = answer?;
        match (&message, self.settings.has_results) {
            (None, true) => Err(ProcessingError::file_failed("the function returned no message")),
            (Some(_), false) => Err(ProcessingError::file_failed(
                "the function returned a message, but the program has no topic for results",
            )),
            _ => Ok(message),
        }
    }
}

#[cfg(test)]
mod tests;
