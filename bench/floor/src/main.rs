//! The floors that datamill is measured against, each a process of its own.

use clap::Parser;
use datamill_floor::{ReadArgs, SendArgs, download, read, send};

#[derive(Debug, Parser)]
#[command(about = "The floors that datamill is measured against")]
enum Command {
    /// Reading: librdkafka's consumer, and one SHA-512 over the values
    Read(ReadArgs),
    /// Sending: one SHA-512 over each file, and librdkafka's producer
    Send(SendArgs),
    /// A download: reading, each chunk written to its place, and one fsync for each file
    Download(download::FloorArgs),
}

fn main() -> anyhow::Result<()> {
    match Command::parse() {
        Command::Read(args) => read(&args),
        Command::Send(args) => send(&args),
        Command::Download(args) => download::floor(&args),
    }
}
