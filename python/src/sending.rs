//! Uploads and watches that a Python program steers: `_engine.Sending`, with the options of the commands. The methods are
//! those of an engine, so that `_host.run` runs both; no function of Python is called.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datamill::engine::{Control, StopKind};
use datamill::facts::{Fact, Facts, Listener};
use datamill::program::{Exit, of_upload};
use datamill::upload::Summary;
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::engine::{BrokenOff, caught};
use crate::errors::Speech;
use crate::{command_line, errors, lines};

/// Files whose paths are kept for Python programs that ask.
const RECENT: usize = 50;

/// An upload or a watch, on a thread of Rust.
#[pyclass(frozen, module = "datamill._engine")]
pub struct Sending {
    run: Arc<Run>,
    speech: Speech,
}

/// What the thread that sends shares with Python.
struct Run {
    name: String,
    sending: datamill_cli::Sending,
    control: Control,
    delivered: Mutex<Delivered>,
    outcome: Mutex<Option<Arc<Result<Summary, BrokenOff>>>>,
}

#[derive(Default)]
struct Delivered {
    files: u64,
    recent: VecDeque<String>,
}

impl Listener for Run {
    fn hear(&self, fact: &Fact<'_>) {
        let Fact::Delivered { file, .. } = *fact else { return };
        let mut delivered = self.delivered.lock();
        delivered.files += 1;
        if delivered.recent.len() == RECENT {
            delivered.recent.pop_front();
        }
        delivered.recent.push_back(file.to_owned());
    }
}

impl Run {
    fn send(self: &Arc<Self>) -> Result<Summary, BrokenOff> {
        let facts = Facts::default().heard_by(self.clone());
        let sent = self.sending.run(&self.name, &self.control, &facts, || Ok(()));
        sent.map_err(|error| BrokenOff { exit: Exit::of_refusal(error.as_ref()), error: error.into() })
    }

    fn has_ended(&self) -> bool {
        self.outcome.lock().is_some()
    }
}

#[pymethods]
impl Sending {
    #[allow(clippy::too_many_arguments, reason = "each is a keyword in Python")]
    #[new]
    #[pyo3(signature = (*, kind, name, arguments, root = None, filename_append = "", speak = None))]
    fn new(
        py: Python<'_>,
        kind: &str,
        name: String,
        arguments: Vec<OsString>,
        root: Option<PathBuf>,
        filename_append: &str,
        speak: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let speech = Speech(speak);
        let mut sending = command_line::sending(py, kind, &name, arguments, &speech)?;
        let settings = sending.settings();
        settings.root = root;
        settings.filename_append = filename_append.to_owned();
        let run =
            Run { name, sending, control: Control::default(), delivered: Mutex::default(), outcome: Mutex::default() };
        Ok(Self { run: Arc::new(run), speech })
    }

    /// Begins to send, on a thread of Rust.
    fn start(&self) -> PyResult<()> {
        let run = Arc::clone(&self.run);
        std::thread::Builder::new().name("datamill-sending".to_owned()).spawn(move || {
            let outcome = caught(|| run.send());
            *run.outcome.lock() = Some(Arc::new(outcome));
            lines::wake();
        })?;
        Ok(())
    }

    /// Waits until it has ended, there is something to print, or the time is over. Answers whether it has ended.
    fn wait(&self, py: Python<'_>, seconds: f64) -> bool {
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
        py.detach(|| lines::wait_until(|| self.run.has_ended(), time));
        self.run.has_ended()
    }

    #[pyo3(signature = (keep_place = false))]
    fn stop(&self, keep_place: bool) {
        self.run.control.stop(if keep_place { StopKind::KeepPlace } else { StopKind::Leave });
    }

    fn check(&self) {
        self.run.control.check();
    }

    /// A text about options, as the program speaks.
    fn speak(&self, py: Python<'_>, text: String) -> String {
        self.speech.of(py, text)
    }

    /// Whether it ends when everything is sent.
    #[getter]
    fn ends_by_itself(&self) -> bool {
        self.run.sending.ends_by_itself()
    }

    #[getter]
    fn stopping(&self) -> bool {
        self.run.control.stopping().is_some()
    }

    /// What was sent: number of files, and the last of their paths.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        // no lock is held while Python may run
        let (files, recent) = {
            let delivered = self.run.delivered.lock();
            (delivered.files, delivered.recent.iter().cloned().collect::<Vec<_>>())
        };
        let counts = PyDict::new(py);
        counts.set_item("files", files)?;
        counts.set_item("recent", recent)?;
        Ok(counts)
    }

    /// How it ended.
    fn end(&self, py: Python<'_>) -> PyResult<Uploaded> {
        // no lock is held while Python may run
        let outcome = self.run.outcome.lock().clone();
        match outcome.as_deref() {
            None => Err(PyRuntimeError::new_err("it has not ended")),
            Some(Err(BrokenOff { error, exit })) => Err(errors::of_program(py, error.as_ref(), *exit, &self.speech)),
            Some(Ok(summary)) => Ok(Uploaded {
                exit_code: of_upload(summary).code(),
                summary: self.speech.of(py, summary.to_string()),
                files: summary.files,
                messages: summary.messages,
                size: summary.bytes,
                seconds: summary.elapsed.as_secs_f64(),
            }),
        }
    }
}

/// What was sent.
#[pyclass(frozen, get_all, module = "datamill")]
pub struct Uploaded {
    exit_code: u8,
    summary: String,
    files: u64,
    messages: u64,
    size: u64,
    seconds: f64,
}

#[pymethods]
impl Uploaded {
    fn __str__(&self) -> &str {
        &self.summary
    }

    fn __repr__(&self) -> String {
        format!("<Uploaded: files={}, messages={}, size={}>", self.files, self.messages, self.size)
    }
}
