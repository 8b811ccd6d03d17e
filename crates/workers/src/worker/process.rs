//! One process of a worker that stays, from its start to its end.

use std::ffi::OsString;
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionread};
use rustix::pipe::fcntl_setpipe_size;

use super::content::Shared;
use super::frames::{Frame, Frames, Hello, VERSION};
use super::gone::Gone;
use super::printed::Printed;
use crate::keeper::{Ended, Excerpt, How, INPUT, Keeper, Lost, OUTPUT, Run, WorkerEnds};

/// How long a worker that has closed its end for answers may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(2);
/// Bytes that wait in the pipe for the worker: as many small files as it has together.
const PIPE: usize = 1 << 20;
/// Bytes of answers that are read at once.
const READ: usize = 64 << 10;

/// A process, and what datamill and it share.
#[derive(Debug)]
pub(super) struct Process {
    keeper: Keeper,
    /// Closed to let it end.
    files: Option<PipeWriter>,
    answers: PipeReader,
    answers_are_open: bool,
    printed: Printed,
    frames: Frames,
    /// What is to be written, and how much of that is.
    unsent: Vec<u8>,
    sent: usize,
    /// Bytes of all that it was handed, and of what is in its pipe or was.
    handed: u64,
    written: u64,
    ended: Option<Ended>,
    /// Some of what it has started does not end.
    is_stuck: bool,
    pub(super) hello: Option<Hello>,
    pub(super) started: Instant,
    /// Files that it has answered.
    pub(super) files_done: u64,
}

impl Process {
    /// Starts one below a keeper that has nothing to do. It finds content that is large in `shared`.
    pub(super) fn begin(mut keeper: Keeper, mut run: Run, shared: &Shared) -> Result<Self, Gone> {
        let program = run.program.clone();
        let not_made = |error: io::Error| Gone::Ended(Ended::not_started(&program, &error).how);
        let (theirs, files) = io::pipe().map_err(not_made)?;
        let (answers, answered) = io::pipe().map_err(not_made)?;
        let ((stdout, to_stdout), (stderr, to_stderr)) = (io::pipe().map_err(not_made)?, io::pipe().map_err(not_made)?);
        let content = shared.lend().map_err(not_made)?;
        // it stays as it is where the system allows no more
        let _ = fcntl_setpipe_size(&files, PIPE);
        rustix::io::ioctl_fionbio(&files, true).map_err(|error| not_made(error.into()))?;
        rustix::io::ioctl_fionbio(&answers, true).map_err(|error| not_made(error.into()))?;
        let ends = WorkerEnds {
            input: theirs.into(),
            output: answered.into(),
            content,
            stdout: to_stdout.into(),
            stderr: to_stderr.into(),
        };
        let said = [("DATAMILL_INPUT", INPUT), ("DATAMILL_OUTPUT", OUTPUT)];
        run.environment.extend(said.map(|(name, number)| (name.to_owned(), OsString::from(number.to_string()))));
        run.environment.push(("DATAMILL_PROTOCOL".to_owned(), VERSION.to_string().into()));
        run.stays = true;
        keeper.begin(run, &ends).map_err(Gone::Lost)?;
        drop(ends);
        Ok(Self {
            keeper,
            files: Some(files),
            answers,
            answers_are_open: true,
            printed: Printed::take(stdout, stderr).map_err(not_made)?,
            frames: Frames::default(),
            unsent: Vec::new(),
            sent: 0,
            handed: 0,
            written: 0,
            ended: None,
            is_stuck: false,
            hello: None,
            started: Instant::now(),
            files_done: 0,
        })
    }

    /// What it has printed since the last time: stdout and stderr.
    pub(super) fn excerpts(&self) -> [Excerpt; 2] {
        if self.printed.is_there() { self.printed.excerpts() } else { Default::default() }
    }

    /// Hands it a frame, which is written in [`step`](Self::step). Answers where the frame ends in all that it was handed.
    pub(super) fn send(&mut self, frame: &[u8]) -> u64 {
        self.unsent.extend_from_slice(frame);
        self.handed += frame.len() as u64;
        self.handed
    }

    /// How much of what it was handed it has read. `None` where that is not known any more.
    pub(super) fn taken(&self) -> Option<u64> {
        let unread = ioctl_fionread(self.files.as_ref()?).ok()?;
        Some(self.written.saturating_sub(unread))
    }

