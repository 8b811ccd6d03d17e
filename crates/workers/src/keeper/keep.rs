//! The keeper's own process: takes requests on stdin, runs one command or worker at a time, answers on stdout.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use datamill::report::chain;
use datamill::report::logging::say;
use rustix::process::{Pid, WaitStatus, getpid, set_child_subreaper, setsid};
use signal_hook::consts::{SIGABRT, SIGBUS, SIGCHLD, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP};

use super::below::{AllEnded, Memory, drain, end_all, reap};
use super::ends::{Numbers, WorkerEnds};
use super::excerpt::Excerpt;
use super::frames::{Frames, send, wait};
use super::protocol::{Answer, Ended, How, Request, Run};
use super::reading::Reading;

/// Signals that say what is wrong with the process itself, or that nobody can handle.
const NOT_HEARD: [i32; 9] = [SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGKILL, SIGSEGV, SIGSTOP, SIGSYS, SIGTRAP];
/// The last signal that has a meaning for each process.
const LAST_SIGNAL: i32 = 31;

/// How long what was killed may take to end, before datamill goes on without it.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Is a keeper until its stdin is closed. Answers the exit code.
///
/// It takes this process over: what it has open beside stdin, stdout and stderr is closed, it gets a session of its own, and
/// signals no longer end it. So nothing else may run in the process; `main` returns with the answer.
pub fn keep() -> u8 {
    keep_until_the_end(|| Ok(()), None)
}

/// As [`keep`], for workers that are forked from this process and not started anew: an interpreter whose code is loaded
/// already. `prepare` loads it, once. `fork` makes a worker. It gets the descriptors for the worker's input, output, content,
/// stdout and stderr, and what its environment has besides; it answers the id of the process.
pub fn keep_warm(
    prepare: impl FnOnce() -> io::Result<()>,
    fork: impl FnMut([i32; 5], &[(String, OsString)]) -> io::Result<i32>,
) -> u8 {
    keep_until_the_end(prepare, Some(Box::new(fork)))
}

type Fork<'f> = dyn FnMut([i32; 5], &[(String, OsString)]) -> io::Result<i32> + 'f;

fn keep_until_the_end(prepare: impl FnOnce() -> io::Result<()>, fork: Option<Box<Fork<'_>>>) -> u8 {
    let kept = Keeping::begin(fork).and_then(|mut keeping| {
        let kept = prepare().and_then(|()| keeping.go_on());
        // whatever came between: nothing stays
        end_all(&keeping.ended, None, |_, _| {}).and(kept)
    });
    match kept {
        Ok(()) => 0,
        // nobody hears the answers any more
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            say(format_args!("error: the keeper of a command cannot go on: {error}"));
            1
        }
    }
}

struct Keeping<'f> {
    requests: Frames<BorrowedFd<'static>>,
    /// What came along with requests and was not taken.
    passed: Vec<OwnedFd>,
    numbers: Numbers,
    /// Makes workers.
    fork: Option<Box<Fork<'f>>>,
    /// Can be read when a child has ended.
    ended: UnixStream,
}

/// What was started.
struct Started {
    process: Pid,
    stdout: Option<ChildStdout>,
    stderr: Option<ChildStderr>,
}

impl From<Child> for Started {
    fn from(mut child: Child) -> Self {
        Self { process: Pid::from_child(&child), stdout: child.stdout.take(), stderr: child.stderr.take() }
    }
}

