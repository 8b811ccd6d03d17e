//! `datamill download`: the files of a topic in a folder.

use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::Context;
use clap::Args;
use datamill::assemble::Mode;
use datamill::deliver::{DownloadDirectory, OnExists};
use datamill::program::{Exit, ProcessorArgs, instance, run_program};
use datamill::report::logging::say;
use datamill::report::text::counted;

/// OpenMSIStream's name of this program: in the group, the log file and heartbeats.
const NAME: &str = "DataFileDownloadDirectory";

/// Keep a folder like a topic: rebuild each of its files there
///
/// A file appears under its path only when it is whole, its SHA-512 is right and it is on the disk. Started
/// again, the program goes on where it was, and a file that is there is not downloaded again. Several
/// processes with one --consumer_group_id share the work, each with an --output_dir of its own. Messages that
/// are no chunk of a file are kept in the folder LOGS/dead_letters of the output folder.
#[derive(Debug, Args)]
#[command(
    mut_arg("n_consumer_threads", |arg| arg.help("Files that are written at a time").default_value("8")),
    mut_arg("max_attempts", |arg| arg.help("How often a file is tried before it counts as failed")),
    mut_arg("processing_timeout", |arg| arg.help("Seconds that the writing of a file may take; 0 is as long as it likes")),
    mut_arg("consumer_group_id", |arg| {
        let help = "Consumer group; programs with the same group share the work, and what the group was given is not \
            downloaded again. `create_new` makes a group for this run only, which looks at every file of the topic \
            [default: group.id of the configuration, or a name made from topic, host and DIR]";
        arg.help(help).long_help(help)
    }),
    mut_arg("output_dir", |arg| arg.help("Folder for the log file and the registry files [default: DIR]")),
    mut_arg("mode", |arg| arg.hide(true).help("Accepted, and without effect: files go to DIR in any case")),
)]
pub(crate) struct DownloadArgs {
    /// Folder to keep like the topic; it is made where it is missing
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    #[command(flatten)]
    processor: ProcessorArgs,
    /// What happens when another version of a file is there already
    #[arg(long = "on_exists", value_enum, value_name = "WHAT", default_value_t)]
    on_exists: OnExists,
}

pub(crate) fn run(args: &DownloadArgs) -> anyhow::Result<Exit> {
    let mut processor = args.processor.clone();
    let output_dir = processor.consumer.output_dir.get_or_insert_with(|| args.folder.clone()).clone();
    // the content goes to its place from memory or from where it was spilled to
    processor.consumer.mode = Mode::Memory;
    let directory = DownloadDirectory::open(&args.folder, &output_dir, args.on_exists)
        .with_context(|| format!("cannot use the folder `{}`", args.folder.display()))?;
    // a group for each folder, so that each becomes complete
    let group = format!("{NAME}_{}_{}", processor.topic_name, instance(&args.folder));
    processor.consumer.default_group = Some(group);
    let replaced = directory.replaced();
    let exit = run_program(&processor, NAME, directory.into_user_code());
    match replaced.load(Relaxed) {
        0 => {}
        files => say(format_args!(
            "{} replaced another version that was there. If instruments share names, upload each with a --path_prefix of its \
            own",
            counted(files, "file")
        )),
    }
    Ok(exit)
}
