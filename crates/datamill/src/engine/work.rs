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
//! The life of a worker is in `life.rs`, what it does with a file in `attempts.rs`.

mod alone;
mod attempts;
mod life;
mod queue;
mod several;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Condvar, Mutex};

use life::{Hand, PoolThread};
use queue::{Place, Queue, Running};

use super::folder::Output;
use super::in_hand::InHand;
use super::outcome::{Failure, Outcome};
use super::{Control, EngineError, EngineSettings};
use crate::assemble::{Budget, DownloadDataFile, DroppedFile, InstanceId, SourceTopic, WholeFile};
use crate::facts::{Facts, Hold};
use crate::process::{Lock, Needs, UserCode};

/// Outcomes between the workers and the reader.
const OUTCOMES: usize = 1024;
/// A worker takes several small files together while each takes less than this: then the change of threads costs something. Slow
/// ones would wait for each other while another worker is free, and a stop for all of them.
const QUICK: Duration = Duration::from_millis(20);

/// What the pool works with.
pub(super) struct WorkSettings {
    /// The settings of the run.
    pub(super) run: Arc<EngineSettings>,
    pub(super) topic: Arc<SourceTopic>,
    pub(super) facts: Facts,
    /// What user code needs.
    pub(super) needs: Needs,
    /// Small files that a worker may have at once, at least 1.
    pub(super) together: usize,
    /// Where user code may take the process down.
    pub(super) in_hand: Option<Arc<InHand>>,
    /// Folder that files are placed in while user code reads them.
    pub(super) work_folder: PathBuf,
    /// Folder that they go to when they have their outcome.
    pub(super) output: Arc<Output>,
}

/// How the pool stands.
pub(super) struct Standing {
    /// Files that no worker has taken up.
    pub(super) waiting: u64,
    /// Files that workers have.
    pub(super) running: u64,
    /// Something that user code needs, the place that it delivers to, or the output folder is not available.
    pub(super) hold: Option<Hold>,
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
        let mut numbers = 1..=settings.run.threads;
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

    /// Hands whole files to the pool, which wakes the workers once. After a stop they are dropped: nobody would take them
    /// up, and they are read again at the next start.
    pub(super) fn submit(&self, files: impl Iterator<Item = WholeFile>) {
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
        Standing { waiting, running, hold: queue.unavailable.map(|(_, hold)| hold) }
    }

    /// Whether user code ends what it runs where that takes too long.
    pub(super) fn ends_calls(&self) -> bool {
        self.shared.settings.needs.ends_overdue_calls
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
        let Some(limit) = self.shared.settings.run.processing_timeout else { return Ok(Vec::new()) };
        if self.shared.settings.needs.tell_overdue.is_some() || self.shared.settings.needs.ends_overdue_calls {
            // these end the program, and their files have not failed; or the code says that it is over
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
            self.spawn(number + self.shared.settings.run.threads)?;
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
    fn work(&self, hand: &mut Hand) {
        let (mut done, mut most) = (None, 1);
        while let Some((file, more)) = self.next(done.take().as_ref(), most) {
            let (since, files) = (Instant::now(), more.len() as u32 + 1);
            let goes_on = if more.is_empty() {
                done = Some(Arc::clone(&file.info.version.path));
                self.work_on(file, hand)
            } else {
                self.work_on_several(std::iter::once(file).chain(more), hand)
            };
            if !goes_on {
                return;
            }
            most = if since.elapsed() < QUICK * files { self.settings.together } else { 1 };
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
        let is_given_up = self.settings.run.processing_timeout.is_some() && self.queue.lock().given_up.remove(&number);
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

    /// The next file, once the one of the path `done` is, and more where the worker takes up to `most` together.
    fn next(&self, done: Option<&Arc<str>>, most: usize) -> Option<(WholeFile, Vec<WholeFile>)> {
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
                let more = queue.take_more(&file, most);
                if !more.is_empty() {
                    return Some((file, more));
                }
                // what a worker may take together is hashed then
                if self.settings.together == 1
                    && let Some(others) = queue.take_others(&file)
                {
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
}

#[cfg(test)]
mod tests;
