//! What a user asks for, and how a keeper is started.

use std::ffi::{OsStr, OsString};
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use datamill::process::UserCode;

use crate::CommandError;

/// The first word of a command line that makes a process a keeper, see [`keep`](crate::keep).
pub const KEEPER: &str = "__keep";

/// The executable of the process that asks.
pub(crate) const THIS_PROGRAM: &str = "/proc/self/exe";

/// A command that runs for each file, or a worker that stays.
#[derive(Debug, Clone)]
pub struct CommandSettings {
    /// The program and its arguments, with placeholders.
    pub words: Vec<OsString>,
    /// The command reads the file from its stdin.
    pub stdin: bool,
    /// The result is what the command writes to its stdout.
    pub stdout: bool,
    /// The program is started once for each thread, and gets one file after the other, as `docs/workers.md` says.
    pub worker: bool,
    /// A worker that stays is started again after so many files.
    pub restart_after: Option<NonZeroU64>,
    /// Whether there are results.
    pub results: Results,
    /// Resident memory of the command with all that it starts, in bytes.
    pub memory: Option<u64>,
    /// Address space of each process, in bytes.
    pub address_space: Option<u64>,
    /// How long a stop waits for the command that runs.
    pub shutdown_timeout: Duration,
    /// How a keeper is started.
    pub keeper: KeeperStart,
}

/// Whether files have results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Results {
    /// None has one, as in `datamill process`.
    None,
    /// Each has one, as in `datamill reproduce`: a command that writes none has failed.
    Each,
    /// Those have one whose command writes it, as in `datamill try`.
    Some,
}

/// The command line that starts a keeper.
#[derive(Debug, Clone)]
pub struct KeeperStart {
    /// The program.
    pub program: OsString,
    /// Its arguments.
    pub words: Vec<OsString>,
}

impl KeeperStart {
    /// This program again, with the word [`KEEPER`], also where another file has taken the place of its executable.
    pub fn this_program() -> Self {
        Self { program: THIS_PROGRAM.into(), words: vec![KEEPER.into()] }
    }
}

impl CommandSettings {
    /// Looks for the program, and checks the words. Answers the name that the program has in datamill, and the code for
    /// the engine.
    ///
    /// # Errors
    /// A program that is not there or cannot be started, words that do not fit.
    #[cfg(target_os = "linux")]
    pub fn into_user_code(self) -> Result<(String, UserCode), CommandError> {
        if self.worker {
            let workers = crate::worker::Stays::new(self)?;
            return Ok((workers.name().to_owned(), UserCode::new(workers)));
        }
        let commands = crate::command::Commands::new(self)?;
        Ok((commands.name().to_owned(), UserCode::new(commands)))
    }

    /// This system has no keeper.
    ///
    /// # Errors
    /// Always.
    #[cfg(not(target_os = "linux"))]
    pub fn into_user_code(self) -> Result<(String, UserCode), CommandError> {
        Err(CommandError::NotHere)
    }
}

/// The absolute path of the program that a word names, as a shell finds it.
///
/// # Errors
/// There is none, or it cannot be started.
#[cfg(target_os = "linux")]
pub fn find_program(word: &OsStr) -> Result<PathBuf, CommandError> {
    crate::find::program(word)
}

/// This system has no programs of this kind.
///
/// # Errors
/// Always.
#[cfg(not(target_os = "linux"))]
pub fn find_program(_: &OsStr) -> Result<PathBuf, CommandError> {
    Err(CommandError::NotHere)
}
