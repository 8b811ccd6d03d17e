//! `datamill reproduce … -- COMMAND` and `datamill process … -- COMMAND`: any program of a user, once for each file.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args;
use datamill::program::{ByteSize, Exit, ProcessorArgs, ProgramArgs, ReproducerArgs, run_program};
use datamill_workers::{CommandSettings, KeeperStart};

/// A command in the place of a function.
#[derive(Debug, Args)]
pub(crate) struct CommandArgs {
    /// The command reads the file from its standard input; `{path}` is there all the same
    #[arg(long, requires = "command", help_heading = "Commands")]
    stdin: bool,
    /// The program is started once for each thread, and gets one file after the other by the protocol in docs/workers.md
    #[arg(long, requires = "command", conflicts_with = "stdin", group = "stays", help_heading = "Commands")]
    worker: bool,
    /// Any program with its arguments, which runs for each file in the place of a function
    #[arg(last = true, value_name = "COMMAND", group = "apart", conflicts_with = "isolate")]
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

impl CommandArgs {
    /// The call of the command, if there is one.
    pub(crate) fn into_call(self, make: impl FnOnce(Self) -> ProgramCall) -> Option<ProgramCall> {
        (!self.command.is_empty()).then(|| make(self))
    }
}

/// A command for the files of a topic, and what the engine is to do.
#[derive(Debug)]
pub(crate) struct ProgramCall {
    command: CommandArgs,
    limits: LimitArgs,
    stdout: bool,
    topics: Topics,
}

#[derive(Debug)]
enum Topics {
    Reproduce(ReproducerArgs),
    Process(ProcessorArgs),
}

impl ProgramCall {
    pub(crate) fn reproduce(command: CommandArgs, limits: LimitArgs, stdout: bool, args: ReproducerArgs) -> Self {
        Self { command, limits, stdout, topics: Topics::Reproduce(args) }
    }

    pub(crate) fn process(command: CommandArgs, limits: LimitArgs, args: ProcessorArgs) -> Self {
        Self { command, limits, stdout: false, topics: Topics::Process(args) }
    }

    /// Runs it until the program ends.
    ///
    /// # Errors
    /// A command that cannot be used.
    pub(crate) fn run(self, keeper: KeeperStart) -> anyhow::Result<Exit> {
        match &self.topics {
            Topics::Reproduce(args) => self.run_with(args, true, keeper),
            Topics::Process(args) => self.run_with(args, false, keeper),
        }
    }

    fn run_with(&self, args: &impl ProgramArgs, has_results: bool, keeper: KeeperStart) -> anyhow::Result<Exit> {
        let CommandArgs { stdin, worker, command } = &self.command;
        let settings = CommandSettings {
            words: command.clone(),
            stdin: *stdin,
            stdout: self.stdout,
            worker: *worker,
            restart_after: self.limits.restart_after(),
            has_results,
            memory: self.limits.memory(),
            address_space: self.limits.address_space(),
            shutdown_timeout: Duration::from_secs(args.consumer().shutdown_timeout),
            keeper,
        };
        let (name, code) = settings.into_user_code()?;
        Ok(run_program(args, &name, code))
    }
}

/// At least what any program needs.
fn size(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize = text.parse().map_err(|error| format!("{error}"))?;
    if size.0 >= 1 << 20 { Ok(size) } else { Err("1M is the least, and a number without a unit is bytes".to_owned()) }
}
