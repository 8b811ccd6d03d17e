//! The engine's side of the desk: the port for a function of Python.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill::assemble::DownloadDataFile;
use datamill::process::{
    Access, Answer, Call, Clock, Needs, ProcessingError, Several, ThreadBody, Together, Worker, WorkerThread, Workers,
    spawn_thread,
};
use datamill::program::Exit;
use parking_lot::{Condvar, Mutex};

use super::desk::{Desk, Ear, Job, Said};
use crate::leave::end_after;
use crate::lines;

/// How often a worker that waits looks whether the program stops or its call was given up.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Small files that a thread of the engine waits for at once.
const TOGETHER: usize = 8;

/// How long Python has to end the process once a call has ended the run.
const ENDED_WITHIN: Duration = Duration::from_secs(10);

/// How long Python may take to say where a call hangs.
const TOLD_WITHIN: Duration = Duration::from_secs(4);

/// The workers of the engine. Each waits for a thread of Python.
pub struct Port {
    pub desk: Arc<Desk>,
    pub hanging: Arc<Hanging>,
    pub public_names: bool,
    /// Whether Python wants files that are not what was uploaded.
    pub wants_mismatches: bool,
}

/// The files of calls that took too long. A thread of Python cannot be ended, so the process is.
#[derive(Default)]
pub struct Hanging {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    files: Vec<Arc<str>>,
    is_told: bool,
    is_spared: bool,
}

impl Hanging {
    /// Waits until Python has said where they hang, for a while: it may be what hangs.
    fn tell(&self, paths: &[Arc<str>]) {
        let mut state = self.state.lock();
        state.files = paths.to_vec();
        lines::wake();
        let until = Instant::now() + TOLD_WITHIN;
        while !state.is_told && !self.changed.wait_until(&mut state, until).timed_out() {}
    }

    /// Python has said it.
    pub fn is_told(&self) {
        self.state.lock().is_told = true;
        self.changed.notify_all();
    }

    /// Python goes on with the process.
    pub fn spare(&self) {
        self.state.lock().is_spared = true;
        self.changed.notify_all();
    }

    pub fn files(&self) -> Vec<String> {
        self.state.lock().files.iter().map(|path| path.to_string()).collect()
    }

    /// Ends the process where a call has ended the run and Python does not come to it, since the call keeps the interpreter
    /// for itself.
    pub fn end_the_process(&self) {
        let paths = self.files();
        let mut state = self.state.lock();
        let until = Instant::now() + ENDED_WITHIN;
        while !state.files.is_empty() && !state.is_spared && !self.changed.wait_until(&mut state, until).timed_out() {}
        if !paths.is_empty() && !state.is_spared {
            drop(state);
            let text = format!("error: the function keeps the interpreter and does not end for {}\n", paths.join(", "));
            end_after(Duration::ZERO, Exit::Hanging.code(), text)
        }
    }
}

impl Workers for Port {
    fn needs(&self) -> Needs {
        let hanging = Arc::clone(&self.hanging);
        let needs = Needs::new(Access::Either, Clock::WhenSaid)
            .with_small_files_together(TOGETHER)
            .ends_the_program_when_overdue(move |paths| hanging.tell(paths));
        let needs = if self.public_names { needs.with_public_names() } else { needs };
        if !self.wants_mismatches {
            return needs;
        }
        let desk = Arc::clone(&self.desk);
        needs.tells_mismatches(move |file| hand_mismatch(&desk, file))
    }

    fn spawn(&self, name: &str, body: ThreadBody) -> std::io::Result<Box<dyn WorkerThread>> {
        spawn_thread(name, body)
    }

    fn start(&self) -> Result<Box<dyn Worker>, ProcessingError> {
        Ok(Box::new(Hand { desk: Arc::clone(&self.desk), ear: Arc::default(), new: Vec::new(), open: Vec::new() }))
    }
}

/// Lets Python have a file that is not what was uploaded, and waits until it is done with that.
fn hand_mismatch(desk: &Desk, file: &DownloadDataFile) {
    let ear = Arc::default();
    match Job::of_mismatch(file, &ear) {
        Ok(job) => desk.put(&mut vec![job]),
        Err(error) => {
            tracing::warn!(file = file.relative_path(), error = %error, "a file with a wrong hash cannot be read back");
            return;
        }
    }
    loop {
        for (_, said) in ear.listen(LOOK_EVERY) {
            let Said::Path(reply) = said else { return };
            let refusal = "its content is not what was uploaded: it is not put on disk";
            // who asked may be gone
            drop(reply.send(Err(ProcessingError::file_failed(refusal))));
        }
    }
}

/// A thread of the engine, and the files that it waits for.
struct Hand {
    desk: Arc<Desk>,
    ear: Arc<Ear>,
    /// Jobs that are not on the desk yet.
    new: Vec<Job>,
    /// Numbers of the jobs that are not answered, with the places of their files.
    open: Vec<(u64, usize)>,
}

impl Several for Hand {
    fn begin(&mut self, place: usize, file: &DownloadDataFile, call: &Call<'_>) -> Result<(), ProcessingError> {
        let job = Job::new(file, call, &self.ear)?;
        self.open.push((job.number(), place));
        self.new.push(job);
        Ok(())
    }

    fn answers(&mut self, together: &dyn Together) -> Vec<(usize, Answer)> {
        self.desk.put(&mut self.new);
        let mut answers = Vec::with_capacity(self.open.len());
        while answers.is_empty() {
            let heard = self.ear.listen(LOOK_EVERY);
            if heard.is_empty() {
                self.withdraw(together, &mut answers);
            }
            for (number, said) in heard {
                let Some(index) = self.open.iter().position(|(open, _)| *open == number) else { continue };
                let (_, place) = self.open[index];
                match said {
                    // who asked may be gone
                    Said::Path(reply) => drop(reply.send(together.path(place))),
                    Said::Done(answer) => {
                        self.open.swap_remove(index);
                        answers.push((place, answer));
                    }
                }
            }
        }
        answers
    }
}

impl Hand {
    /// Takes back what no thread of Python has taken, where it was given up or the program stops.
    fn withdraw(&mut self, together: &dyn Together, answers: &mut Vec<(usize, Answer)>) {
        self.open.retain(|&(number, place)| {
            let error = if together.is_given_up(place) {
                ProcessingError::file_failed("it was given up before it began")
            } else if together.is_stopping() {
                ProcessingError::not_available("the program stops")
            } else {
                return true;
            };
            // in this order: a job that is dropped says that it failed
            let Some(job) = self.desk.withdraw(number) else { return true };
            self.ear.close(number);
            drop(job);
            answers.push((place, Err(error)));
            false
        });
    }
}

/// One file with a worker.
struct One<'a>(&'a DownloadDataFile, &'a Call<'a>);

impl Together for One<'_> {
    fn path(&self, _: usize) -> Result<PathBuf, ProcessingError> {
        self.1.path(self.0).map(Into::into)
    }

    fn is_given_up(&self, _: usize) -> bool {
        self.1.is_given_up()
    }

    fn is_stopping(&self) -> bool {
        self.1.is_stopping()
    }
}

impl Worker for Hand {
    fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Answer {
        self.begin(0, file, call)?;
        loop {
            if let Some((_, answer)) = self.answers(&One(file, call)).pop() {
                return answer;
            }
        }
    }

    fn several(&mut self) -> Option<&mut dyn Several> {
        Some(self)
    }

    fn stop(self: Box<Self>) {}
}
