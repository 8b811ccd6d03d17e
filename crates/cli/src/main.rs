//! The command `datamill`: data files to a log, and a look at what is in it.
//!
//! Data goes to stdout, everything else to stderr. Exit codes are those of
//! [`datamill::program::Exit`].

mod commands;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use datamill::program::{Exit, accept_dashes};
use datamill::report::logging::say_error;

use commands::{demo, download, read, rekey, retry, topic, transfer, upload, watch};

/// Puts data files on a topic, and shows what is in topics
///
/// Topics are on Apache Kafka or in a file on this machine: `bootstrap.servers` in the configuration
/// file that --config names chooses. Without one they are in the file `datamill.db` of this folder.
#[derive(Debug, Parser)]
#[command(name = "datamill", version, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "Examples:
  datamill demo                               the whole path on sample files
  datamill upload data/ --topic_name files    put all files of a folder on a topic
  datamill watch data/ --topic_name files     put new files on it as they are finished
  datamill download mirror/ --topic_name files  rebuild the files of a topic in a folder
  datamill read metadata --exit-at-end        print what is in a topic

Exit codes: 0 done, 1 some files were not sent or there was none to send, 2 the command line or the set-up is wrong or a right is \
missing, 3 stopped while working (start it again), 130 left at once at a second signal.";

#[derive(Debug, Subcommand)]
enum Command {
    Upload(upload::UploadArgs),
    Watch(watch::WatchArgs),
    Download(download::DownloadArgs),
    Read(read::ReadArgs),
    Topic(topic::TopicArgs),
    Transfer(transfer::TransferArgs),
    S3Transfer(transfer::S3TransferArgs),
    Rekey(rekey::RekeyArgs),
    Retry(retry::RetryArgs),
    Demo(demo::DemoArgs),
}

fn main() -> ExitCode {
    let matches = accept_dashes(Cli::command()).get_matches();
    let command = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli.command,
        Err(error) => error.exit(),
    };
    let ended = match command {
        Command::Upload(args) => upload::run(&args),
        Command::Watch(args) => watch::run(&args),
        Command::Download(args) => download::run(&args),
        Command::Read(args) => read::run(&args),
        Command::Topic(args) => topic::run(&args),
        Command::Transfer(args) => transfer::run(&args),
        Command::S3Transfer(args) => transfer::run_s3(&args),
        Command::Rekey(args) => rekey::run(&args),
        Command::Retry(args) => retry::run(&args),
        Command::Demo(args) => demo::run(&args),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            say_error(error.as_ref());
            Exit::SetUp.into()
        }
    }
}
