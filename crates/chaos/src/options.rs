//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, ValueEnum};

#[derive(Debug, Parser)]
#[command(name = "datamill-chaos", about = "Kills and disturbs real programs on a real log and counts the results.")]
pub enum Command {
    /// Disturb, count, and say whether each upload has exactly one outcome (exit code 1 if not). A further
    /// command, `worker`, is a reproducer with its usual options.
    Run(Options),
    /// Send the files of a folder as another program would: each chunk to the partition of its own key.
    Spread(SpreadOptions),
}

/// Options of an upload that spreads files over partitions.
#[derive(Debug, Clone, Args)]
pub struct SpreadOptions {
    /// The folder
    pub root: PathBuf,
    /// Configuration file
    #[arg(long)]
    pub config: String,
}

/// How the group knows its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Membership {
    Static,
    Dynamic,
}

/// The group's protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    Classic,
    Consumer,
}

impl Command {
    pub fn read() -> Self {
        Self::parse()
    }
}

/// What the workers do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Job {
    /// A result for each file; the function fails for some
    Reproduce,
    /// A result for each file from a command, which fails for some
    Command,
    /// A result for each file from a worker that stays, which fails for some
    Worker,
    /// All workers keep one folder like the topic, as `datamill download` does
    Download,
}

/// Options of a run. Counts are spread over the time at random.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// What the workers do, and so what is counted
    #[arg(long, value_enum, default_value_t = Job::Reproduce)]
    pub job: Job,
    /// The plan and the files follow from this number
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seconds of uploading and disturbing; finishing and counting come after that
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Members of the group
    #[arg(long, default_value_t = 3)]
    pub workers: usize,
    /// Partitions of the topic
    #[arg(long, default_value_t = 6)]
    pub partitions: i32,
    /// Uploading programs at a time
    #[arg(long, default_value_t = 3)]
    pub uploaders: usize,
    /// Milliseconds that an uploader rests between two batches of files, at most
    #[arg(long, default_value_t = 1500)]
    pub rest_ms: u64,
    /// kill -9 of a worker, which is started again within a second
    #[arg(long, default_value_t = 15)]
    pub kills: usize,
    /// kill -9 of a command or worker, or of the process that looks after it, with the jobs `command` and `worker`
    #[arg(long, default_value_t = 0)]
    pub kills_below: usize,
    /// kill -9 of the broker, which is started again within some seconds
    #[arg(long, default_value_t = 1)]
    pub broker_kills: usize,
    /// Use three brokers with three copies of each topic; each kill of a broker meets the next one
    #[arg(long, conflicts_with = "embedded")]
    pub three_brokers: bool,
    /// Workers that are lost with their host: kill -9, and nobody starts them for two sessions
    #[arg(long, default_value_t = 0)]
    pub lost: usize,
    /// Workers stopped for up to two sessions (SIGSTOP) and then resumed
    #[arg(long, default_value_t = 2)]
    pub pauses: usize,
    /// Workers that leave the group (SIGINT) and come back
    #[arg(long, default_value_t = 2)]
    pub leaves: usize,
    /// Workers that end and keep their place (SIGTERM), and come back
    #[arg(long, default_value_t = 2)]
    pub terms: usize,
    /// Further members that come for some seconds
    #[arg(long, default_value_t = 1)]
    pub joins: usize,
    /// Second processes with the identity of a worker
    #[arg(long, default_value_t = 1)]
    pub twins: usize,
    /// kill -9 of an uploader, which sends its batch again from the start
    #[arg(long, default_value_t = 1)]
    pub uploader_kills: usize,
    /// Session of the group's members in milliseconds
    #[arg(long, default_value_t = 6000)]
    pub session_ms: u64,
    /// How the group knows its members; those of the consumer protocol are dynamic
    #[arg(long, value_enum, default_value = "static")]
    pub membership: Membership,
    /// The group's protocol
    #[arg(long, value_enum, default_value = "classic")]
    pub protocol: Protocol,
    /// Spread the chunks of each file over all partitions, which one worker reads while the others stand by
    #[arg(long)]
    pub spread: bool,
    /// Milliseconds until a worker is started again, at most
    #[arg(long, default_value_t = 1000)]
    pub restart_ms: u64,
    /// Use the embedded log, with one worker; only kills of worker and uploaders, and SIGINT and SIGTERM
    #[arg(long)]
    pub embedded: bool,
    /// Take the progress text away from the committed positions halfway: the count must find doubled
    /// results
    #[arg(long)]
    pub control: bool,
    /// Keep the logs of the programs in this folder, which must not exist
    #[arg(long, value_name = "FOLDER")]
    pub keep: Option<PathBuf>,
}

impl Options {
    /// What can happen on the log that is used.
    pub fn fitting(mut self) -> Self {
        if self.embedded {
            (self.broker_kills, self.pauses, self.joins, self.twins, self.lost) = (0, 0, 0, 0, 0);
        }
        if self.embedded {
            self.workers = 1;
        }
        self
    }
}
