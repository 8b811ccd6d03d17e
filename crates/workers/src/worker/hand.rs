//! A thread of the engine with its worker: files in, answers out, whatever becomes of the process.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use datamill::assemble::DownloadDataFile;
use datamill::process::{Answer, Call, ErrorKind, ProcessingError, Several, Together, Worker};
use datamill::wire::hex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::content::{self, Place, Shared as Content};
use super::frames::{self, Answered, FileHeader, Frame, Hello, VERSION};
use super::gone::Gone;
use super::port::Shared;
use super::process::Process;
use crate::keeper::{Excerpt, How, Keeper};
use crate::outcome::Limits;
use crate::stop::{End, Over, is_stopping_soon, stopped};

/// How often it is looked at whether the program stops.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a worker may take to say hello, and when it is said that it takes its time.
const HELLO_WITHIN: Duration = Duration::from_secs(600);
const HELLO_IS_LATE: Duration = Duration::from_secs(10);
/// How often a worker is started that ends before its hello, while the program runs.
const STARTS: u32 = 3;
/// How long a worker that had its last file is waited for, so that its keeper looks after the next one.
const RETIRES_AT_ONCE: Duration = Duration::from_millis(300);
/// How long it may take to end beside the next one.
const RETIRES_WITHIN: Duration = Duration::from_secs(10);

type IsStopping<'a> = &'a dyn Fn() -> bool;

/// A file that the worker has and has not answered.
#[derive(Debug)]
struct Open {
    place: usize,
    id: u64,
    file: Arc<str>,
    /// What was sent, for another worker.
    frame: Vec<u8>,
    /// Where the frame ends in all that its worker was sent.
    end: u64,
    begun: Instant,
    /// Whether the lines of the log have its name from elsewhere.
    is_named: bool,
}

/// A worker of the port.
#[derive(Debug)]
pub(super) struct Hand {
    shared: Arc<Shared>,
    /// What is too large for a frame; one worker after the other has it open.
    content: Content,
    process: Option<Process>,
    /// Of a process that has ended.
    keeper: Option<Keeper>,
    /// Had its last file, and when.
    retiring: Option<(Process, Instant)>,
    /// In the order in which they were sent.
    open: VecDeque<Open>,
    /// Starts until a worker that ends before its hello stops the program.
    starts_left: u32,
    is_late: bool,
    next_id: u64,
    /// For all files that are in hand at a stop.
    end: End,
}

impl Hand {
    /// Starts the worker, and waits for its hello.
    pub(super) fn start(shared: Arc<Shared>) -> Result<Self, ProcessingError> {
        let (process, keeper, retiring, open) = Default::default();
        // nothing has been read yet, and somebody looks: one that ends at once is no accident
        let (starts_left, is_late, next_id) = (1, false, 1);
        let end = End::new(shared.settings.shutdown_timeout);
        let content = Content::make().map_err(ProcessingError::stop)?;
        let mut hand = Self { shared, content, process, keeper, retiring, open, starts_left, is_late, next_id, end };
        hand.ready(&|| false)?;
        Ok(hand)
    }

    /// Sees to it that there is a worker that has said hello.
    fn ready(&mut self, is_stopping: IsStopping<'_>) -> Result<(), ProcessingError> {
        loop {
            let Some(process) = &mut self.process else {
                match self.shared.begin(self.keeper.take(), &self.content) {
                    Ok(process) => self.process = Some(process),
                    Err(gone) => self.failed_start(&gone, &Excerpt::default())?,
                }
                continue;
            };
            let is_greeted = process.hello.is_some();
            let gone = match process.step(if is_greeted { Duration::ZERO } else { LOOK_EVERY }) {
                Ok(None) if is_greeted => return Ok(()),
                Ok(None) => {
                    self.wait_for_hello(is_stopping)?;
                    continue;
                }
                Ok(Some(Frame::Hello(hello))) if !is_greeted => return self.greeted(hello),
                Ok(Some(_)) => process.end_for(Gone::Nonsense("it has answered where it had no file".to_owned())),
                Err(gone) => gone,
            };
            let stderr = self.take_leave(&gone, None);
            if is_greeted {
                self.tell_end(&gone, &stderr);
            } else {
                self.failed_start(&gone, &stderr)?;
            }
        }
    }

    fn greeted(&mut self, hello: Hello) -> Result<(), ProcessingError> {
        if hello.version != VERSION {
            return Err(ProcessingError::stop(format_args!(
                "the worker speaks version {} of the protocol, and this datamill speaks version {VERSION}: docs/workers.md \
                 has it",
                hello.version
            )));
        }
        tracing::debug!(program = hello.program, "a worker has said hello");
        (self.starts_left, self.is_late) = (STARTS, false);
        if let Some(process) = &mut self.process {
            process.hello = Some(hello);
        }
        Ok(())
    }

