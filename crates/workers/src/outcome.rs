//! What the end of a command means for its file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use datamill::process::{ProcessingError, ReproducerMessage};
use datamill::report::chain;
use datamill::report::text::bytes;

use crate::keeper::{Ended, Excerpt, How};

/// EX_TEMPFAIL: what the command needs is not there for the moment.
const NOT_AVAILABLE: i32 = 75;
/// EX_CONFIG: no file can be done.
const STOP: i32 = 78;

/// Of what a command says on stderr, the reason of a failure has so many lines and bytes.
const REASON_LINES: usize = 5;
const REASON_BYTES: usize = 1000;

/// No topic takes more.
const LARGEST_RESULT: u64 = i32::MAX as u64;

/// Errors of the system by which no command of this program could be started: they are the same for each file.
const NEVER_STARTS: [rustix::io::Errno; 5] = [
    rustix::io::Errno::NOENT,
    rustix::io::Errno::ACCESS,
    rustix::io::Errno::NOEXEC,
    rustix::io::Errno::NOTDIR,
    rustix::io::Errno::LOOP,
];

/// What the command was held to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) time: Option<Duration>,
    pub(crate) memory: Option<u64>,
}

/// Whether the command is done with the file, and if not, what that means.
pub(crate) fn verdict(ended: &Ended, limits: Limits) -> Result<(), ProcessingError> {
    let last = |how: String| with_last_words(how, &ended.stderr);
    let failed = || Err(ProcessingError::file_failed(last(ending("command", &ended.how, limits))));
    match &ended.how {
        How::Exit(0) => Ok(()),
        How::Exit(NOT_AVAILABLE) => Err(ProcessingError::not_available(last(format!(
            "the command says that something is not available (exit code {NOT_AVAILABLE})"
        )))),
        How::Exit(STOP) => {
            Err(ProcessingError::stop(last(format!("the command asks the program to stop (exit code {STOP})"))))
        }
        How::NotStarted(number, text) => Err(not_started("command", *number, text)),
        How::Exit(_) | How::Signal(_) | How::Told | How::Memory { .. } => failed(),
    }
}

/// How a command or a worker has ended, in words.
pub(crate) fn ending(what: &str, how: &How, limits: Limits) -> String {
    match how {
        How::Exit(code) => format!("the {what} ended with exit code {code}"),
        How::Signal(signal) => format!("the {what} was ended by {}", signal_name(*signal)),
        How::Told => {
            let time = limits.time.map_or_else(String::new, |time| format!(" within {} s", time.as_secs_f64()));
            let what_not = if what == "worker" { "answer" } else { "end" };
            format!("the {what} did not {what_not}{time}, and was ended with all that it had started")
        }
        How::Memory { peak } => {
            let limit = limits.memory.unwrap_or_default();
            format!(
                "the {what} had {} in memory with all that it had started, more than --worker_memory ({}), and was ended",
                mebibytes(*peak),
                mebibytes(limit)
            )
        }
        How::NotStarted(_, text) => format!("the {what} cannot be started: {text}"),
    }
}

/// In the unit in which limits are written.
fn mebibytes(count: u64) -> String {
    format!("{:.1} MiB", count as f64 / f64::from(1 << 20))
}

/// What it means that the system could not start it.
pub(crate) fn not_started(what: &str, number: Option<i32>, text: &str) -> ProcessingError {
    let how = format!("the {what} cannot be started: {text}");
    match number.map(rustix::io::Errno::from_raw_os_error) {
        Some(error) if NEVER_STARTS.contains(&error) => ProcessingError::stop(how),
        // too long, or a value that no process can have: another file has others
        Some(rustix::io::Errno::TOOBIG) | None => ProcessingError::file_failed(how),
        Some(_) => ProcessingError::not_available(how),
    }
}

/// With the last lines that it has said.
pub(crate) fn with_last_words(how: String, stderr: &Excerpt) -> String {
    let last = stderr.last_lines(REASON_LINES, REASON_BYTES);
    if last.is_empty() { how } else { format!("{how}: {}", last.join(" | ")) }
}

/// A signal by its name.
pub(crate) fn signal_name(signal: i32) -> String {
    match signal_hook::low_level::signal_name(signal) {
        Some("SIGKILL") => "SIGKILL (`kill -9`, or the system had no memory left)".to_owned(),
        Some(name) => name.to_owned(),
        None => format!("signal {signal}"),
    }
}

