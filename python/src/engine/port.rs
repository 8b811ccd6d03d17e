//! The engine's side of the desk: the port for a function of Python.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::RecvTimeoutError;
use datamill::assemble::DownloadDataFile;
use datamill::process::{
    Access, Call, Clock, Needs, ProcessingError, ReproducerMessage, ThreadBody, Worker, WorkerThread, Workers,
    spawn_thread,
};
use datamill::program::Exit;
use parking_lot::{Condvar, Mutex};

use super::desk::{Desk, Job, Said};
use crate::leave::end_after;
use crate::lines;

/// How often a worker that waits looks whether the program stops or its call was given up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long Python may take to say where a call hangs.
const TOLD_WITHIN: Duration = Duration::from_secs(4);

/// The workers of the engine. Each waits for a thread of Python.
pub struct Port {
    pub desk: Arc<Desk>,
    pub hanging: Arc<Hanging>,
    pub public_names: bool,
}

/// The files of calls that took too long. A thread of Python cannot be ended, so the process is.
#[derive(Default)]
pub struct Hanging {
    files: Mutex<(Vec<Arc<str>>, bool)>,
    told: Condvar,
}

impl Hanging {
    /// Waits until Python has said where they hang, for a while: it may be what hangs.
    fn tell(&self, paths: &[Arc<str>]) {
        let mut files = self.files.lock();
        files.0 = paths.to_vec();
        lines::wake();
        let until = Instant::now() + TOLD_WITHIN;
        while !files.1 && !self.told.wait_until(&mut files, until).timed_out() {}
    }

    /// Python has said it.
    pub fn is_told(&self) {
        self.files.lock().1 = true;
        self.told.notify_all();
    }

    pub fn files(&self) -> Vec<String> {
        self.files.lock().0.iter().map(|path| path.to_string()).collect()
    }
}

impl Workers for Port {
    fn needs(&self) -> Needs {
        let hanging = Arc::clone(&self.hanging);
        let needs =
            Needs::new(Access::Either, Clock::WhenSaid).ends_the_program_when_overdue(move |paths| hanging.tell(paths));
        if self.public_names { needs.with_public_names() } else { needs }
    }

    fn spawn(&self, name: &str, body: ThreadBody) -> std::io::Result<Box<dyn WorkerThread>> {
        spawn_thread(name, body)
    }

    fn start(&self) -> Result<Box<dyn Worker>, ProcessingError> {
        Ok(Box::new(Hand(Arc::clone(&self.desk))))
    }
}

struct Hand(Arc<Desk>);

impl Worker for Hand {
    fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Result<Option<ReproducerMessage>, ProcessingError> {
        let (job, said) = Job::new(file, call)?;
        let number = job.number();
        self.0.put(job);
        loop {
            match said.recv_timeout(LOOK_EVERY) {
                Ok(Said::Path(reply)) => {
                    // who asked may be gone
                    let _ = reply.send(call.path(file).map(Into::into));
                }
                Ok(Said::Done(answer)) => return answer,
                Err(RecvTimeoutError::Timeout) if call.is_given_up() && self.0.withdraw(number) => {
                    return Err(ProcessingError::file_failed("it was given up before it began"));
                }
                Err(RecvTimeoutError::Timeout) if call.is_stopping() && self.0.withdraw(number) => {
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

/// How long Python has to end the process once a call has ended the run.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// Ends the process where Python does not come to it, since a call that hangs keeps the interpreter for itself.
pub fn end_the_process(paths: &[String]) -> ! {
    let text = format!("error: the function keeps the interpreter and does not end for {}\n", paths.join(", "));
    end_after(ENDED_WITHIN, Exit::Hanging.code(), text)
}
