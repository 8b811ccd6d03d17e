//! User code that somebody listens to.

use std::io;
use std::sync::Arc;

use super::port::{Needs, ThreadBody, Worker, WorkerThread, Workers};
use super::{Call, ProcessingError, ReproducerMessage};
use crate::assemble::DownloadDataFile;

/// Hears of each run: the file, and whether the code was done with it.
pub(super) type Hear = Arc<dyn Fn(&DownloadDataFile, bool) + Send + Sync>;

/// Workers whose runs are heard.
pub(super) struct Observed {
    pub(super) workers: Arc<dyn Workers>,
    pub(super) hear: Hear,
}

struct ObservedWorker {
    worker: Box<dyn Worker>,
    hear: Hear,
}

impl Workers for Observed {
    fn needs(&self) -> Needs {
        self.workers.needs()
    }

    fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<Box<dyn WorkerThread>> {
        self.workers.spawn(name, body)
    }

    fn start(&self) -> Result<Box<dyn Worker>, ProcessingError> {
        Ok(Box::new(ObservedWorker { worker: self.workers.start()?, hear: Arc::clone(&self.hear) }))
    }
}

impl Worker for ObservedWorker {
    fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Result<Option<ReproducerMessage>, ProcessingError> {
        let answer = self.worker.run(file, call);
        (self.hear)(file, answer.is_ok());
        answer
    }

    fn stop(self: Box<Self>) {
        self.worker.stop();
    }
}