    fn wait_for_hello(&mut self, is_stopping: IsStopping<'_>) -> Result<(), ProcessingError> {
        if is_stopping() {
            return Err(stopped("worker"));
        }
        let since = self.process.as_ref().map_or(Duration::ZERO, |process| process.started.elapsed());
        if since > HELLO_WITHIN {
            return Err(ProcessingError::stop(format_args!(
                "the worker has not said hello within {} s: docs/workers.md says what a worker does",
                HELLO_WITHIN.as_secs()
            )));
        }
        if since > HELLO_IS_LATE && !self.is_late {
            self.is_late = true;
            tracing::warn!(
                "the worker has not said hello yet; a program that does not speak the protocol in docs/workers.md never does"
            );
        }
        Ok(())
    }

    /// A worker has ended before its hello. An error where no other one is to be started.
    fn failed_start(&mut self, gone: &Gone, stderr: &Excerpt) -> Result<(), ProcessingError> {
        let error = gone.before_hello(stderr, self.limits(None));
        if error.kind() != ErrorKind::FileFailed {
            return Err(error);
        }
        self.starts_left -= 1;
        if self.starts_left == 0 {
            self.starts_left = 1;
            return Err(ProcessingError::stop(error));
        }
        tracing::warn!(error = %error, "starting the worker again");
        Ok(())
    }

    /// The process is gone. What it has printed goes to the log; answers what it said on stderr.
    fn take_leave(&mut self, gone: &Gone, open: Option<&Open>) -> Excerpt {
        let Some(process) = self.process.take() else { return Excerpt::default() };
        let stderr = tell(&process, open);
        self.keeper = if gone.leaves_keeper() { process.into_keeper() } else { None };
        stderr
    }

    /// The worker has ended, and that is no file's fault.
    fn tell_end(&self, gone: &Gone, stderr: &Excerpt) {
        if gone.is_in_order() {
            tracing::debug!("the worker ended between two files; starting it again");
        } else {
            let reason = gone.reason(stderr, self.limits(None));
            tracing::warn!(error = reason, "the worker ended while it worked on no file; starting it again");
        }
    }

    fn limits(&self, time: Option<Duration>) -> Limits {
        Limits { time, memory: self.shared.settings.memory }
    }

    /// Hands a file to the worker. The first one of several waits until there is a worker.
    fn open(
        &mut self,
        place: usize,
        file: &DownloadDataFile,
        call: &Call<'_>,
        is_named: bool,
    ) -> Result<(), ProcessingError> {
        if self.open.is_empty() {
            self.look_after_retiring();
            self.ready(&|| call.is_stopping())?;
        }
        let is_first = self.open.is_empty();
        let Some(process) = &mut self.process else { return Err(ProcessingError::file_failed("there is no worker")) };
        let wanted = process.hello.as_ref().map(|hello| hello.content).unwrap_or_default();
        let (content_at, content) = content::place(file, call, wanted, is_first.then_some(&mut self.content))?;
        let id = self.next_id;
        let frame = frames::file(&header(id, file, call, content_at), content).map_err(ProcessingError::from)?;
        let end = process.send(&frame);
        call.begin();
        let open = Open { place, id, file: file.relative_path().into(), frame, end, begun: Instant::now(), is_named };
        self.open.push_back(open);
        self.next_id += 1;
        Ok(())
    }

