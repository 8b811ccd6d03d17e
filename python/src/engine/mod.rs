//! One run of the engine, as Python starts, feeds, stops and ends it.

mod answer;
mod delivery;
mod desk;
mod ended;
mod isolated;
mod port;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use datamill::assemble::Mode;
use datamill::engine::{Control, StopKind};
use datamill::facts::{Counters, Fact, FailureStatus, Listener};
use datamill::process::UserCode;
use datamill::program::{Exit, Prepared, why};
use datamill::report::logging::note_error;
use datamill_workers::CommandSettings;
use parking_lot::Mutex;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

pub use answer::{Reading, message};
pub use desk::{Ear, Job, Line, Said};
pub use ended::{BrokenOff, Ended, caught};

use crate::command_line::Options;
use crate::errors::Speech;
use crate::file::DownloadDataFile;
use crate::{errors, lines};
use delivery::Delivery;
use desk::Desk;
use ended::Outcome;
use port::{Hanging, Port};

/// Threads of the engine beside one for each thread of Python: files wait for Python, checked and at hand, and Python
/// does not wait for them.
const AHEAD: usize = 6;

/// A run of the engine.
#[pyclass(frozen, module = "datamill._engine")]
pub struct Engine {
    code: Py<PyAny>,
    /// What wants files that are not what was uploaded.
    mismatched: Option<Py<PyAny>>,
    logger: Py<PyAny>,
    reading: Reading,
    speech: Speech,
    /// The process that the engine runs in.
    process: u32,
    run: Arc<Run>,
}

/// What the threads of Rust know of it.
struct Run {
    name: String,
    options: Options,
    delivery: Option<Delivery>,
    /// The function runs in processes of its own.
    isolated: Option<CommandSettings>,
    public_names: bool,
    wants_mismatches: bool,
    /// What the function's module says of itself.
    version: Option<String>,
    output_dir: Arc<PathBuf>,
    control: Control,
    counters: OnceLock<Arc<Counters>>,
    desk: Arc<Desk>,
    hanging: Arc<Hanging>,
    /// Threads of Python, and the files for which they run the function.
    working: Mutex<Vec<(String, Arc<str>)>>,
    has_started: AtomicBool,
    outcome: Mutex<Option<Arc<Outcome>>>,
    done: Mutex<ended::Done>,
}

/// Notes the files of a delivery, or of a function in other processes: no thread of Python calls these.
struct Elsewhere(Weak<Run>);

impl Listener for Elsewhere {
    fn hear(&self, fact: &Fact<'_>) {
        let Some(run) = self.0.upgrade() else { return };
        match *fact {
            Fact::Done { file, .. } => run.done.lock().note_done(file.rel_filepath.as_str().into()),
            Fact::Failed {
                file,
                reason,
                status: FailureStatus::Failed | FailureStatus::ComputingResultMessageFailed,
                ..
            } if run.isolated.is_some() => run.done.lock().note_failed(&file.rel_filepath, reason),
            _ => {}
        }
    }
}

impl Run {
    /// The body of the thread that the engine has.
    fn live(self: &Arc<Self>) {
        let mut prepared = None;
        let outcome = caught(|| self.run(&mut prepared));
        if let Err(BrokenOff { error, .. }) = &outcome {
            note_error(why(error.as_ref()));
        }
        // its log file and its topic for log lines have the error too
        drop(prepared);
        self.desk.close();
        *self.outcome.lock() = Some(Arc::new(outcome));
        lines::wake();
        self.hanging.end_the_process();
    }

