//! The life of a worker: its thread, its start before the first file, its stop after the last.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Pool, Report, Shared};
use crate::engine::in_hand::HandSlot;
use crate::engine::{Control, EngineError};
use crate::panics;
use crate::process::{Beginning, Watch, Worker, WorkerThread};

/// How often the start of the workers, and their end, are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What a worker that was told to stop has to notice it.
const NOTICED: Duration = Duration::from_millis(200);

/// A thread of the pool.
pub(super) struct PoolThread {
    pub(super) number: usize,
    thread: Box<dyn WorkerThread>,
}

/// A worker on its thread.
pub(super) struct Hand {
    pub(super) number: usize,
    /// One for each file that the worker has at once; most files have the first.
    pub(super) seats: Vec<Seat>,
    pub(super) worker: Box<dyn Worker>,
}

/// What goes with the file of a call.
pub(super) struct Seat {
    pub(super) watch: Arc<Watch>,
    /// Where user code may take the process down.
    pub(super) slot: Option<Arc<HandSlot>>,
}

impl Pool {
    /// Starts a thread with a worker.
    pub(super) fn spawn(&self, number: usize) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        let body = Box::new(move || shared.live(number));
        let thread = self.shared.code.workers().spawn(&format!("datamill-worker-{number}"), body)?;
        self.threads.lock().push(PoolThread { number, thread });
        Ok(())
    }

    /// Waits until all workers have started, or the program is asked to stop.
    pub(super) fn wait_until_started(&self, control: &Control) -> Result<(), EngineError> {
        let threads = self.shared.settings.run.threads;
        while control.stopping().is_none() {
            // in this order: one that cannot start says so, then it ends
            let ended = self.threads.lock().iter().any(|thread| thread.thread.has_ended());
            if let Ok(Report::NotStarted(reason)) = self.reports.try_recv() {
                return Err(EngineError::NotStarted(reason));
            }
            if ended {
                let reason = "a thread that was to run it ended before".to_owned();
                return Err(EngineError::NotStarted(reason));
            }
            let mut queue = self.shared.queue.lock();
            if queue.started == threads {
                return Ok(());
            }
            self.shared.wake.wait_for(&mut queue, LOOK_EVERY);
        }
        Ok(())
    }

    /// Ends the workers. One whose user code still runs is left to itself.
    pub(in crate::engine) fn join(self) {
        self.stop();
        let told = Instant::now();
        let threads = self.threads.into_inner();
        loop {
            let ended = threads.iter().all(|thread| thread.thread.has_ended());
            let has_time = told.elapsed() < NOTICED
                || self.shared.queue.lock().ending > 0 && told.elapsed() < self.shared.settings.run.shutdown_timeout;
            if ended || !has_time {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Shared {
    /// What a thread of the pool does.
    fn live(&self, number: usize) {
        let started = panics::caught(|| self.code.workers().start().map_err(|error| error.to_string()));
        let worker = match started.and_then(|started| started) {
            Ok(worker) => worker,
            Err(reason) => {
                // the reader is gone only when the program ends
                let _ = self.reports.send(Report::NotStarted(reason));
                self.wake.notify_all();
                return;
            }
        };
        self.queue.lock().started += 1;
        self.wake.notify_all();
        let seats = (0..self.settings.together).map(|place| {
            let slot_number = (number - 1) * self.settings.together + place + 1;
            let slot = self.settings.in_hand.as_ref().map(|in_hand| in_hand.hand(slot_number));
            let noted = slot.clone().map(|slot| slot as Arc<dyn Beginning>);
            Seat { watch: Arc::new(Watch::new(self.settings.run.processing_timeout, noted)), slot }
        });
        let mut hand = Hand { number, seats: seats.collect(), worker };
        self.work(&mut hand);
        self.queue.lock().ending += 1;
        if let Err(panic) = panics::caught(|| hand.worker.stop()) {
            tracing::warn!(error = %panic, "a worker could not be stopped in order");
        }
        self.queue.lock().ending -= 1;
    }
}
