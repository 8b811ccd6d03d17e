//! Why a command cannot be used.

use std::path::PathBuf;

/// What keeps a command from being run for the files of a topic. It is known before anything is read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// No program of this name.
    #[error("there is no program `{0}` in a folder of PATH: check its name, or write where it is, as `./{0}`")]
    NotOnPath(String),
    /// No file at this path.
    #[error("there is no program `{}`: check the path behind `--`", .0.display())]
    Missing(PathBuf),
    /// A folder or a device.
    #[error("`{}` is not a program but a folder or a device: check the path behind `--`", .0.display())]
    NotAFile(PathBuf),
    /// It lacks the permission.
    #[error("`{file}` may not be executed: allow it with `chmod +x {file}`", file = .0.display())]
    NotExecutable(PathBuf),
    /// A text that names no interpreter.
    #[error(
        "`{file}` is a script without a first line that says what runs it: begin it with a line such as `#!/bin/sh`, or \
         name the interpreter, as in `-- sh {file}`", file = .0.display()
    )]
    NoInterpreterLine(PathBuf),
    /// A script for something that is not here.
    #[error("the first line of `{}` names `{interpreter}`, which is not there: correct it or install that", script.display())]
    NoInterpreter {
        /// The script.
        script: PathBuf,
        /// What its first line names.
        interpreter: String,
    },
    /// A script that was saved for Windows.
    #[error("the lines of `{file}` end as on Windows, so its first line names nothing: convert it, with `sed -i 's/\\r$//' {file}`", file = .0.display())]
    WindowsLines(PathBuf),
    /// A processor has no results.
    #[error(
        "`{{result}}` means nothing in `datamill process`, which sends no results: leave it out, or use `datamill reproduce`"
    )]
    NoResults,
    /// A worker that stays gets its files in another way.
    #[error(
        "`{0}` means nothing with --worker: the program is started once, and gets one file after the other as docs/workers.md \
         says. Leave `{0}` out, or --worker"
    )]
    FileInWorker(String),
    /// Two places for one result.
    #[error("the result is either the file `{{result}}` or, with --stdout, what the command prints: use one of them")]
    TwoResults,
    /// The name of a file would be code.
    #[error(
        "`{placeholder}` would stand in code that `{program}` runs, and whoever uploads a file chooses its name: write \
         \"${variable}\" there, or what reads this environment variable"
    )]
    NameInCode {
        /// The interpreter.
        program: String,
        /// As it was written.
        placeholder: String,
        /// The variable with the same value.
        variable: String,
    },
    /// The process has less.
    #[error(
        "--worker_address_space asks for {wanted} bytes, and this process has {limit}: ask for no more, or raise its limit (`ulimit -v`)"
    )]
    AddressSpace {
        /// What was asked for.
        wanted: u64,
        /// The hard limit.
        limit: u64,
    },
    /// Another system than Linux.
    #[error(
        "commands, workers and `--isolate` need Linux: run this on a Linux machine, or use a function in Python or Rust without `--isolate`"
    )]
    NotHere,
}
