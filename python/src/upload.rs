//! Files of this machine onto a topic.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datamill::engine::{Control, StopKind};
use datamill::facts::Facts;
use datamill::program::{Exit, SetUpError, of_upload};
use datamill::report::LogLevel;
use datamill::report::logging::{self, LogOptions};
use datamill::settings::Config;
use datamill::upload::{DEFAULT_CHUNK_SIZE, Filter, Summary, UploadSettings, upload_paths};
use parking_lot::Mutex;
use pyo3::exceptions::{PyRuntimeError, PyValueError};
use pyo3::prelude::*;

use crate::engine::{BrokenOff, caught};
use crate::{errors, lines};

/// An upload that runs on a thread of Rust.
#[pyclass(frozen, module = "datamill._engine")]
pub struct Upload(Arc<Run>);

struct Run {
    paths: Vec<PathBuf>,
    config: Option<String>,
    settings: UploadSettings,
    control: Control,
    outcome: Mutex<Option<Arc<Result<Summary, BrokenOff>>>>,
}

impl Run {
    fn run(&self) -> Result<Summary, BrokenOff> {
        let config = Config::load(self.config.as_deref()).map_err(SetUpError::from).map_err(BrokenOff::set_up)?;
        let options = LogOptions { stream_level: LogLevel::Info, ..LogOptions::default() };
        let _logging = logging::init(options).map_err(SetUpError::from).map_err(BrokenOff::set_up)?;
        for warning in config.warnings() {
            tracing::warn!("{warning}");
        }
        let log = datamill::broker::open(config.properties()).map_err(SetUpError::from).map_err(BrokenOff::set_up)?;
        if config.is_default_log() {
            tracing::info!(log = log.name(), "no broker configured: using the embedded log in this folder");
        }
        let sent = upload_paths(log.as_ref(), &self.paths, &self.settings, &self.control, &Facts::default());
        sent.map_err(|error| BrokenOff { error: Box::new(error), exit: Exit::SetUp })
    }
}

#[pymethods]
impl Upload {
    #[new]
    #[pyo3(signature = (*, paths, topic, config = None, upload_regex = None, chunk_size = None))]
    fn new(
        paths: Vec<PathBuf>,
        topic: &str,
        config: Option<String>,
        upload_regex: Option<&str>,
        chunk_size: Option<usize>,
    ) -> PyResult<Self> {
        let mut settings = UploadSettings::new(topic);
        settings.chunk_size = chunk_size.unwrap_or(DEFAULT_CHUNK_SIZE);
        if let Some(pattern) = upload_regex {
            settings.filter =
                Filter::from_python(pattern).map_err(|error| PyValueError::new_err(datamill::report::chain(&error)))?;
        }
        let run = Run { paths, config, settings, control: Control::default(), outcome: Mutex::default() };
        Ok(Self(Arc::new(run)))
    }

    fn start(&self) -> PyResult<()> {
        let run = Arc::clone(&self.0);
        std::thread::Builder::new().name("datamill-upload".to_owned()).spawn(move || {
            let outcome = caught(|| run.run());
            *run.outcome.lock() = Some(Arc::new(outcome));
            lines::wake();
        })?;
        Ok(())
    }

    fn wait(&self, py: Python<'_>, seconds: f64) -> bool {
        let has_ended = || self.0.outcome.lock().is_some();
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
        py.detach(|| lines::wait_until(has_ended, time));
        has_ended()
    }

    #[pyo3(signature = (keep_place = false))]
    fn stop(&self, keep_place: bool) {
        self.0.control.stop(if keep_place { StopKind::KeepPlace } else { StopKind::Leave });
    }

    #[getter]
    fn stopping(&self) -> bool {
        self.0.control.stopping().is_some()
    }

    fn end(&self, py: Python<'_>) -> PyResult<Uploaded> {
        // no lock is held while Python may run
        let outcome = self.0.outcome.lock().clone();
        match outcome.as_deref() {
            None => Err(PyRuntimeError::new_err("the upload still runs")),
            Some(Err(BrokenOff { error, exit })) => Err(errors::of_program(py, error.as_ref(), *exit)),
            Some(Ok(summary)) => match of_upload(summary) {
                Exit::Done => Ok(Uploaded {
                    summary: summary.to_string(),
                    files: summary.files,
                    messages: summary.messages,
                    size: summary.bytes,
                    seconds: summary.elapsed.as_secs_f64(),
                }),
                Exit::SetUp => Err(errors::set_up(py, summary.to_string())),
                exit => Err(errors::raised(py, "RunError", (summary.to_string(), exit.code()))),
            },
        }
    }
}

/// What was sent.
#[pyclass(frozen, get_all, module = "datamill")]
pub struct Uploaded {
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
