//! `datamill get`: one file out of a topic.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use datamill::program::Exit;
use datamill::report::clock;
use datamill::report::logging::say;
use datamill::report::text::{bytes, printable};
use datamill::survey::{Output, get};

use super::output::LogArgs;
use super::survey::{control, ended, out};

/// Get one file out of a topic, whole and verified
///
/// The newest whole upload of the file, or of a version of it as `datamill ls` counts them. Its SHA-512 is compared with
/// the one that was taken at the upload before a byte is written. The topic is read once, and the chunks of the file
/// again. Exit code 1 if the file is not on the topic, not whole or damaged.
#[derive(Debug, Args)]
// `--version` is that of the file
#[command(disable_version_flag = true)]
pub(crate) struct GetArgs {
    /// Topic of files
    #[arg(value_name = "TOPIC")]
    topic: String,
    /// Path of the file, as `datamill ls` shows it
    #[arg(value_name = "PATH")]
    path: String,
    /// Number of the version [default: that of the newest whole upload]
    #[arg(long, value_name = "N")]
    version: Option<usize>,
    /// File to write, in the place of what is there; `-` is the standard output [default: the file's name, in this folder,
    /// where nothing is there]
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    log: LogArgs,
}

pub(crate) fn run(args: &GetArgs) -> anyhow::Result<Exit> {
    let log = args.log.open_existing()?;
    let name = Path::new(&args.path).file_name().context("no path of a file is given")?;
    let to = match &args.output {
        Some(output) => output.clone(),
        None if Path::new(name).symlink_metadata().is_ok() => {
            bail!("`{}` is there already: name another file with -o, or this one to replace it", name.to_string_lossy())
        }
        None => PathBuf::from(name),
    };
    let (control, mut stdout) = (control(&log)?, out());
    let mut output = if to == Path::new("-") { Output::Stream(&mut stdout) } else { Output::File(&to) };
    let got = get(&log, &args.topic, &args.path, args.version, &mut output, &control);
    ended(got.map(|listed| {
        let (upload, version) = (listed.upload, listed.version);
        let sent = clock::local_time_text(upload.first_ms);
        say(format_args!("`{}`, version {version}, sent at {sent}: {}", printable(&upload.path), bytes(upload.size)));
        Exit::Done
    }))
}