    fn run(self: &Arc<Self>, prepared: &mut Option<Prepared>) -> Outcome {
        let prepared = prepared.insert(self.options.prepare(&self.name).map_err(BrokenOff::set_up)?);
        // nobody else sets it
        let _ = self.counters.set(Arc::clone(prepared.facts.counters()));
        let code = match (&self.delivery, &self.isolated) {
            (None, Some(isolated)) => {
                let run = Arc::downgrade(self);
                prepared.facts = prepared.facts.heard_by(Arc::new(Elsewhere(run)));
                let refused = |error| BrokenOff { error: Box::new(error), exit: Exit::SetUp };
                let (_, code) = isolated.clone().into_user_code().map_err(refused)?;
                match &self.version {
                    Some(version) => code.with_version(version),
                    None => code,
                }
            }
            (None, None) => {
                prepared.settings.threads += AHEAD;
                let code = UserCode::new(Port {
                    desk: Arc::clone(&self.desk),
                    hanging: Arc::clone(&self.hanging),
                    public_names: self.public_names,
                    wants_mismatches: self.wants_mismatches,
                });
                match &self.version {
                    Some(version) => code.with_version(version),
                    None => code,
                }
            }
            (Some(delivery), _) => {
                let run = Arc::downgrade(self);
                prepared.facts = prepared.facts.heard_by(Arc::new(Elsewhere(run)));
                delivery.code(&self.options)?
            }
        };
        let ended = prepared.run(code, &self.control);
        Ok(ended.map_err(|error| BrokenOff { exit: Exit::of_error(&error), error: Box::new(error) })?.into())
    }

    fn has_ended(&self) -> bool {
        self.outcome.lock().is_some()
    }
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (
        *, kind, name, arguments, code, logger, public_names=false, target=None, default=None, speak=None, folder=None,
        mismatched=None, version=None, worker=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "they are named where this is called")]
    fn new(
        py: Python<'_>,
        kind: &str,
        name: String,
        arguments: Vec<OsString>,
        code: Py<PyAny>,
        logger: Py<PyAny>,
        public_names: bool,
        target: Option<String>,
        default: Option<Py<PyAny>>,
        speak: Option<Py<PyAny>>,
        folder: Option<PathBuf>,
        mismatched: Option<Py<PyAny>>,
        version: Option<String>,
        worker: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let speech = Speech(speak);
        let delivery = Delivery::of(kind, target);
        let of = if delivery.is_some() { "processor" } else { kind };
        let mut options = Options::parse(py, of, &name, arguments, &speech)?;
        options.consumer_mut().common.folder = folder;
        if let Some(delivery) = &delivery {
            delivery.complete(&name, &mut options);
        }
        let has_words = speech.of(py, "--nan".to_owned()).starts_with("--");
        let output_dir = Arc::new(options.consumer().output_dir(&name));
        let isolated = isolated::settings(py, &options, &name, has_words, default.as_ref(), worker)?;
        let run = Run {
            output_dir,
            name,
            control: Control::default(),
            counters: OnceLock::new(),
            desk: Arc::default(),
            hanging: Arc::default(),
            working: Mutex::default(),
            has_started: AtomicBool::new(false),
            outcome: Mutex::default(),
            done: Mutex::default(),
            delivery,
            isolated,
            public_names,
            wants_mismatches: mismatched.is_some(),
            version,
            options,
        };
        let reading = Reading::new(run.options.has_results(), run.options.nan(), default, has_words);
        Ok(Self { code, mismatched, logger, reading, speech, process: std::process::id(), run: Arc::new(run) })
    }

    #[getter]
    fn n_threads(&self) -> u16 {
        self.run.options.consumer().n_consumer_threads
    }

    /// Whether the function runs in processes of its own, and not on threads of this one.
    #[getter]
    fn is_isolated(&self) -> bool {
        self.run.isolated.is_some()
    }

    #[getter]
    fn output_dir(&self) -> PathBuf {
        self.run.output_dir.as_ref().clone()
    }

    /// Whether it ends at the end of the topic.
    #[getter]
    fn ends_by_itself(&self) -> bool {
        self.run.options.consumer().exit_at_end
    }

    /// Starts it, once.
    fn start(&self) -> PyResult<()> {
        if self.run.has_started.swap(true, Relaxed) {
            return Err(PyRuntimeError::new_err("the engine has been started before: make another one"));
        }
        let run = Arc::clone(&self.run);
        std::thread::Builder::new().name("datamill-engine".to_owned()).spawn(move || run.live())?;
        Ok(())
    }

    /// What a thread of Python of this name does until the run ends: it takes files and calls the function.
    fn work(&self, py: Python<'_>, thread: &str) {
        let desk = &self.run.desk;
        let mut next = py.detach(|| desk.take());
        while let Some(job) = next {
            // a panic, as where memory ends, is a failure of the file: its job is dropped
            let _ = catch_unwind(AssertUnwindSafe(|| self.serve(py, job, thread)));
            // the interpreter is kept while files are at hand
            next = desk.try_take().or_else(|| py.detach(|| desk.take()));
        }
    }

    /// Waits until the run has ended, there is something to print, or the time is over. Answers whether it has ended.
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

    #[getter]
    fn stopping(&self) -> bool {
        self.run.control.stopping().is_some()
    }

    /// The files of calls that take longer than they may, once the run ends for that.
    #[getter]
    fn hanging(&self) -> Vec<String> {
        self.run.hanging.files()
    }

    /// It was said where they hang.
    fn told(&self) {
        self.run.hanging.is_told();
    }

    /// The process goes on although a call hangs.
    fn spare(&self) {
        self.run.hanging.spare();
    }

    /// The files for which the function runs, each with the name of its thread.
    #[getter]
    fn working(&self) -> Vec<(String, String)> {
        self.run.working.lock().iter().map(|(thread, path)| (thread.clone(), path.to_string())).collect()
    }

    /// A text about options, as the program speaks.
    fn speak(&self, py: Python<'_>, text: String) -> String {
        self.speech.of(py, text)
    }

    fn counts<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let counts = self.run.counters.get().map(|counters| counters.counts()).unwrap_or_default();
        let dict = PyDict::new(py);
        dict.set_item("messages_read", counts.messages_read)?;
        dict.set_item("messages_processed", counts.messages_processed)?;
        dict.set_item("messages_produced", counts.messages_produced)?;
        // no lock is held while Python may run
        let (files, failed, recent) = {
            let done = self.run.done.lock();
            (done.files, done.failed, done.recent().map(str::to_owned).collect::<Vec<_>>())
        };
        dict.set_item("files", files)?;
        dict.set_item("failed", failed)?;
        dict.set_item("recent", recent)?;
        Ok(dict)
    }

    /// How it ended.
    fn end(&self, py: Python<'_>) -> PyResult<Ended> {
        // no lock is held while Python may run
        let outcome = self.run.outcome.lock().clone();
        match outcome.as_deref() {
            None => Err(PyRuntimeError::new_err("the engine still runs")),
            Some(Err(BrokenOff { error, exit })) => Err(errors::of_program(py, error.as_ref(), *exit, &self.speech)),
            Some(Ok(finished)) => {
                let ended = Ended::new(finished, &self.run.done.lock());
                Ok(ended.said_by(py, &self.speech))
            }
        }
    }
}