/// The content of the file that the command has written: `{result}`, or the one beside it with that name and a suffix. `None`
/// where there is neither.
pub(crate) fn result(expected: &Path) -> Result<Option<ReproducerMessage>, ProcessingError> {
    let found = if expected.exists() { Some(expected.to_owned()) } else { with_suffix(expected)? };
    let Some(found) = found else { return Ok(None) };
    let failed = |error| ProcessingError::file_failed(format_args!("the result cannot be read: {}", chain(&error)));
    // not that of a link: what it leads to may be a pipe, which nobody fills
    let about = fs::metadata(&found).map_err(failed)?;
    if !about.is_file() {
        return Err(ProcessingError::file_failed(format_args!(
            "the command wrote no file but something else at `{}`: write one file there",
            found.display()
        )));
    }
    if about.len() > LARGEST_RESULT {
        return Err(ProcessingError::file_failed(format_args!(
            "the result has {}, more than any topic takes",
            bytes(about.len())
        )));
    }
    Ok(Some(ReproducerMessage::new(fs::read(&found).map_err(failed)?)))
}

/// What is said of a command that was to write a result.
pub(crate) fn no_result() -> ProcessingError {
    ProcessingError::file_failed(
        "the command ended with exit code 0 and wrote no result: it has to write the file that `{result}` or DATAMILL_RESULT \
         names, or to print the result, with --stdout",
    )
}

/// Many programs add the suffix of their format, or choose the format by it.
fn with_suffix(expected: &Path) -> Result<Option<PathBuf>, ProcessingError> {
    let name = expected.file_name().unwrap_or_default();
    let entries = expected.parent().into_iter().flat_map(fs::read_dir).flatten().flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path()).filter(|path| path.file_stem() == Some(name)).collect();
    match (found.pop(), found.is_empty()) {
        (Some(path), true) => Ok(Some(path)),
        (None, _) => Ok(None),
        (Some(_), false) => Err(ProcessingError::file_failed(format_args!(
            "the command wrote {} files beside `{{result}}`, and a file has one result: write one",
            found.len() + 1
        ))),
    }
}

#[cfg(test)]
mod tests {
    use datamill::process::ErrorKind;

    use super::*;

    fn verdict_of(how: How, stderr: &str) -> Result<(), (ErrorKind, String)> {
        let excerpt = |text: &str| Excerpt { begin: text.to_owned(), ..Excerpt::default() };
        let ended = Ended { how, stdout: excerpt("printed"), stderr: excerpt(stderr), left: 0, is_stuck: false };
        let limits = Limits { time: Some(Duration::from_millis(1500)), memory: Some(100 << 20) };
        verdict(&ended, limits).map_err(|error| (error.kind(), error.to_string()))
    }

    #[test]
    fn each_end_has_its_meaning_and_its_reason() {
        assert_eq!(verdict_of(How::Exit(0), "a warning"), Ok(()));
        for (how, kind, said) in [
            (How::Exit(3), ErrorKind::FileFailed, "exit code 3: line 1 | line 2"),
            (How::Exit(75), ErrorKind::NotAvailable, "not available (exit code 75): line 1 | line 2"),
            (How::Exit(78), ErrorKind::Stop, "to stop (exit code 78): line 1 | line 2"),
            (How::Signal(11), ErrorKind::FileFailed, "was ended by SIGSEGV: line 1"),
            (How::Told, ErrorKind::FileFailed, "did not end within 1.5 s"),
            (How::Memory { peak: 312 << 20 }, ErrorKind::FileFailed, "312.0 MiB in memory"),
            (How::Memory { peak: 312 << 20 }, ErrorKind::FileFailed, "--worker_memory (100.0 MiB)"),
            (How::NotStarted(Some(2), "not there".to_owned()), ErrorKind::Stop, "cannot be started: not there"),
            (How::NotStarted(Some(8), "format".to_owned()), ErrorKind::Stop, "cannot be started"),
            (How::NotStarted(Some(11), "try again".to_owned()), ErrorKind::NotAvailable, "cannot be started"),
            (How::NotStarted(Some(7), "too long".to_owned()), ErrorKind::FileFailed, "cannot be started"),
        ] {
            let (found, text) = verdict_of(how, "line 1\nline 2\n").unwrap_err();
            assert!(found == kind && text.contains(said), "{found:?} {text}");
        }
    }

    #[test]
    fn a_result_may_have_a_suffix_and_is_one_file() {
        let folder = tempfile::tempdir().unwrap();
        let expected = folder.path().join("result");
        assert!(result(&expected).unwrap().is_none());
        fs::write(folder.path().join("other.txt"), "x").unwrap();
        assert!(result(&expected).unwrap().is_none());
        fs::write(folder.path().join("result.png"), "image").unwrap();
        assert_eq!(result(&expected).unwrap().unwrap().value(), b"image");
        fs::write(folder.path().join("result.json"), "{}").unwrap();
        assert!(result(&expected).unwrap_err().to_string().contains("wrote 2 files"));
        fs::write(&expected, "this one").unwrap();
        assert_eq!(result(&expected).unwrap().unwrap().value(), b"this one");
        fs::remove_file(&expected).unwrap();
        fs::create_dir(&expected).unwrap();
        assert!(result(&expected).unwrap_err().to_string().contains("wrote no file but something else"));
    }
}
