//! A function of a user in Python: what is asked of it, and the Python that runs it where this program is none.

mod own;
mod search;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use datamill::program::Exit;
use datamill::report::chain;
use datamill::report::logging::{say, say_error};

pub(crate) use own::parted;

/// What is done with a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It runs on local files.
    Try,
    /// It computes a result for every file of a topic.
    Reproduce,
    /// It is told of every file of a topic.
    Process,
}

impl What {
    /// The name of the subcommand.
    pub fn name(self) -> &'static str {
        match self {
            Self::Try => "try",
            Self::Reproduce => "reproduce",
            Self::Process => "process",
        }
    }
}

/// A function of a user, and what is done with it.
#[derive(Debug)]
pub struct FunctionCall {
    /// What is done.
    pub what: What,
    /// The function, `FILE.py:NAME` or `FILE.py`.
    pub function: OsString,
    /// The options, each as one word `--name=value` with the whole name.
    pub options: Vec<OsString>,
    /// The words behind the subcommand but for the function and its Python, as they were typed: a class has a command
    /// line of its own.
    pub own: Vec<OsString>,
    /// What is wrong with the words, unless the function is a class that knows them.
    pub refusal: Option<String>,
    /// The local files.
    pub files: Vec<PathBuf>,
    /// The Python that was asked for.
    pub python: Option<PathBuf>,
    /// All words behind the name of the command, as they were typed.
    pub(crate) typed: Vec<OsString>,
}

/// The module of the package that takes a command line over and runs the function in its own interpreter.
const HERE: &str = "datamill._here";

impl FunctionCall {
    /// The file of the function.
    pub(crate) fn file(&self) -> PathBuf {
        own::file_of(&self.function.to_string_lossy()).into()
    }

    /// Looks for a Python with the package and lets it do the same command. On Unix it takes the place of this process,
    /// and this returns only what went wrong; elsewhere it is waited for. Answers the exit code.
    pub fn run_elsewhere(self) -> u8 {
        match search::search(self.python.as_deref(), &self.function) {
            Ok(python) => self.run_in(&python),
            Err(error) => {
                match &self.refusal {
                    // no class was found that knows the words
                    Some(refusal) => say(refusal.trim_end()),
                    None => say_error(chain(&error)),
                }
                Exit::SetUp.code()
            }
        }
    }

    fn run_in(&self, python: &Path) -> u8 {
        let mut command = Command::new(python);
        // without the working folder among the places of modules: it may hold another `datamill`
        command.args(["-P", "-m", HERE]).args(&self.typed);
        match take_place(&mut command) {
            Ok(code) => code,
            Err(source) => {
                say_error(chain(&search::CannotStart { python: python.to_owned(), source }));
                Exit::SetUp.code()
            }
        }
    }
}

#[cfg(unix)]
fn take_place(command: &mut Command) -> std::io::Result<u8> {
    use std::os::unix::process::CommandExt;

    Err(command.exec())
}

#[cfg(not(unix))]
fn take_place(command: &mut Command) -> std::io::Result<u8> {
    let ended = command.status()?;
    Ok(ended.code().and_then(|code| code.try_into().ok()).unwrap_or(Exit::Stopped.code()))
}
