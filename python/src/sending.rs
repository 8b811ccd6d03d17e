//! Uploads and watches that a Python program steers: `_engine.Sending`. The methods are those of an engine, so that
//! `_host.run` runs both.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Command, FromArgMatches};
use datamill::engine::{Control, StopKind};
use datamill::facts::{Fact, Facts, Listener};
use datamill::program::{CommonArgs, accept_dashes, of_upload};
use datamill::report::chain;
use datamill::report::heartbeat::ProgramKind;
use datamill::settings::Config;
use datamill::upload::{
    Filter, LOG_FILE, Summary, UploadSettings, WatchSettings, check_paths, logs_folder, upload_paths, watch,
};
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::{errors, lines};

/// Files whose paths are kept for Python programs that ask.
const RECENT: usize = 50;

/// How often a thread that waits for the end looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What is sent, and how.
#[derive(Debug, Clone)]
enum Work {
    Upload(Vec<PathBuf>, UploadSettings),
    Watch(PathBuf, WatchSettings),
}

/// How far the work is.
enum State {
    Waiting,
    Running,
    Ended(Result<Summary, Failure>),
}

/// Why the work could not begin.
struct Failure(String);

impl<E: std::error::Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self(chain(&error))
    }
}

/// What the thread that sends shares with Python.
struct Shared {
    name: String,
    common: CommonArgs,
    work: Work,
    control: Arc<Control>,
    delivered: Mutex<Delivered>,
    state: Mutex<State>,
}

#[derive(Default)]
struct Delivered {
    files: u64,
    recent: VecDeque<String>,
}

impl Listener for Shared {
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

impl Shared {
    fn send(self: &Arc<Self>) -> Result<Summary, Failure> {
        let config: Config = self.common.load_config()?;
        let log_file = match &self.work {
            Work::Upload(paths, _) => {
                check_paths(paths)?;
                None
            }
            Work::Watch(folder, settings) => Some(logs_folder(folder, settings.logs_dir.as_deref())?.join(LOG_FILE)),
        };
        let logging = self.common.start_logging(&config, log_file)?;
        let log = self.common.open_log(&config)?;
        let (kind, facts) = (ProgramKind::Producer, Facts::default().heard_by(self.clone()));
        let _reporting = self.common.start_reporting(logging, &self.name, kind, &config, &log, &facts)?;
        Ok(match &self.work {
            Work::Upload(paths, settings) => upload_paths(log.as_ref(), paths, settings, &self.control, &facts)?,
            Work::Watch(folder, settings) => watch(log.as_ref(), folder, settings, &self.control, &facts)?,
        })
    }
}

/// An upload or a watch. Private: `UploadDataFile` and `DataFileUploadDirectory` use it.
#[pyclass(frozen, module = "datamill._engine")]
pub struct Sending(Arc<Shared>);

#[pymethods]
impl Sending {
    #[new]
    #[pyo3(signature = (
        name, paths, topic, arguments, *, watch, chunk_size, queue_max_size=None, upload_regex=None, root=None,
        filename_append="", upload_existing=false, watchdog_lag_time=3.0, use_polling_observer=false, exit_at_end=false,
        update_seconds=-1
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are named where this is called")]
    fn new(
        py: Python<'_>,
        name: String,
        paths: Vec<PathBuf>,
        topic: &str,
        arguments: Vec<String>,
        watch: bool,
        chunk_size: usize,
        queue_max_size: Option<u32>,
        upload_regex: Option<&str>,
        root: Option<PathBuf>,
        filename_append: &str,
        upload_existing: bool,
        watchdog_lag_time: f64,
        use_polling_observer: bool,
        exit_at_end: bool,
        update_seconds: i64,
    ) -> PyResult<Self> {
        let set_up = |error: &dyn std::fmt::Display| errors::set_up(py, error.to_string());
        let command = accept_dashes(CommonArgs::augment_args(Command::new(name.clone()))).no_binary_name(true);
        let matches = command.try_get_matches_from(arguments).map_err(|error| set_up(&error))?;
        let common = CommonArgs::from_arg_matches(&matches).map_err(|error| set_up(&error))?;
        let mut upload = UploadSettings::new(topic);
        upload.chunk_size = chunk_size;
        upload.root = root;
        upload.filename_append = filename_append.to_owned();
        if let Some(megabytes) = queue_max_size {
            upload.in_flight_bytes = megabytes as usize * 1_000_000;
        }
        if let Some(pattern) = upload_regex {
            upload.filter = Filter::from_python(pattern).map_err(|error| set_up(&error))?;
        }
        let work = match (watch, paths.as_slice()) {
            (true, [folder]) => {
                let mut settings = WatchSettings::new(topic);
                settings.upload = upload;
                settings.upload_existing = upload_existing;
                settings.settle_for = Duration::try_from_secs_f64(watchdog_lag_time).map_err(|error| set_up(&error))?;
                settings.polling = use_polling_observer;
                settings.exit_at_end = exit_at_end;
                settings.tell_every = u64::try_from(update_seconds).ok().filter(|s| *s > 0).map(Duration::from_secs);
                Work::Watch(folder.clone(), settings)
            }
            _ => Work::Upload(paths, upload),
        };
        Ok(Self(Arc::new(Shared {
            name,
            common,
            work,
            control: Arc::default(),
            delivered: Mutex::default(),
            state: Mutex::new(State::Waiting),
        })))
    }

