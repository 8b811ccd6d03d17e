//! A function and a local file, for `datamill try`: what the engine does, but for everything around it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use datamill::process::ProcessingError;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::engine::{Ear, Job, Said, leave, message};
use crate::file::DownloadDataFile;
use crate::to_json::Options;

/// Calls the function for a local file. Answers with the value of the message that its answer becomes, and how many of its
/// values were NaN; with `None` where it answers with that. What it raises comes back as it is. `nan` says what becomes of
/// NaN in a dictionary, and `output_dir` where the file would be in a program with an output folder.
#[pyfunction]
pub fn try_file<'py>(
    py: Python<'py>,
    function: &Bound<'py, PyAny>,
    logger: Py<PyAny>,
    path: PathBuf,
    nan: &str,
    output_dir: PathBuf,
) -> PyResult<Option<(Bound<'py, PyBytes>, u64)>> {
    let json = Options { nan: nan.parse().map_err(PyValueError::new_err)?, default: None, of_program: true };
    let content = py.detach(|| fs::read(&path))?;
    let ear = Arc::default();
    let job = Job::of_local(&path, content, &ear);
    let engine = std::thread::Builder::new().name("datamill-try".to_owned()).spawn(move || listen(&ear, &path))?;
    let process = std::process::id();
    let file = Bound::new(py, DownloadDataFile::new(&job, Arc::new(output_dir), false, logger))?;
    let answered = function.call1((file,));
    if std::process::id() != process {
        leave(py, answered.err());
        return Ok(None);
    }
    let value = answered.and_then(|answer| match answer.is_none() {
        true => Ok(None),
        false => message(&answer, &json).map(|(message, nans)| Some((PyBytes::new(py, message.value()), nans))),
    });
    job.answer(Ok(None));
    // it has nothing to say, and what it lent is gone when it has ended
    let _ = py.detach(|| engine.join());
    value
}

/// The largest entry of a result that is a JSON object, and its bytes.
#[pyfunction]
pub fn largest_entry(result: &[u8]) -> Option<(String, usize)> {
    datamill::process::largest_entry(str::from_utf8(result).ok()?)
}

/// The engine's side of the call: puts a copy of the file on disk where that is asked for, until the call is over.
fn listen(ear: &Ear, path: &Path) {
    let mut lent = None;
    loop {
        for (_, said) in ear.listen(Duration::from_secs(60)) {
            match said {
                Said::Path(reply) => {
                    let copied = copy(path).map(|(folder, copy)| {
                        lent = Some(folder);
                        copy
                    });
                    // who asked may be gone
                    let _ = reply.send(copied.map_err(ProcessingError::from));
                }
                Said::Done(_) => return,
            }
        }
    }
}

/// In a folder of its own, under its own name.
fn copy(path: &Path) -> io::Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir()?;
    let copy = folder.path().join(path.file_name().unwrap_or_default());
    fs::copy(path, &copy)?;
    Ok((folder, copy))
}
