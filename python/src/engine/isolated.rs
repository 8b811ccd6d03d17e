//! A function in processes of its own (`--isolate`): what the engine starts them with.

use std::ffi::OsString;
use std::time::Duration;

use datamill::assemble::Mode;
use datamill_workers::{CommandSettings, KeeperStart, Results};
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::command_line::Options;
use crate::errors;

/// The workers, if they are asked for. `worker` is the function of Python that knows how they are started.
pub fn settings(
    py: Python<'_>,
    options: &Options,
    name: &str,
    has_words: bool,
    default: Option<&Py<PyAny>>,
    worker: Option<Py<PyAny>>,
) -> PyResult<Option<CommandSettings>> {
    let isolation = options.isolation();
    if !isolation.isolate {
        return Ok(None);
    }
    let Some(worker) = worker else {
        return Err(errors::set_up(
            py,
            "this program brings files somewhere, and has no function for `--isolate`".to_owned(),
        ));
    };
    let consumer = options.consumer();
    let serving = PyDict::new(py);
    serving.set_item("name", name)?;
    serving.set_item("has_results", options.has_results())?;
    serving.set_item("nan", options.nan().word())?;
    serving.set_item("output_dir", consumer.output_dir(name))?;
    serving.set_item("stays_on_disk", consumer.mode != Mode::Memory)?;
    serving.set_item("has_words", has_words)?;
    serving.set_item("default", default)?;
    let started = worker.call1(py, (serving, isolation.warm))?;
    let (words, keeper): (Vec<OsString>, Vec<OsString>) = started.extract(py)?;
    let mut keeper = keeper.into_iter();
    Ok(Some(CommandSettings {
        words,
        stdin: false,
        stdout: false,
        worker: true,
        restart_after: isolation.limits.restart_after(),
        results: if options.has_results() { Results::Each } else { Results::None },
        memory: isolation.limits.memory(),
        address_space: isolation.limits.address_space(),
        shutdown_timeout: Duration::from_secs(consumer.shutdown_timeout),
        keeper: KeeperStart { program: keeper.next().unwrap_or_default(), words: keeper.collect() },
    }))
}
