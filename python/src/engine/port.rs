//! The engine's side of the desk: the port for a function of Python.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;
use datamill::assemble::DownloadDataFile;
use datamill::process::{
    Access, Call, Clock, Needs, ProcessingError, ReproducerMessage, ThreadBody, Worker, WorkerThread, Workers,
    spawn_thread,
};
use parking_lot::Mutex;

use super::desk::{Desk, Job, Said};
use crate::lines;

/// How often a worker that waits looks whether the program stops or its call was given up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The workers of the engine. Each waits for a thread of Python.
pub struct Port {
    pub desk: Arc<Desk>,
    /// The file of a call that took too long. A thread of Python cannot be ended, so the process is.
    pub hanging: Arc<Mutex<Option<Arc<str>>>>,
}

impl Workers for Port {
    fn needs(&self) -> Needs {
        Needs::new(Access::Either, Clock::WhenSaid)
    }

    fn spawn(&self, name: &str, body: ThreadBody) -> std::io::Result<Box<dyn WorkerThread>> {
        spawn_thread(name, body)
    }

    fn start(&self) -> Result<Box<dyn Worker>, ProcessingError> {
        Ok(Box::new(Hand { desk: Arc::clone(&self.desk), hanging: Arc::clone(&self.hanging) }))
    }
}

struct Hand {
    desk: Arc<Desk>,
    hanging: Arc<Mutex<Option<Arc<str>>>>,
}

impl Worker for Hand {
    fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Result<Option<ReproducerMessage>, ProcessingError> {
        let (job, said) = Job::new(file, call)?;
        let (number, path) = (job.number(), Arc::clone(&job.path));
        self.desk.put(job);
        loop {
            match said.recv_timeout(LOOK_EVERY) {
                Ok(Said::Begins) => call.begin(),
                Ok(Said::Path(reply)) => {
                    // who asked may be gone
                    let _ = reply.send(call.path(file).map(Into::into));
                }
                Ok(Said::Done(answer)) => return answer,
                Err(RecvTimeoutError::Timeout) if call.is_given_up() => {
                    self.hanging.lock().get_or_insert_with(|| Arc::clone(&path));
                    lines::wake();
                }
                Err(RecvTimeoutError::Timeout) if call.is_stopping() && self.desk.withdraw(number) => {
                    return Err(ProcessingError::not_available("the program stops"));
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(ProcessingError::file_failed("the thread that ran the function has ended"));
                }
            }
        }
    }

    fn stop(self: Box<Self>) {}
}
