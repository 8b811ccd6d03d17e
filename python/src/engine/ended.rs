//! How a run ended, and what was done until then.

use std::collections::VecDeque;
use std::error::Error;
use std::io::{self, IsTerminal};
use std::sync::Arc;

use datamill::engine::Summary;
use datamill::process::Answer;
use datamill::program::{Exit, SetUpError};
use pyo3::prelude::*;

use crate::errors::Speech;

/// Why a run could not go on.
pub struct BrokenOff {
    pub error: Box<dyn Error + Send + Sync>,
    pub exit: Exit,
}

impl BrokenOff {
    pub fn set_up(error: SetUpError) -> Self {
        Self { exit: Exit::of_refusal(&error), error: Box::new(error) }
    }
}

/// What `run` answers; a panic breaks it off, as anything that it cannot go on from.
pub fn caught<T>(run: impl FnOnce() -> Result<T, BrokenOff>) -> Result<T, BrokenOff> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        let error = format!("datamill has a mistake: it panicked ({text}). Nothing is lost, start it again").into();
        Err(BrokenOff { error, exit: Exit::Stopped })
    })
}

/// A run that came to its end; one that was stopped before it began has no summary.
pub struct Finished(Option<Summary>);

impl From<Option<Summary>> for Finished {
    fn from(summary: Option<Summary>) -> Self {
        Self(summary)
    }
}

pub type Outcome = Result<Finished, BrokenOff>;

/// Paths that are kept of the files that are done.
const RECENT: usize = 50;
/// Failed files that are kept.
const FAILED: usize = 1000;

/// What the function was done with.
#[derive(Default)]
pub struct Done {
    pub files: u64,
    pub failed: u64,
    recent: VecDeque<Arc<str>>,
    failures: Vec<(String, String)>,
}

impl Done {
    /// The function answered for a file.
    pub fn note(&mut self, path: &Arc<str>, is_last: bool, answer: &Answer) {
        use datamill::process::ErrorKind;
        match answer {
            Ok(_) => self.note_done(Arc::clone(path)),
            Err(error) if is_last && error.kind() == ErrorKind::FileFailed => {
                self.note_failed(path, &error.to_string());
            }
            Err(_) => {}
        }
    }

    /// A file has failed.
    pub fn note_failed(&mut self, path: &str, reason: &str) {
        self.failed += 1;
        if self.failures.len() < FAILED {
            self.failures.push((path.to_owned(), reason.to_owned()));
        }
    }

    /// A file is done.
    pub fn note_done(&mut self, path: Arc<str>) {
        self.files += 1;
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(path);
    }

    /// The last files that are done, oldest first.
    pub fn recent(&self) -> impl Iterator<Item = &str> {
        self.recent.iter().map(|path| &**path)
    }
}

/// How a run ended.
#[pyclass(frozen, get_all, module = "datamill")]
pub struct Ended {
    exit_code: u8,
    summary: String,
    files: u64,
    failed: u64,
    failed_files: Vec<(String, String)>,
    incomplete_files: Vec<String>,
    left_out_messages: u64,
    size: u64,
    seconds: f64,
}

impl Ended {
    pub fn new(Finished(summary): &Finished, done: &Done) -> Self {
        let exit_code = Exit::of_summary(summary.as_ref()).code();
        let failed_files = done.failures.clone();
        match summary {
            None => Self {
                exit_code,
                summary: "stopped before it began".to_owned(),
                files: 0,
                failed: 0,
                failed_files,
                incomplete_files: Vec::new(),
                left_out_messages: 0,
                size: 0,
                seconds: 0.0,
            },
            Some(summary) => Self {
                exit_code,
                summary: if is_watched() { format!("{summary:#}") } else { summary.to_string() },
                files: summary.succeeded,
                failed: summary.failed + summary.failed_again,
                failed_files,
                incomplete_files: summary.incomplete.iter().map(|file| file.path.clone()).collect(),
                left_out_messages: summary.undecodable,
                size: summary.bytes,
                seconds: summary.duration.as_secs_f64(),
            },
        }
    }

    /// The same, with a summary as the program speaks.
    pub fn said_by(mut self, py: Python<'_>, speech: &Speech) -> Self {
        self.summary = speech.of(py, self.summary);
        self
    }
}

/// Whether a person looks on: at a terminal, in an interpreter that asks for the next line, or in a notebook.
fn is_watched() -> bool {
    let asks = |py: Python<'_>| py.import("sys").and_then(|sys| sys.hasattr("ps1")).unwrap_or(false);
    io::stderr().is_terminal() || Python::attach(asks)
}

#[pymethods]
impl Ended {
    fn __str__(&self) -> &str {
        &self.summary
    }

    fn __repr__(&self) -> String {
        format!("<Ended: exit_code={}, files={}, failed={}>", self.exit_code, self.files, self.failed)
    }

    /// What a cell of a notebook shows.
    fn _repr_pretty_(&self, printer: &Bound<'_, PyAny>, _cycle: bool) -> PyResult<()> {
        printer.call_method1("text", (&self.summary,)).map(drop)
    }
}
