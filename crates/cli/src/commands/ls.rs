//! `datamill ls`: a topic as a list of files.

use std::io::Write;

use clap::Args;
use datamill::program::Exit;
use datamill::report::logging::say;
use datamill::report::text::bytes;
use datamill::survey::{Listed, Passed, SurveyError, Totals, list};

use super::output::LogArgs;
use super::survey::{FilesArgs, control, ended, json_with_path, line, out, path_cell, say_others, time_cell, wanted};

/// List the files that are on a topic
///
/// One line for each upload of a file, in the order of the paths, the oldest first. Uploads of the same content have the
/// same version number. An upload that lacks chunks says how many are there, with --json also which are missing or gone.
/// Reads the whole topic once. Exit code 2 if the topic has messages and none of them is a chunk of a file.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    #[command(flatten)]
    files: FilesArgs,
    /// One JSON object for each upload
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogArgs,
}

pub(crate) fn run(args: &LsArgs) -> anyhow::Result<Exit> {
    let wanted = wanted(args.files.pattern.as_deref())?;
    let log = args.log.open_existing()?;
    let mut lines = Lines { out: out(), as_json: args.json, totals: Totals::default(), uploads: 0 };
    let control = control(&log)?;
    let listed = list(&log, &args.files.topic, wanted, &control, &mut lines);
    let listed = listed.and_then(|()| lines.out.flush().map_err(SurveyError::Output));
    if listed.is_err() {
        return ended(listed.map(|()| Exit::Done));
    }
    let Totals { messages, others, .. } = lines.totals;
    say_others(log.as_ref(), &args.files.topic, Passed { messages, others });
    if lines.uploads > 0 {
        return Ok(Exit::Done);
    }
    match &args.files.pattern {
        Some(pattern) => say(format_args!("topic `{}` has no file `{pattern}`", args.files.topic)),
        None => say(format_args!("topic `{}` has no files", args.files.topic)),
    }
    Ok(if args.files.pattern.is_some() { Exit::SomeFailed } else { Exit::Done })
}

struct Lines<W: Write> {
    out: W,
    as_json: bool,
    totals: Totals,
    uploads: u64,
}

impl<W: Write> datamill::survey::Listing for Lines<W> {
    fn begin(&mut self, totals: Totals) -> Result<(), SurveyError> {
        self.totals = totals;
        Ok(())
    }

    fn upload(&mut self, listed: &Listed) -> Result<(), SurveyError> {
        let longest = self.totals.longest_path;
        self.uploads += 1;
        if self.as_json {
            return line(&mut self.out, json_with_path(listed));
        }
        if self.uploads == 1 {
            let titles = format_args!("{:>7}  {:10}  {:>8}  {:19}  sent", "version", "whole", "size", "modified");
            line(&mut self.out, format_args!("{}  {titles}", path_cell("path", longest)))?;
        }
        let Listed { upload, version } = listed;
        let whole = if upload.is_whole() { "yes".to_owned() } else { format!("{}/{}", upload.chunks, upload.n_chunks) };
        let (size, modified) = (bytes(upload.size), time_cell(upload.modified_ms()));
        let (path, sent) = (path_cell(&upload.path, longest), time_cell(Some(upload.first_ms)));
        line(&mut self.out, format_args!("{path}  {version:>7}  {whole:10}  {size:>8}  {modified:19}  {sent}"))
    }
}
