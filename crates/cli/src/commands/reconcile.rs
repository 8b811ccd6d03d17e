//! `datamill reconcile`: what became of each file of a folder.

use std::collections::BTreeMap;
use std::io::{self, StdoutLock, Write};
use std::path::PathBuf;

use anyhow::{Context, ensure};
use clap::Args;
use datamill::program::Exit;
use datamill::report::logging::say;
use datamill::report::text::printable;
use datamill::survey::{Copies, ReconcileSettings, Row, Rows, StoreCopies, SurveyError, reconcile};
use datamill::upload::{Filter, PathPrefix};
use serde_json::{Value, json};

use super::output::LogArgs;
use super::survey::{control, ended, json_of, out, path_cell};

/// Compare a folder with its topic, the outcomes of a group, its results and copies
///
/// One line for each file: whether it is on the topic as it is in the folder, whole, and what became of it; also for what
/// is on the topic, among the results or the copies, and not in the folder. A file is told by its path, size and
/// modification time, and by its SHA-512 where these do not decide. Reads the topic and the results once, and changes
/// nothing.
///
/// States: result, sent (on the topic, and nothing else was asked for), in_hand, not_reached, passed (the group is done with
/// it, and whether it failed is not seen), no_result (the group is done with it, and its result is not there), failed, incomplete (chunks
/// are missing), never_sent, changed_since (another version is on the topic), not_in_folder.
#[derive(Debug, Args)]
#[command(after_help = AFTER)]
pub(crate) struct ReconcileArgs {
    /// Folder whose files were uploaded
    #[arg(value_name = "DIR")]
    folder: PathBuf,
    /// Topic that they were sent to
    #[arg(long = "topic_name", visible_alias = "consumer_topic_name", value_name = "TOPIC")]
    topic_name: String,
    /// Consumer group whose outcomes are shown
    #[arg(long = "consumer_group_id", value_name = "GROUP")]
    consumer_group_id: Option<String>,
    /// Topic of the results
    #[arg(long, visible_alias = "producer_topic_name", value_name = "TOPIC")]
    results: Option<String>,
    /// Folder that has a copy of each file, as `datamill download` fills it
    #[arg(long, value_name = "DIR", conflicts_with = "store")]
    mirror: Option<PathBuf>,
    /// Object store that has a copy of each file, as `datamill transfer --to` fills it
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Only files whose path, relative to the folder, matches this regular expression from its start, as in the upload
    #[arg(long = "upload_regex", value_name = "REGEX")]
    upload_regex: Option<String>,
    /// Folder before the paths on the topic, as in the upload: only what is below it is compared
    #[arg(long = "path_prefix", value_name = "FOLDER")]
    path_prefix: Option<PathPrefix>,
    /// Hash every file of the folder and of the mirror, whatever its size and time are
    #[arg(long)]
    verify: bool,
    /// Only files that need a person
    #[arg(long)]
    problems: bool,
    /// A table of comma-separated values
    #[arg(long, conflicts_with = "json")]
    csv: bool,
    /// One JSON object for each file
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    log: LogArgs,
}

const AFTER: &str = "Exit codes: 0 every file is where it should be, 1 something is missing or needs a person, 2 the command \
line or the set-up is wrong, 3 the broker did not answer, or it was stopped before the end.";

