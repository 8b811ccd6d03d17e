//! A keeper as datamill's thread has it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Once;
use std::time::{Duration, Instant};

use datamill::report::chain;

use super::ends::WorkerEnds;
use super::frames::{Frames, send, send_with, wait};
use super::marked::{MARK, Mark, end_marked, end_orphans};
use super::protocol::{Answer, Ended, Request, Run};
use crate::outcome::signal_name;
use crate::settings::{KeeperStart, THIS_PROGRAM};

/// How often a keeper is started where it ends at once: somebody may have killed it.
const STARTS: usize = 3;
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
    requests: Option<UnixStream>,
    answers: Frames<ChildStdout>,
    mark: Mark,
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
    /// It cannot be started, or ends again and again: a sentence about that.
    pub(crate) fn start(start: &KeeperStart) -> Result<Self, String> {
        static LOOKED: Once = Once::new();
        LOOKED.call_once(end_what_others_left);
        let tries = (1..STARTS).map(|_| Self::try_start(start)).find_map(Result::ok);
        tries.map_or_else(|| Self::try_start(start), Ok).map_err(|error| {
            let program = start.program.display();
            format!("the process that looks after commands (`{program}`) cannot be started: {}", chain(&error))
        })
    }

    fn try_start(start: &KeeperStart) -> io::Result<Self> {
        let mut command = Command::new(&start.program);
        if start.program == THIS_PROGRAM {
            // for who lists processes
            command.arg0("datamill");
        }
        // a socket and no pipe, since descriptors go along
        let (requests, theirs) = UnixStream::pair()?;
        let mut child = command.args(&start.words).stdin(OwnedFd::from(theirs)).stdout(Stdio::piped()).spawn()?;
        drop(command);
        let answers = child.stdout.take().ok_or_else(|| io::Error::other("a pipe is missing"))?;
        let (requests, answers) = (Some(requests), Frames::new(answers));
        let mut keeper = Self { child: Some(child), requests, answers, mark: Mark::new()? };
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
        run: Run,
        deadline: Option<Instant>,
        mut is_over: impl FnMut() -> bool,
    ) -> Result<Ended, Lost> {
        let run = self.marked(run);
        self.request(&run).map_err(|error| self.lose(&error))?;
        while !is_over() {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if let Some(ended) = self.ended(left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY)))? {
                return Ok(ended);
            }
        }
        self.end_it()
    }

    /// Starts a worker that stays, with these descriptors.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn begin(&mut self, run: Run, ends: &WorkerEnds) -> Result<(), Lost> {
        let run = self.marked(run);
        let sent = match &mut self.requests {
            Some(requests) => send_with(requests, &run, &ends.passed()),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        sent.map_err(|error| self.lose(&error))
    }

    /// The end of what runs, if it comes in this time.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn ended(&mut self, time: Duration) -> Result<Option<Ended>, Lost> {
        match self.answer(time) {
            Ok(Some(Answer::Ended(ended))) => Ok(Some(ended)),
            Ok(Some(Answer::Ready) | None) => Ok(None),
            Err(error) => Err(self.lose(&error)),
        }
    }

    /// Can be read when [`ended`](Self::ended) has something to say.
    pub(crate) fn answers(&self) -> &impl AsFd {
        self.answers.pipe()
    }

    /// Ends what runs.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub(crate) fn end_it(&mut self) -> Result<Ended, Lost> {
        self.request(&Request::End).map_err(|error| self.lose(&error))?;
        let since = Instant::now();
        while since.elapsed() < ANSWERS_WITHIN {
            if let Some(ended) = self.ended(LOOK_EVERY)? {
                return Ok(ended);
            }
        }
        // somebody has stopped it
        let killed = self.child.as_mut().map(Child::kill).transpose();
        Err(self.lose(&killed.err().unwrap_or_else(|| io::ErrorKind::TimedOut.into())))
    }

    fn marked(&self, mut run: Run) -> Request {
        run.environment.push((MARK.to_owned(), self.mark.to_string().into()));
        Request::Run(run)
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

/// Once in a process. Where it cannot be looked, the commands of this process run all the same.
fn end_what_others_left() {
    match end_orphans() {
        Ok(Some(0)) => {}
        Ok(Some(ended)) => tracing::warn!(
            processes = ended,
            "commands of a datamill that was killed together with the processes that look after them were still running; \
             they are ended"
        ),
        Ok(None) => tracing::warn!(
            "what commands of a datamill that was killed have left does not end though it was killed: it waits for a disk \
             that does not answer, or belongs to another user"
        ),
        Err(error) => tracing::debug!(%error, "what an earlier run left cannot be looked for"),
    }
}

fn ending(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => signal_name(signal),
        (None, None) => "an unknown end".to_owned(),
    }
}