    /// Waits for answers; at least one comes.
    fn answers_within(&mut self, mut deadline: Option<Instant>, is_stopping: IsStopping<'_>) -> Vec<(usize, Answer)> {
        loop {
            let Some(process) = &mut self.process else {
                return self.answer_all(|| ProcessingError::file_failed("there is no worker"));
            };
            let gone = if let Some(over) = self.end.look(deadline, is_stopping()) {
                let gone = process.end().map_or_else(Gone::Lost, Gone::Ended);
                if over == Over::Stop {
                    self.take_leave(&gone, None);
                    return self.answer_all(|| stopped("worker"));
                }
                gone
            } else {
                let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
                match process.step(left.map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY))) {
                    Ok(None) => continue,
                    Ok(Some(frame)) => match self.answered(frame) {
                        Ok(answers) => return answers,
                        Err(gone) => gone,
                    },
                    Err(gone) => gone,
                }
            };
            let answers = self.died(&gone, deadline, is_stopping);
            if !answers.is_empty() {
                return answers;
            }
            // the file is with another worker, and its time begins again
            if let (Some(at), Some(open)) = (&mut deadline, self.open.front_mut()) {
                let now = Instant::now();
                *at += now.saturating_duration_since(open.begun);
                open.begun = now;
            }
        }
    }

    /// Takes this answer, and those that came with it.
    fn answered(&mut self, frame: Frame) -> Result<Vec<(usize, Answer)>, Gone> {
        let (mut answers, mut next) = (Vec::new(), Some(frame));
        while let (Some(frame), Some(process)) = (next, &mut self.process) {
            let open = match frame {
                Frame::Answer(Answered { id, answer, warning }) if self.open.front().is_some_and(|o| o.id == id) => {
                    process.files_done += 1;
                    self.open.pop_front().map(|open| (open, answer, warning))
                }
                _ => None,
            };
            let Some((open, answer, warning)) = open else {
                let why = "it has answered another file than the first one that has no answer";
                let gone = process.end_for(Gone::Nonsense(why.to_owned()));
                // what came before is an answer all the same
                if answers.is_empty() {
                    return Err(gone);
                }
                self.take_leave(&gone, None);
                answers.extend(self.after_death(&|| false));
                return Ok(answers);
            };
            tell(process, Some(&open));
            if let Some(warning) = warning {
                tracing::warn!(file = open.is_named.then_some(&*open.file), "{warning}");
            }
            if self.open.is_empty() {
                self.content.clear();
            }
            answers.push((open.place, answer));
            next = process.buffered();
        }
        Ok(answers)
    }

    /// Whether a worker that is gone had done all that it had begun: then no file pays for its end.
    ///
    /// What it has read may lie in a buffer of its own, so one that ends in order is believed. A worker has to answer a
    /// file first; one that ends at once, always, costs attempts.
    fn ended_between_files(&self, gone: &Gone, next: &Open) -> bool {
        let Some(process) = self.process.as_ref().filter(|process| process.files_done > 0) else { return false };
        gone.is_in_order() || gone.is_by_itself() && process.taken().is_some_and(|taken| taken < next.end)
    }

    /// The worker is gone. The file that it worked on is answered, if it did; another worker is started, and gets the others.
    fn died(&mut self, gone: &Gone, deadline: Option<Instant>, is_stopping: IsStopping<'_>) -> Vec<(usize, Answer)> {
        let Some(open) = self.open.pop_front() else { return Vec::new() };
        let is_between = self.ended_between_files(gone, &open);
        let stderr = self.take_leave(gone, (!is_between).then_some(&open));
        let is_signal = matches!(gone, Gone::Ended(How::Signal(SIGHUP | SIGINT | SIGTERM)));
        if is_signal && is_stopping_soon(is_stopping) {
            self.open.push_front(open);
            return self.answer_all(|| stopped("worker"));
        }
        if is_between {
            self.tell_end(gone, &stderr);
            self.open.push_front(open);
            return self.after_death(is_stopping);
        }
        let time = deadline.map(|at| rounded(at.saturating_duration_since(open.begun)));
        let reason = gone.reason(&stderr, self.limits(time));
        let mut answers = vec![(open.place, Err(ProcessingError::file_failed(reason)))];
        answers.extend(self.after_death(is_stopping));
        answers
    }

    /// Starts another worker at once, and hands it what is open. Answers what cannot be handed to it.
    fn after_death(&mut self, is_stopping: IsStopping<'_>) -> Vec<(usize, Answer)> {
        if is_stopping() {
            return self.answer_all(|| stopped("worker"));
        }
        // one that cannot be started is told of with the next file
        self.process = self.shared.begin(self.keeper.take(), &self.content).ok();
        if self.open.is_empty() {
            return Vec::new();
        }
        match (self.ready(is_stopping), &mut self.process) {
            (Ok(()), Some(process)) => {
                self.open.iter_mut().for_each(|open| open.end = process.send(&open.frame));
                Vec::new()
            }
            (Err(error), _) => {
                let (kind, text) = (error.kind(), error.to_string());
                self.answer_all(|| of_kind(kind, &text))
            }
            (Ok(()), None) => self.answer_all(|| ProcessingError::file_failed("there is no worker")),
        }
    }

    fn answer_all(&mut self, error: impl Fn() -> ProcessingError) -> Vec<(usize, Answer)> {
        self.open.drain(..).map(|open| (open.place, Err(error()))).collect()
    }

    /// Starts another worker where this one had as many files as it gets.
    fn retire(&mut self) {
        let is_enough = |process: &Process| {
            self.shared.settings.restart_after.is_some_and(|files| process.files_done >= files.get())
        };
        let Some(mut process) = self.process.take_if(|process| is_enough(process)) else { return };
        process.let_end();
        match process.has_ended(RETIRES_AT_ONCE) {
            Ok(true) => {
                tell(&process, None);
                self.keeper = process.into_keeper();
            }
            Ok(false) => {
                if let Some((mut older, _)) = self.retiring.replace((process, Instant::now())) {
                    end_now(&mut older);
                }
            }
            Err(_) => {}
        }
        self.process = self.shared.begin(self.keeper.take(), &self.content).ok();
    }

    fn look_after_retiring(&mut self) {
        let Some((mut process, since)) = self.retiring.take() else { return };
        match process.has_ended(Duration::ZERO) {
            Ok(false) if since.elapsed() < RETIRES_WITHIN => self.retiring = Some((process, since)),
            Ok(false) => {
                tracing::warn!(
                    "a worker that had its last file did not end within {} s and was ended",
                    RETIRES_WITHIN.as_secs()
                );
                end_now(&mut process);
            }
            Ok(true) => {
                tell(&process, None);
                self.keeper = process.into_keeper();
            }
            Err(_) => {}
        }
    }
}

