//! The command `datamill`: data files to a log, and a look at what is in it.
//!
//! Data goes to stdout, everything else to stderr. Exit codes are those of
//! [`datamill::program::Exit`].

mod commands;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use datamill::program::{Exit, accept_dashes};

use commands::{demo, read, topic, upload, watch};

/// Data files to a log, and a look at what is in it
///
/// The log is Apache Kafka or a file on this machine: `bootstrap.servers` in the configuration file
/// chooses. Without a configuration it is the file `datamill.db` in this folder.
#[derive(Debug, Parser)]
#[command(name = "datamill", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Upload(upload::UploadArgs),
    Watch(watch::WatchArgs),
    Read(read::ReadArgs),
    Topic(topic::TopicArgs),
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
        Command::Read(args) => read::run(&args),
        Command::Topic(args) => topic::run(&args),
        Command::Demo(args) => demo::run(&args),
    };
    match ended {
        Ok(exit) => exit.into(),
        Err(error) => {
            eprintln!("error: {error:#}");
            Exit::SetUp.into()
        }
    }
}