impl<'f> Keeping<'f> {
    fn begin(fork: Option<Box<Fork<'f>>>) -> io::Result<Self> {
        close_inherited()?;
        let numbers = Numbers::keep()?;
        // it may have one
        let _ = setsid();
        if fork.is_none() {
            // who kills all that is called `datamill` leaves it alone, and so it ends what is below it; a fork would have
            // the name as well
            let _ = rustix::thread::set_name(c"keeper");
        }
        set_child_subreaper(Some(getpid()))?;
        let (ended, tell) = UnixStream::pair()?;
        ended.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGCHLD, tell)?;
        // A signal that is heard does not end the keeper. In a command it has its default, which it would not have if a
        // parent had told the keeper to ignore it.
        for signal in (1..=LAST_SIGNAL).filter(|signal| *signal != SIGCHLD && !NOT_HEARD.contains(signal)) {
            signal_hook::flag::register(signal, Arc::default())?;
        }
        Ok(Self { requests: Frames::new(rustix::stdio::stdin()), passed: Vec::new(), numbers, fork, ended })
    }

    fn go_on(&mut self) -> io::Result<()> {
        answer(&Answer::Ready)?;
        loop {
            match self.requests.next()? {
                Some(Request::Run(run)) => match self.run(&run)? {
                    Some(ended) => answer(&Answer::Ended(ended))?,
                    None => return Ok(()),
                },
                // what it was for has just ended
                Some(Request::End) => {}
                None => {
                    if !self.requests.receive(&mut self.passed)? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Runs a command until nothing is left of it. `None` where datamill has gone meanwhile.
    fn run(&mut self, run: &Run) -> io::Result<Option<Ended>> {
        let Started { process: command, stdout, stderr } = match self.spawn(run) {
            Ok(started) => started,
            Err(error) => return Ok(Some(Ended::not_started(&run.program, &error))),
        };
        let mut stdout: Option<Reading<ChildStdout>> = stdout.map(Reading::new).transpose()?;
        let mut stderr: Option<Reading<ChildStderr>> = stderr.map(Reading::new).transpose()?;
        let mut memory = run.memory.map(Memory::new);
        let mut status = None;
        let mut seen = |process, found: WaitStatus| {
            if process == command {
                status = Some(found);
            }
        };
        let (mut by_keeper, mut is_gone) = (None, false);
        loop {
            let time = memory.as_ref().map(Memory::time);
            let pipes: [Option<&dyn AsFd>; 4] = [
                Some(&self.ended),
                Some(self.requests.pipe()),
                stdout.as_ref().filter(|stdout| stdout.is_open).map(|stdout| &stdout.from as &dyn AsFd),
                stderr.as_ref().filter(|stderr| stderr.is_open).map(|stderr| &stderr.from as &dyn AsFd),
            ];
            let [has_ended, is_asked, has_printed, has_complained] = wait(pipes, time)?;
            stdout.iter_mut().filter(|_| has_printed).for_each(Reading::read);
            stderr.iter_mut().filter(|_| has_complained).for_each(Reading::read);
            if is_asked {
                is_gone = !self.requests.receive(&mut self.passed)?;
                if is_gone || self.requests.next::<Request>()?.is_some() {
                    by_keeper = Some(How::Told);
                }
            }
            if let Some(peak) = memory.as_mut().and_then(Memory::look) {
                by_keeper = Some(How::Memory { peak });
            }
            if has_ended {
                drain(&self.ended);
                let mut is_over = false;
                reap(&mut |process, found| {
                    is_over |= process == command;
                    seen(process, found);
                })?;
                if is_over {
                    // it was faster
                    by_keeper = None;
                    break;
                }
            }
            if by_keeper.is_some() {
                break;
            }
        }
        let AllEnded { killed, is_stuck } = end_all(&self.ended, Some(ENDS_WITHIN), &mut seen)?;
        if is_gone {
            return Ok(None);
        }
        let how = by_keeper.or(status.and_then(how)).unwrap_or(How::Told);
        // all that has written has ended
        let stdout = stdout.as_mut().map(Reading::excerpt).unwrap_or_default();
        let stderr = stderr.as_mut().map(Reading::excerpt).unwrap_or_default();
        Ok(Some(Ended { how, stdout, stderr, left: killed, is_stuck }))
    }

    fn spawn(&mut self, run: &Run) -> io::Result<Started> {
        if !run.stays {
            return Ok(command(run)?.spawn()?.into());
        }
        let ends = WorkerEnds::taken(&mut self.passed)?;
        if let Some(fork) = &mut self.fork {
            let process = fork(ends.passed().map(|descriptor| descriptor.as_raw_fd()), &run.environment)?;
            let process = Pid::from_raw(process).ok_or_else(|| io::Error::other("no process was forked"))?;
            return Ok(Started { process, stdout: None, stderr: None });
        }
        let mut command = command(run)?;
        command.stdout(ends.stdout).stderr(ends.stderr);
        Ok(self.numbers.lend([ends.input, ends.output, ends.content], || command.spawn())?.into())
    }
}

impl Ended {
    pub(crate) fn not_started(program: &OsStr, error: &io::Error) -> Self {
        let how = How::NotStarted(error.raw_os_error(), format!("`{}`: {}", program.display(), chain(error)));
        Self { how, stdout: Excerpt::default(), stderr: Excerpt::default(), left: 0, is_stuck: false }
    }
}

fn how(status: WaitStatus) -> Option<How> {
    status.exit_status().map(How::Exit).or(status.terminating_signal().map(How::Signal))
}

/// What the process that starts a keeper has open may be in the keeper as well: files and sockets of libraries that do not
/// mark them, and those that datamill was started with. Nothing in this process has anything open yet.
fn close_inherited() -> io::Result<()> {
    let open = fs::read_dir("/proc/self/fd")?;
    let open: Vec<i32> = open.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // the one that has read the folder is closed already
        let _ = nix::unistd::close(descriptor);
    }
    Ok(())
}

fn answer(answer: &Answer) -> io::Result<()> {
    // not through the buffer of the standard library: frames end with no line
    send(&mut File::from(rustix::stdio::stdout().try_clone_to_owned()?), answer)
}

fn command(run: &Run) -> io::Result<Command> {
    let mut command = Command::new(&run.program);
    command.args(&run.words).envs(run.environment.iter().map(|(name, value)| (name, value)));
    command.process_group(0);
    command.stdin(match &run.stdin {
        Some(path) => File::open(path)?.into(),
        None => Stdio::null(),
    });
    command.stdout(match &run.stdout {
        Some(path) => File::create(path)?.into(),
        None => Stdio::piped(),
    });
    command.stderr(Stdio::piped());
    Ok(command)
}
