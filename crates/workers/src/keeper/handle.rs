//! A keeper as datamill's thread has it.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use uuid::Uuid;

use super::frames::{Frames, send, wait};
use super::marked::{MARK, end_marked};
use super::protocol::{Answer, Ended, Request, Run};
use crate::outcome::signal_name;
use crate::settings::{KeeperStart, THIS_PROGRAM};

/// How long a keeper has to start: an interpreter may be on a slow disk.
const STARTS_WITHIN: Duration = Duration::from_secs(120);
/// How long a keeper may take to answer after it was told to end a command: more than it waits for what it kills.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);
/// How often it is looked at whether a command is to be ended.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A keeper that runs.
#[derive(Debug)]
pub(crate) struct Keeper {
    /// What was started, until it is waited for.
    child: Option<Child>,
    /// Dropped to end it.
    requests: Option<ChildStdin>,
    answers: Frames<ChildStdout>,
    mark: String,
}

/// Why a command has no end that is known. The keeper is of no use any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Lost {
    /// The keeper has ended.
    #[error("the process that looks after it was ended from outside ({0}), and so it was ended as well")]
    Keeper(String),
    /// The same, and more.
    #[error("the process that looks after it was ended from outside ({0}), and what it has started cannot be ended")]
    KeeperAndMore(String),
}

impl Keeper {
    /// Starts one, and waits until it is set up.
    ///
    /// # Errors
    /// It cannot be started, or ends again.
    pub(crate) fn start(start: &KeeperStart) -> io::Result<Self> {
        let mut command = Command::new(&start.program);
        if start.program == THIS_PROGRAM {
            // for who lists processes
            command.arg0("datamill");
        }
        let mut child = command.args(&start.words).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("a pipe is missing"));
        };
        let (requests, answers) = (Some(requests), Frames::new(answers));
        let mut keeper = Self { child: Some(child), requests, answers, mark: Uuid::new_v4().to_string() };
        let until = Instant::now() + STARTS_WITHIN;
        loop {
            match keeper.answer(until.saturating_duration_since(Instant::now()))? {
                Some(Answer::Ready) => return Ok(keeper),
                Some(Answer::Ended(_)) => {}
                None if Instant::now() < until => {}
                None => {
                    keeper.child.as_mut().map(Child::kill).transpose()?;
                    return Err(io::Error::other(format!("it has not answered in {} s", STARTS_WITHIN.as_secs())));
                }
            }
        }
    }

    /// Whether it is there. One that was killed while it had nothing to do has left nothing.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Runs a command and waits for its end. It is ended once `is_over` says so, which is asked all the time, at `deadline`
    /// for sure. An answer that comes at that moment counts.
    ///
    /// # Errors
    /// What has become of the command is not known.
    pub(crate) fn run(
        &mut self,
        mut run: Run,
        deadline: Option<Instant>,
        mut is_over: impl FnMut() -> bool,
    ) -> Result<Ended, Lost> {
        run.environment.push((MARK.to_owned(), OsString::from(&self.mark)));
        self.request(&Request::Run(run)).map_err(|error| self.lose(&error))?;
        let mut ended_at = None;
        loop {
            let now = Instant::now();
            match ended_at {
                None if is_over() => {
                    self.request(&Request::End).map_err(|error| self.lose(&error))?;
                    ended_at = Some(now);
                }
                // somebody has stopped it
                Some(at) if now.duration_since(at) > ANSWERS_WITHIN => {
                    let killed = self.child.as_mut().map(Child::kill).transpose();
                    return Err(self.lose(&killed.err().unwrap_or_else(|| io::ErrorKind::TimedOut.into())));
                }
                _ => {}
            }
            let left = deadline.filter(|_| ended_at.is_none()).map(|at| at.saturating_duration_since(now));
            let time = left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY));
            match self.answer(time) {
                Ok(Some(Answer::Ended(ended))) => return Ok(ended),
                Ok(Some(Answer::Ready) | None) => {}
                Err(error) => return Err(self.lose(&error)),
            }
        }
    }

    fn request(&mut self, request: &Request) -> io::Result<()> {
        self.requests.as_mut().map_or_else(|| Err(io::ErrorKind::BrokenPipe.into()), |to| send(to, request))
    }

    /// The next answer, if one comes in this time.
    fn answer(&mut self, time: Duration) -> io::Result<Option<Answer>> {
        if let Some(answer) = self.answers.next()? {
            return Ok(Some(answer));
        }
        if wait([Some(self.answers.pipe())], Some(time))? == [true] && !self.answers.read()? {
            return Err(io::Error::other(self.end()));
        }
        self.answers.next()
    }

    /// What there is to say of its end; it has closed its stdout.
    fn end(&mut self) -> String {
        drop(self.requests.take());
        match self.child.take().map(|mut child| child.wait()) {
            Some(Ok(status)) => ending(status),
            Some(Err(error)) => error.to_string(),
            None => "it has ended before".to_owned(),
        }
    }

    /// Ends what a keeper has left that does not answer.
    fn lose(&mut self, error: &io::Error) -> Lost {
        let why = if self.child.is_some() { self.end() } else { error.to_string() };
        if end_marked(&self.mark) { Lost::Keeper(why) } else { Lost::KeeperAndMore(why) }
    }

    /// Leaves it to itself, where it cannot end all: it ends once it can.
    pub(crate) fn leave(mut self) {
        drop(self.requests.take());
        if let Some(mut child) = self.child.take() {
            // so that its end is taken note of; where no thread can be made, that is left to the end of the process
            let _ = std::thread::Builder::new().name("datamill-keeper".to_owned()).spawn(move || child.wait());
        }
    }
}

impl Drop for Keeper {
    /// It has nothing to do, and so it ends at once.
    fn drop(&mut self) {
        self.end();
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => signal_name(signal),
        (None, None) => "an unknown end".to_owned(),
    }
}
