//! Measures datamill, its peer and the floor below both on the same topics of the same broker.
//!
//! ```text
//!  workload.rs ──files──▶ upload (datamill, floor) ──topic──▶ reproduce (datamill, floor, peer)
//!                              │                                   │
//!                           child.rs: seconds, CPU seconds, memory │ visible.rs: when the last result
//!                              └──────────▶ report.rs, plot.rs ◀───┘             can be read
//! ```
//! Everything that is measured is a process of its own. The floors (`floor/`) have nothing of datamill in
//! them: that of reading is librdkafka's consumer and one SHA-512 over the values, on one thread; that of
//! sending one SHA-512 over each file and librdkafka's producer at the same size of messages.

mod child;
mod extract;
mod failures;
mod latency;
mod place;
mod plot;
mod port;
mod report;
mod restart;
mod run;
mod visible;
mod workload;

use std::process::ExitCode;

use clap::Parser;

#[derive(Debug, Parser)]
#[command(about = "Measures datamill against its floor and its peer on a real Kafka")]
enum Command {
    /// Measures, and prints a table of times and ratios
    Run(run::RunArgs),
    /// Prints and draws the figures of earlier runs together
    Show(run::ShowArgs),
    /// The reproducer that is measured: size and number of lines of each file, or its hash
    Extract(Box<extract::ExtractArgs>),
    /// Hands content in memory to workers that stay, without a topic, and prints how fast
    Port(port::PortArgs),
    /// A worker that answers with the size of each file
    Stay,
}

fn main() -> anyhow::Result<ExitCode> {
    if std::env::args_os().nth(1).is_some_and(|word| word == datamill_workers::KEEPER) {
        return Ok(datamill_workers::keep().into());
    }
    match Command::parse() {
        Command::Run(args) => run::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Show(args) => run::show(&args).map(|()| ExitCode::SUCCESS),
        Command::Extract(args) => Ok(extract::run(&args).into()),
        Command::Port(args) => port::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Stay => port::stay().map(|()| ExitCode::SUCCESS),
    }
}
