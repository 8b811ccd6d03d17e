//! `datamill reproduce … -- COMMAND`, `datamill process … -- COMMAND` and `datamill try … -- COMMAND`: any program of a user,
//! once for each file.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use datamill::program::{ByteSize, Exit, ProcessorArgs, ProgramArgs, ReproducerArgs, run_program};
use datamill_workers::{CommandSettings, KeeperStart, Results};

use super::trial::TrialCall;

/// How long a command on local files may run on at a signal, and a worker may take to end: there is nothing to go on with.
const TRIAL_ENDS_WITHIN: Duration = Duration::from_secs(5);

/// A command in the place of a function.
#[derive(Debug, Clone, Args)]
pub(crate) struct CommandArgs {
    /// The command reads the file from its standard input; `{path}` is there all the same
    #[arg(long, requires = "command", help_heading = "Commands")]
    stdin: bool,
    /// The program is started once for each thread, and gets one file after the other by the protocol in docs/workers.md
    #[arg(long, requires = "command", conflicts_with = "stdin", group = "stays", help_heading = "Commands")]
    worker: bool,
    /// Any program with its arguments, which runs for each file in the place of a function
    #[arg(last = true, value_name = "COMMAND", group = "apart")]
    command: Vec<OsString>,
}

/// A function of Python in processes of its own.
#[derive(Debug, Clone, Args)]
pub struct IsolateArgs {
    /// Call a Python function in processes of its own, one for each thread: one that crashes or hangs costs its file alone
    #[arg(long, groups = ["apart", "stays"], help_heading = "Processes")]
    pub isolate: bool,
    /// Load the code once in a clean process beside each of them, and fork them from there
    #[arg(long, requires = "isolate", conflicts_with = "worker_address_space", help_heading = "Processes")]
    pub warm: bool,
    /// The limits of these processes.
    #[command(flatten)]
    pub limits: LimitArgs,
}

/// Limits of commands and workers.
#[derive(Debug, Clone, Args)]
pub struct LimitArgs {
    /// Memory that a command or worker may have together with all that it starts, as the system counts resident memory,
    /// looked at ten times a second. One that has more is ended, and its file has failed
    #[arg(long = "worker_memory", value_name = "SIZE", requires = "apart", value_parser = size, help_heading = "Processes")]
    worker_memory: Option<ByteSize>,
    /// Address space that each process of a command or worker may have (RLIMIT_AS): more is refused to it. Programs such as
    /// Java reserve far more than they use
    #[arg(
        long = "worker_address_space", value_name = "SIZE", requires = "apart", value_parser = size,
        help_heading = "Processes"
    )]
    worker_address_space: Option<ByteSize>,
    /// Start a worker, or the process of a function, again after so many files
    #[arg(long = "worker_restart_after", value_name = "FILES", requires = "stays", help_heading = "Processes")]
    worker_restart_after: Option<NonZeroU64>,
}

impl LimitArgs {
    /// Resident memory, in bytes.
    pub fn memory(&self) -> Option<u64> {
        self.worker_memory.map(|size| size.0 as u64)
    }

    /// Address space, in bytes.
    pub fn address_space(&self) -> Option<u64> {
        self.worker_address_space.map(|size| size.0 as u64)
    }

    /// Files of one worker.
    pub fn restart_after(&self) -> Option<NonZeroU64> {
        self.worker_restart_after
    }
}

/// What a command is held to and how its result comes, beside the topics.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) command: CommandArgs,
    pub(crate) limits: LimitArgs,
    pub(crate) stdout: bool,
}

impl CommandArgs {
    /// Whether there is a command.
    pub(crate) fn is_given(&self) -> bool {
        !self.command.is_empty()
    }
}

/// A command, and what it is to run on.
#[derive(Debug)]
pub(crate) struct ProgramCall {
    held: Held,
    files: Files,
}

#[derive(Debug)]
enum Files {
    Reproduce(ReproducerArgs),
    Process(ProcessorArgs),
    Local(Vec<PathBuf>, Option<Duration>),
}

impl ProgramCall {
    pub(crate) fn reproduce(held: Held, args: ReproducerArgs) -> Self {
        Self { held, files: Files::Reproduce(args) }
    }

    pub(crate) fn process(held: Held, args: ProcessorArgs) -> Self {
        Self { held, files: Files::Process(args) }
    }

    pub(crate) fn local(held: Held, files: Vec<PathBuf>, processing_timeout: Option<Duration>) -> Self {
        Self { held, files: Files::Local(files, processing_timeout) }
    }

    /// Looks whether the command can be used.
    ///
    /// # Errors
    /// It cannot.
    pub(crate) fn check(&self, keeper: KeeperStart) -> anyhow::Result<()> {
        let results = match &self.files {
            Files::Reproduce(_) => Results::Each,
            Files::Process(_) => Results::None,
            Files::Local(..) => Results::Some,
        };
        self.held.clone().settings(results, TRIAL_ENDS_WITHIN, keeper).into_user_code()?;
        Ok(())
    }

    /// Runs it until the program ends.
    ///
    /// # Errors
    /// A command that cannot be used.
    pub(crate) fn run(self, keeper: KeeperStart) -> anyhow::Result<Exit> {
        match self.files {
            Files::Reproduce(args) => self.held.run(&args, Results::Each, keeper),
            Files::Process(args) => self.held.run(&args, Results::None, keeper),
            Files::Local(files, processing_timeout) => {
                let settings = self.held.settings(Results::Some, TRIAL_ENDS_WITHIN, keeper);
                TrialCall { settings, processing_timeout, files }.run()
            }
        }
    }
}

impl Held {
    fn run(self, args: &impl ProgramArgs, results: Results, keeper: KeeperStart) -> anyhow::Result<Exit> {
        let shutdown_timeout = Duration::from_secs(args.consumer().shutdown_timeout);
        let (name, code) = self.settings(results, shutdown_timeout, keeper).into_user_code()?;
        Ok(run_program(args, &name, code))
    }

    fn settings(self, results: Results, shutdown_timeout: Duration, keeper: KeeperStart) -> CommandSettings {
        let Self { command: CommandArgs { stdin, worker, command }, limits, stdout } = self;
        CommandSettings {
            words: command,
            stdin,
            stdout,
            worker,
            restart_after: limits.restart_after(),
            results,
            memory: limits.memory(),
            address_space: limits.address_space(),
            shutdown_timeout,
            keeper,
        }
    }
}

/// At least what any program needs.
fn size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    if size.0 >= 1 << 20 { Ok(size) } else { Err("1M is the least, and a number without a unit is bytes".to_owned()) }
}
