//! Commands as code of the engine: a worker of the port with its keeper.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use datamill::assemble::DownloadDataFile;
use datamill::process::{
    Access, Call, Clock, Needs, ProcessingError, ReproducerMessage, ThreadBody, Worker, WorkerThread, Workers,
    spawn_thread,
};
use datamill::report::chain;
use datamill::report::text::{bytes, counted_with};
use datamill::wire::hex;
use rustix::process::{Resource, getrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::keeper::{Ended, Excerpt, How, Keeper, Run};
use crate::outcome::{Limits, result, verdict};
use crate::words::{Name, Values, Word, environment, mistaken};
use crate::{CommandError, CommandSettings, find};

/// A shell that limits the address space of what takes its place. What it is given are words, and none of them is code.
const SHELL: &str = "/bin/sh";
const LIMITED: &str = "ulimit -v \"$0\" && exec \"$@\"";

/// How often a keeper is started where it ends at once: somebody may have killed it.
const STARTS: usize = 3;

/// A signal that ends a service reaches its commands as well, and they may be faster.
const STOP_IS_KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// A command for each file: what all workers share.
#[derive(Debug, Clone)]
pub(crate) struct Commands(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: CommandSettings,
    name: String,
    program: PathBuf,
    arguments: Vec<Word>,
    /// It was said that commands leave processes.
    said_left: AtomicBool,
}

impl Commands {
    pub(crate) fn new(settings: CommandSettings) -> Result<Self, CommandError> {
        let (first, arguments) = settings.words.split_first().ok_or_else(|| CommandError::NotOnPath(String::new()))?;
        let arguments: Vec<Word> = arguments.iter().map(|word| Word::parse(word)).collect();
        if arguments.iter().flat_map(Word::names).any(|name| name == Name::Result) {
            match (settings.has_results, settings.stdout) {
                (false, _) => return Err(CommandError::NoResults),
                (true, true) => return Err(CommandError::TwoResults),
                (true, false) => {}
            }
        }
        find::refuse_names_in_code(&settings.words)?;
        let program = find::program(first)?;
        if let (Some(wanted), Some(limit)) = (settings.address_space, getrlimit(Resource::As).maximum)
            && wanted > limit
        {
            return Err(CommandError::AddressSpace { wanted, limit });
        }
        let name = find::name(&settings.words);
        Ok(Self(Arc::new(Shared { settings, name, program, arguments, said_left: AtomicBool::new(false) })))
    }

    /// What datamill calls the command.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }
}

impl Workers for Commands {
    fn needs(&self) -> Needs {
        for (written, meant) in mistaken(&self.0.settings.words) {
            tracing::warn!("`{written}` is no placeholder and stays as it is; `{meant}` is one");
        }
        Needs::new(Access::Path, Clock::AtOnce).ends_overdue_calls()
    }

    fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<Box<dyn WorkerThread>> {
        spawn_thread(name, body)
    }

    fn start(&self) -> Result<Box<dyn Worker>, ProcessingError> {
        let keeper = self.0.start_keeper().map_err(ProcessingError::stop)?;
        Ok(Box::new(CommandWorker { shared: Arc::clone(&self.0), keeper: Some(keeper) }))
    }
}

impl Shared {
    fn start_keeper(&self) -> Result<Keeper, String> {
        let start = &self.settings.keeper;
        let tries = (1..STARTS).map(|_| Keeper::start(start)).find_map(Result::ok);
        tries.map_or_else(|| Keeper::start(start), Ok).map_err(|error| {
            let program = start.program.display();
            format!("the process that looks after commands (`{program}`) cannot be started: {}", chain(&error))
        })
    }

    fn request(&self, values: &Values, path: &Path, result: Option<&Path>) -> Run {
        let words = self.arguments.iter().map(|word| word.filled(values));
        let (program, words) = match self.settings.address_space {
            None => (self.program.clone().into_os_string(), words.collect()),
            Some(limit) => {
                let limit = (limit >> 10).max(1).to_string();
                let shell = ["-c".into(), LIMITED.into(), limit.into(), self.program.clone().into_os_string()];
                (SHELL.into(), shell.into_iter().chain(words).collect())
            }
        };
        Run {
            program,
            words,
            environment: environment(values),
            stdin: self.settings.stdin.then(|| path.as_os_str().to_owned()),
            stdout: result.filter(|_| self.settings.stdout).map(|result| result.as_os_str().to_owned()),
            memory: self.settings.memory,
        }
    }

    /// What the command has printed goes to the log. The span around the call has the name of the file.
    fn tell(&self, ended: &Ended) {
        tell_stream("stdout", &ended.stdout);
        tell_stream("stderr", &ended.stderr);
        if ended.left > 0 && matches!(ended.how, How::Exit(_)) && !self.said_left.swap(true, Relaxed) {
            let were = counted_with(ended.left as u64, "process that the command had", "was", "were");
            tracing::warn!(
                processes = ended.left,
                "what a command leaves running is ended with it; here {were} started and not waited for. This is said once"
            );
        }
    }
}

fn tell_stream(stream: &'static str, printed: &Excerpt) {
    printed.begin.lines().for_each(|line| tracing::info!(stream, "{line}"));
    if printed.omitted > 0 {
        tracing::info!(stream, "… {} left out …", bytes(printed.omitted));
    }
    printed.end.lines().for_each(|line| tracing::info!(stream, "{line}"));
}

/// A worker, with its keeper unless that is gone.
#[derive(Debug)]
struct CommandWorker {
    shared: Arc<Shared>,
    keeper: Option<Keeper>,
}

/// Why a command is to end before it does so by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Time,
    Stop,
}

