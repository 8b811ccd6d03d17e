//! What `ls`, `get`, `verify` and `reconcile` share: which paths are wanted, uploads as JSON, cells of tables, and how
//! they end.

use std::io::{self, BufWriter, StdoutLock, Write};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use datamill::broker::Log;
use datamill::engine::Control;
use datamill::program::{AtOnce, Exit, heed_signals};
use datamill::report::logging::{say, say_error};
use datamill::report::text::printable;
use datamill::report::{chain, clock};
use datamill::settings::Pattern;
use datamill::survey::{Listed, Passed, SurveyError, not_chunks};
use datamill_wire::hex;
use serde_json::{Value, json};

/// The files that a command is about.
#[derive(Debug, Args)]
pub(super) struct FilesArgs {
    /// Topic of files
    #[arg(value_name = "TOPIC")]
    pub topic: String,
    /// Only this file, what is in this folder, or what matches, with `*` for any characters and `?` for one
    #[arg(value_name = "PATTERN")]
    pub pattern: Option<String>,
}

/// Widest column of paths.
const WIDEST: usize = 60;

/// A look at a log that the first SIGINT, SIGTERM or SIGHUP ends.
pub(super) fn control(log: &Arc<dyn Log>) -> anyhow::Result<Arc<Control>> {
    let control = Arc::new(Control::default());
    control.stops(log);
    heed_signals(&control, AtOnce::LookedOnly).context("cannot set up threads and signals")?;
    Ok(control)
}

/// Where rows go.
pub(super) fn out() -> BufWriter<StdoutLock<'static>> {
    BufWriter::with_capacity(1 << 16, io::stdout().lock())
}

/// How a look ended: what is missing or was stopped is said here, and whoever has closed the output has had enough.
pub(super) fn ended(ended: Result<Exit, SurveyError>) -> anyhow::Result<Exit> {
    match ended {
        Ok(exit) => Ok(exit),
        Err(SurveyError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(error @ (SurveyError::NotThere(_) | SurveyError::Damaged { .. })) => {
            say_error(chain(&error));
            Ok(Exit::SomeFailed)
        }
        Err(error @ SurveyError::Stopped) => {
            say_error(chain(&error));
            Ok(Exit::Stopped)
        }
        Err(error) => Err(error.into()),
    }
}

/// Says how many messages of a topic are not chunks of files, where some are not.
pub(super) fn say_others(log: &dyn Log, topic: &str, passed: Passed) {
    if passed.others > 0 {
        let read = log.command(&format!("read {topic}"));
        say(format_args!("topic `{topic}`: {}; {read} shows them", not_chunks(passed.others, passed.messages)));
    }
}

/// Whether a path is one of those that a pattern names: with `*` for any characters and `?` for one; without them, a
/// file or all that is in a folder. No pattern names all.
pub(super) fn wanted(pattern: Option<&str>) -> anyhow::Result<impl Fn(&str) -> bool + Send + 'static> {
    let pattern = pattern.map(|pattern| Pattern::from_python(&regex(pattern))).transpose()?;
    Ok(move |path: &str| pattern.as_ref().is_none_or(|pattern| pattern.matches(path)))
}

fn regex(pattern: &str) -> String {
    let mut regex = "(?s)".to_owned();
    let pattern = pattern.trim_end_matches('/');
    for c in pattern.chars() {
        match c {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            c => {
                if r"\.+()|[]{}^$".contains(c) {
                    regex.push('\\');
                }
                regex.push(c);
            }
        }
    }
    if !pattern.contains(['*', '?']) {
        regex.push_str("(?:/.*)?");
    }
    regex.push_str(r"\Z");
    regex
}

/// A path for a column of this width.
pub(super) fn path_cell(path: &str, longest: usize) -> String {
    format!("{:width$}", printable(path), width = longest.clamp(4, WIDEST))
}

/// A time as tables show it.
pub(super) fn time_cell(ms: Option<i64>) -> String {
    ms.map_or_else(|| "-".to_owned(), clock::local_time_text)
}

/// An upload as an object of JSON.
pub(super) fn json_of(listed: &Listed) -> Value {
    let Listed { upload, version } = listed;
    json!({
        "version": version,
        "sha512": hex(&upload.sha512),
        "size": upload.size,
        "modified": upload.modified_ms().map(clock::iso8601_utc),
        "sent": clock::iso8601_utc(upload.first_ms),
        "chunks": upload.chunks,
        "n_chunks": upload.n_chunks,
        "whole": upload.is_whole(),
        "offsets": upload.offsets(),
        "reason": upload.fault,
    })
}

/// The same with its path before it.
pub(super) fn json_with_path(listed: &Listed) -> Value {
    let mut object = serde_json::Map::from_iter([("path".to_owned(), json!(listed.upload.path))]);
    if let Value::Object(rest) = json_of(listed) {
        object.extend(rest);
    }
    Value::Object(object)
}

/// Writes a line; that it cannot be written ends the look.
pub(super) fn line(out: &mut impl Write, line: impl std::fmt::Display) -> Result<(), SurveyError> {
    writeln!(out, "{line}").map_err(SurveyError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_names_files_and_all_that_is_in_a_folder() {
        for (pattern, path, is_wanted) in [
            (None, "a", true),
            (Some("a"), "a", true),
            (Some("a"), "a/b/c", true),
            (Some("a/"), "a/b/c", true),
            (Some("a"), "ab", false),
            (Some("a.b"), "axb", false),
            (Some("*.csv"), "a/b\nc.csv", true),
            (Some("*.csv"), "a.csv.gz", false),
            (Some("run ?/*"), "run 1/x", true),
            (Some("run ?/*"), "run 12/x", false),
            (Some("[a] (1) 100%$^"), "[a] (1) 100%$^", true),
        ] {
            assert_eq!(wanted(pattern).unwrap()(path), is_wanted, "{pattern:?} {path:?}");
        }
    }
}