    /// Begins to send, on a thread of Rust.
    fn start(&self) -> PyResult<()> {
        *self.0.state.lock() = State::Running;
        let shared = Arc::clone(&self.0);
        std::thread::Builder::new().name("datamill-sending".to_owned()).spawn(move || {
            let ended = shared.send();
            *shared.state.lock() = State::Ended(ended);
            lines::wake();
        })?;
        Ok(())
    }

    /// What a thread of Python does until it ends: nothing, since no function of Python is called.
    fn work(&self, py: Python<'_>) {
        let has_ended = || matches!(*self.0.state.lock(), State::Ended(_));
        py.detach(|| {
            while !has_ended() {
                std::thread::sleep(LOOK_EVERY);
            }
        });
    }

    /// Waits until it has ended, there is something to print, or the time is over. Answers whether it has ended.
    fn wait(&self, py: Python<'_>, seconds: f64) -> bool {
        let time = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::ZERO);
        let has_ended = || matches!(*self.0.state.lock(), State::Ended(_));
        py.detach(|| lines::wait_until(has_ended, time));
        has_ended()
    }

    /// Nothing hangs here.
    #[getter]
    fn hanging(&self) -> Vec<String> {
        Vec::new()
    }

    fn told(&self) {}

    #[pyo3(signature = (keep_place=false))]
    fn stop(&self, keep_place: bool) {
        self.0.control.stop(if keep_place { StopKind::KeepPlace } else { StopKind::Leave });
    }

    fn check(&self) {
        self.0.control.check();
    }

    #[getter]
    fn stopping(&self) -> bool {
        self.0.control.stopping().is_some()
    }

    /// What was sent: number of files, and the last of their paths.
    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        // no lock is held while Python may run
        let (files, recent) = {
            let delivered = self.0.delivered.lock();
            (delivered.files, delivered.recent.iter().cloned().collect::<Vec<_>>())
        };
        let counts = PyDict::new(py);
        counts.set_item("files", files)?;
        counts.set_item("recent", recent)?;
        Ok(counts)
    }

    /// How it ended.
    fn end(&self, py: Python<'_>) -> PyResult<Sent> {
        // no lock is held while Python may run
        let ended = match &*self.0.state.lock() {
            State::Ended(Ok(summary)) => {
                Ok(Sent { exit_code: of_upload(summary).code(), summary: summary.to_string() })
            }
            State::Ended(Err(Failure(reason))) => Err(Some(reason.clone())),
            State::Waiting | State::Running => Err(None),
        };
        ended.map_err(|reason| match reason {
            Some(reason) => errors::set_up(py, reason),
            None => PyRuntimeError::new_err("it has not ended"),
        })
    }
}

/// How an upload or a watch ended.
#[pyclass(frozen, get_all, module = "datamill._engine")]
pub struct Sent {
    exit_code: u8,
    summary: String,
}