impl Worker for CommandWorker {
    fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Result<Option<ReproducerMessage>, ProcessingError> {
        let begun = Instant::now();
        let path = call.path(file)?;
        let shared = Arc::clone(&self.shared);
        let settings = &shared.settings;
        let folder = settings.has_results.then(|| call.folder()).transpose()?;
        let expected = folder.as_ref().map(|folder| folder.path().join("result"));
        let values = values(file, call, path, expected.as_deref().filter(|_| !settings.stdout));
        let run = shared.request(&values, path, expected.as_deref());
        let (ended, over) = self.run_below_keeper(run, call)?;
        shared.tell(&ended);
        if over == Some(Over::Stop) && ended.how == How::Told {
            return Err(stopped());
        }
        if matches!(ended.how, How::Signal(SIGHUP | SIGINT | SIGTERM)) && is_stopping_soon(call) {
            return Err(stopped());
        }
        verdict(&ended, Limits { time: limit(call, begun), memory: settings.memory })?;
        expected.map(|expected| result(&expected)).transpose()
    }

    fn stop(self: Box<Self>) {}
}

impl CommandWorker {
    fn run_below_keeper(&mut self, run: Run, call: &Call<'_>) -> Result<(Ended, Option<Over>), ProcessingError> {
        let kept = self.keeper.take().and_then(|mut keeper| keeper.is_alive().then_some(keeper));
        let started = || self.shared.start_keeper().map_err(ProcessingError::not_available);
        let mut keeper = kept.map_or_else(started, Ok)?;
        let (deadline, mut stops_at, mut over) = (call.deadline(), None, None);
        let is_over = || {
            let now = Instant::now();
            if call.is_stopping() {
                stops_at.get_or_insert(now + self.shared.settings.shutdown_timeout);
            }
            if stops_at.is_some_and(|at| now >= at) {
                over = Some(Over::Stop);
            } else if deadline.is_some_and(|at| now >= at) {
                over = Some(Over::Time);
            }
            over.is_some()
        };
        match keeper.run(run, deadline, is_over) {
            Ok(ended) => {
                if ended.is_stuck {
                    tracing::warn!(
                        "what a command has started does not end though it was killed: it waits for a disk that does not \
                         answer, or belongs to another user; going on without it"
                    );
                    keeper.leave();
                } else {
                    self.keeper = Some(keeper);
                }
                Ok((ended, over))
            }
            // the next file has another keeper
            Err(lost) => Err(ProcessingError::file_failed(format_args!("the command has no known end: {lost}"))),
        }
    }
}

fn values(file: &DownloadDataFile, call: &Call<'_>, path: &Path, result: Option<&Path>) -> Values {
    let mut values: Values = vec![
        (Name::Path, path.into()),
        (Name::RelativePath, file.relative_path().into()),
        (Name::Filename, file.filename().into()),
        (Name::Subdirectory, file.subdirectory().into()),
        (Name::Sha512, hex(file.sha512()).into()),
        (Name::Size, file.size().to_string().into()),
        (Name::Topic, file.topic().into()),
        (Name::Attempt, call.attempt().to_string().into()),
    ];
    if let Some(first) = file.spans().first() {
        values.push((Name::Partition, first.partition.to_string().into()));
        values.push((Name::Offset, first.first.to_string().into()));
    }
    values.extend(result.map(|result| (Name::Result, OsString::from(result))));
    values
}

/// The limit of a call, as it was given: to the hundredth of a second.
fn limit(call: &Call<'_>, begun: Instant) -> Option<Duration> {
    let time = call.deadline()?.saturating_duration_since(begun).as_secs_f64();
    Some(Duration::from_secs_f64((time * 100.0).round() / 100.0))
}

/// Whether the program is asked to stop, or is so in a moment.
fn is_stopping_soon(call: &Call<'_>) -> bool {
    let since = Instant::now();
    while !call.is_stopping() && since.elapsed() < STOP_IS_KNOWN_WITHIN {
        std::thread::sleep(Duration::from_millis(20));
    }
    call.is_stopping()
}

/// The file has no outcome, and is left to the next start.
fn stopped() -> ProcessingError {
    ProcessingError::not_available("the program stops, and the command was ended")
}
