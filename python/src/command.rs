//! The command `datamill` of the package: that of the Rust program, but for functions in Python, which run in this
//! interpreter.

use std::ffi::OsString;
use std::path::PathBuf;

use datamill_cli::{Called, FunctionCall, Next, Task, parse};
use datamill_workers::KeeperStart;
use parking_lot::Mutex;
use pyo3::IntoPyObjectExt;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// A command that needs no Python.
#[pyclass(frozen, module = "datamill._engine")]
pub struct RustCommand(Mutex<Option<Box<Task>>>);

#[pymethods]
impl RustCommand {
    /// Does it, once, and answers the exit code.
    fn run(&self, py: Python<'_>) -> PyResult<u8> {
        let task = self.0.lock().take().ok_or_else(|| PyRuntimeError::new_err("the command was run before"))?;
        Ok(py.detach(|| task.run()))
    }
}

/// What is to be done with a function in Python.
#[pyclass(frozen, module = "datamill._engine")]
pub struct FunctionCommand {
    /// `try`, `reproduce` or `process`.
    #[pyo3(get)]
    what: &'static str,
    /// `FILE.py:NAME`.
    #[pyo3(get)]
    function: OsString,
    #[pyo3(get)]
    options: Vec<OsString>,
    /// The words for the command line of a class.
    #[pyo3(get)]
    own: Vec<OsString>,
    /// What is wrong with the words, unless a class knows them.
    #[pyo3(get)]
    refusal: Option<String>,
    #[pyo3(get)]
    files: Vec<OsString>,
    /// The Python that was asked for.
    #[pyo3(get)]
    python: Option<OsString>,
    call: Mutex<Option<FunctionCall>>,
}

impl From<FunctionCall> for FunctionCommand {
    fn from(call: FunctionCall) -> Self {
        Self {
            what: call.what.name(),
            function: call.function.clone(),
            options: call.options.clone(),
            own: call.own.clone(),
            refusal: call.refusal.clone(),
            files: call.files.iter().cloned().map(PathBuf::into_os_string).collect(),
            python: call.python.clone().map(PathBuf::into_os_string),
            call: Mutex::new(Some(call)),
        }
    }
}

#[pymethods]
impl FunctionCommand {
    /// Lets the Python that was asked for do it, in place of this process where that is possible, and answers the exit
    /// code.
    fn run_elsewhere(&self, py: Python<'_>) -> PyResult<u8> {
        let call = self.call.lock().take().ok_or_else(|| PyRuntimeError::new_err("the command was run before"))?;
        Ok(py.detach(|| call.run_elsewhere()))
    }
}

/// Reads the words behind the name of the command. Answers what they ask for, or the exit code where nothing is left to
/// be done. `program` is what calls the command again, `edition` is for `--version`, and `keeper` starts a process that calls
/// `keep`.
#[pyfunction]
pub fn parse_command(
    py: Python<'_>,
    program: String,
    edition: String,
    keeper: Vec<OsString>,
    words: Vec<OsString>,
) -> PyResult<Bound<'_, PyAny>> {
    let mut keeper = keeper.into_iter();
    let keeper = KeeperStart { program: keeper.next().unwrap_or_default(), words: keeper.collect() };
    let again = vec![keeper.program.clone(), "-m".into(), "datamill".into()];
    match py.detach(|| parse(words, &Called { program, edition, again, keeper })) {
        Next::Exit(code) => code.into_bound_py_any(py),
        Next::Run(task) => RustCommand(Mutex::new(Some(task))).into_bound_py_any(py),
        Next::Function(call) => FunctionCommand::from(call).into_bound_py_any(py),
    }
}

/// Makes this process the keeper of workers that are forked from it. `prepare` loads what they need, once, and `fork` makes one:
/// it gets the descriptors for its input, output, content, stdout and stderr, and what its environment has besides, and
/// answers the id of the process.
#[pyfunction]
pub fn keep_warm(py: Python<'_>, prepare: Py<PyAny>, fork: Py<PyAny>) -> u8 {
    let told = |error: PyErr| {
        let text = error.to_string();
        Python::attach(|py| error.print(py));
        std::io::Error::other(text)
    };
    let prepare = || Python::attach(|py| prepare.call0(py).map(drop)).map_err(told);
    let fork = |descriptors: [i32; 5], environment: &[(String, OsString)]| {
        Python::attach(|py| {
            let besides = PyDict::new(py);
            for (name, value) in environment {
                besides.set_item(name, value)?;
            }
            fork.call1(py, (descriptors, besides))?.extract::<i32>(py)
        })
        .map_err(told)
    };
    py.detach(|| datamill_workers::keep_warm(prepare, fork))
}

/// Makes this process the keeper of commands, and answers its exit code when it is not needed any more.
#[pyfunction]
pub fn keep(py: Python<'_>) -> u8 {
    py.detach(datamill_workers::keep)
}
