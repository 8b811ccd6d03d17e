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
    pub public_names: bool,
}

impl Workers for Port {
    fn needs(&self) -> Needs {
        let hanging = Arc::clone(&self.hanging);
        let needs = Needs::new(Access::Either, Clock::WhenSaid).ends_the_program_when_overdue(move |paths| {
            *hanging.lock() = paths.first().cloned();
            lines::wake();
        });
        if self.public_names { needs.with_public_names() } else { needs }
    }

    fn spawn(&self, name: &str, body: ThreadBody) -> std::io::Result<Box<dyn WorkerThread>> {
        spawn_thread(name, body)
    }

    fn start(&self) -> Result<Box<dyn Worker>, ProcessingError> {
        Ok(Box::new(Hand { desk: Arc::clone(&self.desk) }))
    }
}

struct Hand {
    desk: Arc<Desk>,
}

impl Worker for Hand {
    fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Result<Option<ReproducerMessage>, ProcessingError> {
        let (job, said) = Job::new(file, call)?;
        let number = job.number();
        self.desk.put(job);
        loop {
            match said.recv_timeout(LOOK_EVERY) {
                Ok(Said::Path(reply)) => {
                    // who asked may be gone
                    let _ = reply.send(call.path(file).map(Into::into));
                }
                Ok(Said::Done(answer)) => return answer,
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