pub(crate) fn run(args: &ReconcileArgs) -> anyhow::Result<Exit> {
    let filter = match &args.upload_regex {
        Some(pattern) => Filter::from_python(pattern).context("the value of --upload_regex cannot be used")?,
        None => Filter::default_rules(),
    };
    ensure!(
        args.results.as_ref() != Some(&args.topic_name),
        "topic `{}` cannot be that of the files and that of the results: name another one with --results",
        args.topic_name
    );
    let copies = match (&args.mirror, &args.store) {
        (Some(mirror), _) => Some(Copies::Mirror(mirror.clone())),
        (None, Some(url)) => {
            let section: Option<BTreeMap<String, String>> = args.log.config()?.section("s3")?;
            Some(Copies::Store(StoreCopies { url: url.clone(), section }))
        }
        (None, None) => None,
    };
    let settings = ReconcileSettings {
        folder: args.folder.clone(),
        topic: args.topic_name.clone(),
        filter,
        path_prefix: args.path_prefix.clone().unwrap_or_default(),
        group: args.consumer_group_id.clone(),
        results: args.results.clone(),
        copies,
        verify: args.verify,
    };
    let log = args.log.open_existing()?;
    let mut printer = Printer {
        form: match (args.csv, args.json) {
            (true, _) => Form::Csv(Box::new(csv::Writer::from_writer(io::stdout().lock()))),
            (_, true) => Form::Json(out()),
            _ => Form::Table(out()),
        },
        only_problems: args.problems,
        longest: 0,
        has_title: false,
    };
    let control = control(&log)?;
    let found = reconcile(&log, &settings, &control, &mut printer);
    let found = found.and_then(|found| printer.flush().map(|()| found).map_err(SurveyError::Output));
    ended(found.map(|found| {
        say(&found);
        if found.is_complete() { Exit::Done } else { Exit::SomeFailed }
    }))
}

enum Form {
    Csv(Box<csv::Writer<StdoutLock<'static>>>),
    Json(io::BufWriter<StdoutLock<'static>>),
    Table(io::BufWriter<StdoutLock<'static>>),
}

struct Printer {
    form: Form,
    only_problems: bool,
    longest: usize,
    has_title: bool,
}

const TITLES: [&str; 6] = ["path", "state", "versions", "offsets", "result", "reason"];

impl Rows for Printer {
    fn begin(&mut self, longest_path: usize) -> io::Result<()> {
        self.longest = longest_path;
        if let Form::Csv(csv) = &mut self.form {
            csv.write_record(TITLES).map_err(of_csv)?;
        }
        Ok(())
    }

    fn row(&mut self, row: &Row) -> io::Result<()> {
        if self.only_problems && !row.needs_person {
            return Ok(());
        }
        let versions = row.versions.iter().map(|listed| listed.version).max().unwrap_or(0);
        let result = row.result.as_deref().unwrap_or_default();
        match &mut self.form {
            Form::Json(out) => writeln!(out, "{}", json(row)),
            Form::Csv(csv) => {
                let cells = [&row.path, row.state.as_str(), &versions.to_string(), &row.offsets, result, &row.reason];
                csv.write_record(cells).map_err(of_csv)
            }
            Form::Table(out) => {
                if !std::mem::replace(&mut self.has_title, true) {
                    let [path, state, versions, offsets, result, reason] = TITLES;
                    let path = path_cell(path, self.longest);
                    writeln!(out, "{path}  {state:13}  {versions:8}  {offsets:12}  {result:8}  {reason}")?;
                }
                let (path, state) = (path_cell(&row.path, self.longest), row.state.as_str());
                let (offsets, reason) = (&row.offsets, printable(&row.reason));
                let line = format!("{path}  {state:13}  {versions:>8}  {offsets:12}  {result:8}  {reason}");
                writeln!(out, "{}", line.trim_end())
            }
        }
    }
}

impl Printer {
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.form {
            Form::Csv(csv) => csv.flush(),
            Form::Json(out) | Form::Table(out) => out.flush(),
        }
    }
}

/// What kept a record from being written; that nobody reads is told by it.
fn of_csv(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

fn json(row: &Row) -> Value {
    let mut object = json!({
        "path": row.path,
        "state": row.state.as_str(),
        "versions": row.versions.iter().map(json_of).collect::<Vec<_>>(),
        "offsets": row.offsets,
        "result": row.result,
        "reason": row.reason,
        "needs_person": row.needs_person,
    });
    if let Some(has_copy) = row.has_copy {
        object["copy"] = json!(has_copy);
    }
    object
}
