//! `datamill reproduce … -- COMMAND` and `datamill process … -- COMMAND`: any program of a user, once for each file.

use std::ffi::OsString;
use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args;
use datamill::program::{ByteSize, Exit, ProcessorArgs, ProgramArgs, ReproducerArgs, run_program};
use datamill_workers::{CommandSettings, KeeperStart};

/// The command and its limits.
#[derive(Debug, Args)]
pub struct CommandArgs {
    /// The command reads the file from its standard input; `{path}` is there all the same
    #[arg(long, requires = "command", help_heading = "Commands")]
    stdin: bool,
    /// The program is started once for each thread, and gets one file after the other by the protocol in docs/workers.md
    #[arg(long, requires = "command", conflicts_with = "stdin", help_heading = "Commands")]
    worker: bool,
    /// Start a worker again after so many files
    #[arg(long = "worker_restart_after", value_name = "FILES", requires = "worker", help_heading = "Commands")]
    worker_restart_after: Option<NonZeroU64>,
    /// Memory that a command may have together with all that it starts, as the system counts resident memory, looked at ten
    /// times a second. One that has more is ended, and its file has failed
    #[arg(long = "worker_memory", value_name = "SIZE", requires = "command", value_parser = size, help_heading = "Commands")]
    worker_memory: Option<ByteSize>,
    /// Address space that each process of a command may have (RLIMIT_AS): more is refused to it. Programs such as Java
    /// reserve far more than they use
    #[arg(
        long = "worker_address_space", value_name = "SIZE", requires = "command", value_parser = size,
        help_heading = "Commands"
    )]
    worker_address_space: Option<ByteSize>,
    /// Any program with its arguments, which runs for each file in the place of a function
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl CommandArgs {
    /// The call of the command, if there is one.
    pub fn into_call(self, make: impl FnOnce(Self) -> ProgramCall) -> Option<ProgramCall> {
        (!self.command.is_empty()).then(|| make(self))
    }
}

/// A command for the files of a topic, and what the engine is to do.
#[derive(Debug)]
pub struct ProgramCall {
    command: CommandArgs,
    stdout: bool,
    topics: Topics,
}

#[derive(Debug)]
enum Topics {
    Reproduce(ReproducerArgs),
    Process(ProcessorArgs),
}

impl ProgramCall {
    pub fn reproduce(command: CommandArgs, stdout: bool, args: ReproducerArgs) -> Self {
        Self { command, stdout, topics: Topics::Reproduce(args) }
    }

    pub fn process(command: CommandArgs, args: ProcessorArgs) -> Self {
        Self { command, stdout: false, topics: Topics::Process(args) }
    }

    /// Runs it until the program ends.
    ///
    /// # Errors
    /// A command that cannot be used.
    pub fn run(self, keeper: KeeperStart) -> anyhow::Result<Exit> {
        match &self.topics {
            Topics::Reproduce(args) => self.run_with(args, true, keeper),
            Topics::Process(args) => self.run_with(args, false, keeper),
        }
    }

    fn run_with(&self, args: &impl ProgramArgs, has_results: bool, keeper: KeeperStart) -> anyhow::Result<Exit> {
        let CommandArgs { stdin, worker, worker_restart_after, worker_memory, worker_address_space, command } =
            &self.command;
        let settings = CommandSettings {
            words: command.clone(),
            stdin: *stdin,
            stdout: self.stdout,
            worker: *worker,
            restart_after: *worker_restart_after,
            has_results,
            memory: worker_memory.map(|size| size.0 as u64),
            address_space: worker_address_space.map(|size| size.0 as u64),
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