    /// Writes and reads what there is, for at most this time. Answers with the next frame, if one comes.
    pub(super) fn step(&mut self, time: Duration) -> Result<Option<Frame>, Gone> {
        let (until, mut is_over) = (Instant::now() + time, false);
        loop {
            if let Some(frame) = self.frame()? {
                return Ok(Some(frame));
            }
            if let Some(ended) = self.ended.take() {
                return Err(Gone::Ended(self.noted(ended)));
            }
            if !self.answers_are_open {
                return Err(self.closed());
            }
            if is_over {
                return Ok(None);
            }
            let left = until.saturating_duration_since(Instant::now());
            is_over = left.is_zero();
            self.write().map_err(|error| self.broken(error))?;
            let [can_be_read, keeper_answers] = self.wait(left).map_err(|error| self.broken(error))?;
            if keeper_answers {
                self.ended = self.keeper.ended(Duration::ZERO).map_err(Gone::Lost)?;
            }
            // what it has answered before its end counts
            if can_be_read || self.ended.is_some() {
                self.read().map_err(|error| self.broken(error))?;
            }
        }
    }

    /// A frame that was read already, if there is one.
    pub(super) fn buffered(&mut self) -> Option<Frame> {
        self.frames.next().ok().flatten()
    }

    fn frame(&mut self) -> Result<Option<Frame>, Gone> {
        self.frames.next().map_err(|why| self.end_for(Gone::Nonsense(why)))
    }

    /// Writes what the worker takes at the moment.
    fn write(&mut self) -> io::Result<()> {
        let Some(files) = &self.files else { return Ok(()) };
        while self.sent < self.unsent.len() {
            match rustix::io::write(files, &self.unsent[self.sent..]) {
                Ok(count) => {
                    self.sent += count;
                    self.written += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                // it reads no more: its end says why, or it has none
                Err(Errno::PIPE) => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.unsent.clear();
        self.sent = 0;
        Ok(())
    }

    /// Reads all that is there.
    fn read(&mut self) -> io::Result<()> {
        loop {
            match rustix::io::read(&self.answers, spare_capacity(self.frames.room(READ))) {
                Ok(0) => self.answers_are_open = false,
                Ok(READ..) => continue,
                Ok(_) => {}
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
            return Ok(());
        }
    }

    /// Waits until answers can be read, or the keeper has something to say, or more can be written.
    fn wait(&self, time: Duration) -> io::Result<[bool; 2]> {
        let files = self.files.as_ref().filter(|_| self.sent < self.unsent.len());
        let mut asked = vec![
            PollFd::new(&self.answers, PollFlags::IN),
            PollFd::from_borrowed_fd(self.keeper.answers().as_fd(), PollFlags::IN),
        ];
        asked.extend(files.map(|files| PollFd::new(files, PollFlags::OUT)));
        match poll(&mut asked, Some(&time.try_into().map_err(io::Error::other)?)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok([0, 1].map(|n| !asked[n].revents().is_empty()))
    }

    /// It has closed its end for answers, as a process does that ends.
    fn closed(&mut self) -> Gone {
        match self.keeper.ended(ENDS_WITHIN) {
            Ok(Some(ended)) => Gone::Ended(self.noted(ended)),
            Ok(None) => self.end_for(Gone::Closed),
            Err(lost) => Gone::Lost(lost),
        }
    }

    /// The system has an error for what never has one: the worker is of no use.
    fn broken(&mut self, error: io::Error) -> Gone {
        self.end_for(Gone::Nonsense(error.to_string()))
    }

    /// Ends it for a reason.
    pub(super) fn end_for(&mut self, why: Gone) -> Gone {
        match self.end() {
            Ok(_) => why,
            Err(lost) => Gone::Lost(lost),
        }
    }

    /// Ends it with all below it.
    pub(super) fn end(&mut self) -> Result<How, Lost> {
        let ended = match self.ended.take() {
            Some(ended) => ended,
            None => self.keeper.end_it()?,
        };
        Ok(self.noted(ended))
    }

    fn noted(&mut self, ended: Ended) -> How {
        self.is_stuck = ended.is_stuck;
        ended.how
    }

    /// Lets it end: it sees the end of its input.
    pub(super) fn let_end(&mut self) {
        self.files = None;
    }

    /// Whether it has ended, or does so in this time.
    pub(super) fn has_ended(&mut self, time: Duration) -> Result<bool, Lost> {
        let ended = self.keeper.ended(time)?;
        Ok(ended.map(|ended| self.noted(ended)).is_some())
    }

    /// The keeper, once the process has ended. `None` where it is of no use for another one.
    pub(super) fn into_keeper(self) -> Option<Keeper> {
        if !self.is_stuck {
            return Some(self.keeper);
        }
        tracing::warn!(
            "what a worker has started does not end though it was killed: it waits for a disk that does not answer, or belongs \
             to another user; going on without it"
        );
        self.keeper.leave();
        None
    }
}
