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
use datamill::wire::hex;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::keeper::{Ended, How, Keeper, Run};
use crate::outcome::{Limits, no_result, result, verdict};
use crate::stop::{End, Over, is_stopping_soon, stopped};
use crate::words::{Name, Values, Word, environment, mistaken};
use crate::{CommandError, CommandSettings, Results, address_space, find};

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
            match (settings.results, settings.stdout) {
                (Results::None, _) => return Err(CommandError::NoResults),
                (_, true) => return Err(CommandError::TwoResults),
                (_, false) => {}
            }
        }
        find::refuse_names_in_code(&settings.words)?;
        let program = find::program(first)?;
        address_space::check(settings.address_space)?;
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
        let keeper = Keeper::start(&self.0.settings.keeper).map_err(ProcessingError::stop)?;
        Ok(Box::new(CommandWorker { shared: Arc::clone(&self.0), keeper: Some(keeper) }))
    }
}

impl Shared {
    fn request(&self, values: &Values, path: &Path, result: Option<&Path>) -> Run {
        let words = self.arguments.iter().map(|word| word.filled(values));
        let (program, words) = address_space::limited(&self.program, words, self.settings.address_space);
        Run {
            program,
            words,
            environment: environment(values),
            stays: false,
            stdin: self.settings.stdin.then(|| path.as_os_str().to_owned()),
            stdout: result.filter(|_| self.settings.stdout).map(|result| result.as_os_str().to_owned()),
            memory: self.settings.memory,
        }
    }

    /// What the command has printed goes to the log. The span around the call has the name of the file.
    fn tell(&self, ended: &Ended) {
        ended.stdout.tell("stdout");
        ended.stderr.tell("stderr");
        if ended.left > 0 && matches!(ended.how, How::Exit(_)) && !self.said_left.swap(true, Relaxed) {
            tracing::warn!(
                processes = ended.left,
                "the command ended while {}. A command has to wait for what is to finish. This is said once",
                if ended.left == 1 {
                    "a process that it had started still ran; that was ended as well"
                } else {
                    "processes that it had started still ran; they were ended as well"
                }
            );
        }
    }
}

/// A worker, with its keeper unless that is gone.
#[derive(Debug)]
struct CommandWorker {
    shared: Arc<Shared>,
    keeper: Option<Keeper>,
}

impl Worker for CommandWorker {
    fn run(&mut self, file: &DownloadDataFile, call: &Call<'_>) -> Result<Option<ReproducerMessage>, ProcessingError> {
        let begun = Instant::now();
        let path = call.path(file)?;
        let shared = Arc::clone(&self.shared);
        let settings = &shared.settings;
        let folder = (settings.results != Results::None).then(|| call.folder()).transpose()?;
        let expected = folder.as_ref().map(|folder| folder.path().join("result"));
        let values = values(file, call, path, expected.as_deref().filter(|_| !settings.stdout));
        let run = shared.request(&values, path, expected.as_deref());
        let (ended, over) = self.run_below_keeper(run, call)?;
        shared.tell(&ended);
        if over == Some(Over::Stop) && ended.how == How::Told {
            return Err(stopped("command"));
        }
        if matches!(ended.how, How::Signal(SIGHUP | SIGINT | SIGTERM)) && is_stopping_soon(|| call.is_stopping()) {
            return Err(stopped("command"));
        }
        verdict(&ended, Limits { time: limit(call, begun), memory: settings.memory })?;
        match (expected.map(|expected| result(&expected)).transpose()?.flatten(), settings.results) {
            (None, Results::Each) => Err(no_result()),
            (result, _) => Ok(result),
        }
    }

    fn stop(self: Box<Self>) {}
}

impl CommandWorker {
    fn run_below_keeper(&mut self, run: Run, call: &Call<'_>) -> Result<(Ended, Option<Over>), ProcessingError> {
        let kept = self.keeper.take().and_then(|mut keeper| keeper.is_alive().then_some(keeper));
        let started = || Keeper::start(&self.shared.settings.keeper).map_err(ProcessingError::not_available);
        let mut keeper = kept.map_or_else(started, Ok)?;
        let (mut end, mut over) = (End::new(self.shared.settings.shutdown_timeout), None);
        let is_over = || {
            over = end.look(call.deadline(), call.is_stopping());
            over.is_some()
        };
        match keeper.run(run, call.deadline(), is_over) {
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
pub(crate) fn limit(call: &Call<'_>, begun: Instant) -> Option<Duration> {
    let time = call.deadline()?.saturating_duration_since(begun).as_secs_f64();
    Some(Duration::from_secs_f64((time * 100.0).round() / 100.0))
}
