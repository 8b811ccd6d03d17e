//! Workers that stay as code of the engine.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use datamill::process::{
    Access, Clock, Needs, ProcessingError, ThreadBody, Worker, WorkerThread, Workers, spawn_thread,
};

use super::content;
use super::gone::Gone;
use super::hand::Hand;
use super::process::Process;
use crate::keeper::{Keeper, Run};
use crate::words::Word;
use crate::{CommandError, CommandSettings, Results, address_space, find};

/// Small files that a worker has at once.
const TOGETHER: usize = 8;

/// A program that is started once for each thread: what all workers share.
#[derive(Debug, Clone)]
pub(crate) struct Stays(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: CommandSettings,
    name: String,
    program: PathBuf,
}

impl Stays {
    pub(crate) fn new(settings: CommandSettings) -> Result<Self, CommandError> {
        let (first, arguments) = settings.words.split_first().ok_or_else(|| CommandError::NotOnPath(String::new()))?;
        if let Some(name) = arguments.iter().find_map(|word| Word::parse(word).names().next()) {
            return Err(CommandError::FileInWorker(name.placeholder()));
        }
        let program = find::program(first)?;
        address_space::check(settings.address_space)?;
        let name = find::name(&settings.words);
        Ok(Self(Arc::new(Shared { settings, name, program })))
    }

    /// What datamill calls the program.
    pub(crate) fn name(&self) -> &str {
        &self.0.name
    }
}

impl Workers for Stays {
    fn needs(&self) -> Needs {
        // the time for a file begins when a worker is there
        let needs = Needs::new(Access::Either, Clock::WhenSaid).ends_overdue_calls();
        // with a number of files for each, no file is handed to one that had enough
        if self.0.settings.restart_after.is_some() { needs } else { needs.with_small_files_together(TOGETHER) }
    }

    fn spawn(&self, name: &str, body: ThreadBody) -> io::Result<Box<dyn WorkerThread>> {
        spawn_thread(name, body)
    }

    fn start(&self) -> Result<Box<dyn Worker>, ProcessingError> {
        Ok(Box::new(Hand::start(Arc::clone(&self.0))?))
    }
}

impl Shared {
    /// Starts a process, below this keeper or a new one.
    pub(super) fn begin(&self, keeper: Option<Keeper>, content: &content::Shared) -> Result<Process, Gone> {
        let keeper = keeper.map_or_else(|| Keeper::start(&self.settings.keeper).map_err(Gone::NoKeeper), Ok)?;
        let words = self.settings.words.iter().skip(1).cloned();
        let (program, words) = address_space::limited(&self.program, words, self.settings.address_space);
        let memory = self.settings.memory;
        let kind = if self.settings.results == Results::None { "process" } else { "reproduce" };
        let environment = vec![("DATAMILL_COMMAND".to_owned(), kind.into())];
        let run = Run { program, words, environment, stays: true, stdin: None, stdout: None, memory };
        Process::begin(keeper, run, content)
    }
}