impl Worker for Hand {
    fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Answer {
        self.open(0, file, call, false)?;
        let is_stopping = || call.is_stopping();
        let answer = self.answers_within(call.deadline(), &is_stopping).pop();
        if !call.is_stopping() {
            self.retire();
        }
        answer.map_or_else(|| Err(ProcessingError::file_failed("there is no answer")), |(_, answer)| answer)
    }

    fn several(&mut self) -> Option<&mut dyn Several> {
        Some(self)
    }

    fn stop(mut self: Box<Self>) {
        let until = Instant::now() + self.shared.settings.shutdown_timeout;
        let retiring = self.retiring.take().map(|(process, _)| process);
        let mut processes: Vec<Process> = self.process.take().into_iter().chain(retiring).collect();
        processes.iter_mut().for_each(Process::let_end);
        for mut process in processes {
            let left = until.saturating_duration_since(Instant::now());
            if matches!(process.has_ended(left), Ok(false)) {
                tracing::warn!("a worker did not end within --shutdown_timeout and was ended");
                end_now(&mut process);
            }
            tell(&process, None);
        }
    }
}

impl Several for Hand {
    fn begin(&mut self, place: usize, file: &DownloadDataFile, call: &Call<'_>) -> Result<(), ProcessingError> {
        self.open(place, file, call, true)
    }

    fn answers(&mut self, together: &dyn Together) -> Vec<(usize, Answer)> {
        self.answers_within(None, &|| together.is_stopping())
    }
}

/// What it has printed goes to the log, with the name of the file. Answers what it said on stderr.
fn tell(process: &Process, open: Option<&Open>) -> Excerpt {
    let [stdout, stderr] = process.excerpts();
    if stdout != Excerpt::default() || stderr != Excerpt::default() {
        let named = open.filter(|open| open.is_named);
        let _span = named.map(|open| tracing::error_span!("work", file = &*open.file).entered());
        stdout.tell("stdout");
        stderr.tell("stderr");
    }
    stderr
}

/// Whatever becomes of it: the keeper ends it at the latest when it ends itself.
fn end_now(process: &mut Process) {
    if let Err(lost) = process.end() {
        tracing::warn!(error = %lost, "a worker has no known end");
    }
}

fn header<'f>(id: u64, file: &'f DownloadDataFile, call: &Call<'_>, place: Place) -> FileHeader<'f> {
    let first = file.spans().first();
    let since = |time: std::time::SystemTime| time.duration_since(std::time::UNIX_EPOCH).ok();
    FileHeader {
        r#type: "file",
        id,
        relative_path: file.relative_path(),
        filename: file.filename(),
        subdirectory: file.subdirectory(),
        sha512: hex(file.sha512()),
        size: file.size(),
        modified: file.modified().and_then(since).map(|since| since.as_secs_f64()),
        chunks: file.n_chunks(),
        topic: file.topic(),
        partition: first.map(|span| span.partition),
        offset: first.map(|span| span.first),
        attempt: call.attempt(),
        is_last_attempt: call.is_last_attempt(),
        place,
    }
}

/// The limit of a call, as it was given: to the hundredth of a second.
fn rounded(time: Duration) -> Duration {
    Duration::from_secs_f64((time.as_secs_f64() * 100.0).round() / 100.0)
}

fn of_kind(kind: ErrorKind, text: &str) -> ProcessingError {
    match kind {
        ErrorKind::FileFailed => ProcessingError::file_failed(text),
        ErrorKind::NotAvailable => ProcessingError::not_available(text),
        ErrorKind::Stop => ProcessingError::stop(text),
    }
}