impl Engine {
    fn serve(&self, py: Python<'_>, job: Job, thread: &str) {
        let consumer = self.run.options.consumer();
        // before the function: it may end the process
        if let Some(starter) = &job.starter {
            starter.begin();
        }
        lines::works_on(Some(Arc::clone(&job.path)));
        self.run.working.lock().push((thread.to_owned(), Arc::clone(&job.path)));
        let stays_on_disk = consumer.mode != Mode::Memory;
        let output_dir = Arc::clone(&self.run.output_dir);
        let file = DownloadDataFile::new(&job, output_dir, stays_on_disk, self.logger.clone_ref(py));
        let code = self.mismatched.as_ref().filter(|_| job.is_mismatch).unwrap_or(&self.code);
        let answered = Bound::new(py, file).and_then(|file| code.bind(py).call1((file,)));
        if std::process::id() != self.process {
            leave(py, answered.err());
            return;
        }
        self.run.working.lock().retain(|(other, _)| other != thread);
        if job.is_mismatch {
            lines::works_on(None);
            // what it answered, or raised, changes nothing; whoever keeps the file does not keep the engine
            job.answer(Ok(None));
            return;
        }
        let answer = self.reading.of(py, &job.path, answered);
        if let Some(starter) = &job.starter {
            starter.end();
        }
        lines::works_on(None);
        self.run.done.lock().note(&job.path, job.is_last, &answer);
        job.answer(answer);
    }
}

/// Ends a process that the function has forked and that has come back from it: the engine is in the other one.
pub fn leave(py: Python<'_>, error: Option<PyErr>) {
    let left = py
        .import("datamill._host")
        .and_then(|host| host.call_method1("leave_forked_process", (error.map(|error| error.into_value(py)),)));
    if left.is_err() {
        std::process::abort();
    }
}
