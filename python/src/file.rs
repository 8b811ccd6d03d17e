//! A whole file as Python sees it.

use std::ffi::c_int;
use std::path::PathBuf;
use std::ptr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use datamill::assemble::SharedContent;
use datamill::report::text::counted;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyBytes;

use crate::engine::{Job, Line};
use crate::errors;
use crate::serve::Lender;

/// A data file that was rebuilt from its chunks: whole, and with the SHA-512 that its uploader took.
#[pyclass(frozen, dict, weakref, module = "datamill")]
pub struct DownloadDataFile {
    path: Arc<str>,
    sha512: [u8; 64],
    modified: Option<SystemTime>,
    #[pyo3(get)]
    n_total_chunks: u32,
    #[pyo3(get)]
    _attempt: u32,
    #[pyo3(get)]
    _is_last_attempt: bool,
    content: SharedContent,
    /// Copied once.
    bytes: PyOnceLock<Py<PyBytes>>,
    on_disk: PyOnceLock<PathBuf>,
    stays_on_disk: bool,
    output_dir: Arc<PathBuf>,
    #[pyo3(get)]
    logger: Py<PyAny>,
    /// Who puts it on disk, as long as the call runs.
    place: Place,
}

/// Who puts a file on disk.
pub enum Place {
    /// The thread of the engine that has the file.
    Engine(Line),
    /// This process, which has no engine.
    Lent(Arc<Lender>),
}

/// What is known of a file.
pub struct FileParts {
    pub path: Arc<str>,
    pub sha512: [u8; 64],
    pub modified: Option<SystemTime>,
    pub n_chunks: u32,
    pub attempt: u32,
    pub is_last: bool,
    pub content: SharedContent,
}

impl DownloadDataFile {
    pub fn new(job: &Job, output_dir: Arc<PathBuf>, stays_on_disk: bool, logger: Py<PyAny>) -> Self {
        let parts = FileParts {
            path: Arc::clone(&job.path),
            sha512: job.sha512,
            modified: job.modified,
            n_chunks: job.n_chunks,
            attempt: job.attempt,
            is_last: job.is_last,
            content: job.content.clone(),
        };
        Self::of_parts(parts, output_dir, stays_on_disk, logger, Place::Engine(job.line.clone()))
    }

    pub fn of_parts(
        parts: FileParts,
        output_dir: Arc<PathBuf>,
        stays_on_disk: bool,
        logger: Py<PyAny>,
        place: Place,
    ) -> Self {
        Self {
            path: parts.path,
            sha512: parts.sha512,
            modified: parts.modified,
            n_total_chunks: parts.n_chunks,
            _attempt: parts.attempt,
            _is_last_attempt: parts.is_last,
            content: parts.content,
            bytes: PyOnceLock::new(),
            on_disk: PyOnceLock::new(),
            stays_on_disk,
            output_dir,
            logger,
            place,
        }
    }

    fn content(&self) -> &[u8] {
        self.content.as_ref()
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Asks the engine, which puts it there.
    fn on_disk(&self, py: Python<'_>) -> PyResult<&PathBuf> {
        let path = || match &self.place {
            Place::Engine(line) => line.path(),
            Place::Lent(lender) => Some(lender.path(self.content())?.map_err(Into::into)),
        };
        self.on_disk.get_or_try_init(py, || match py.detach(path) {
            Some(Ok(path)) => Ok(path),
            Some(Err(error)) if error.kind() == datamill::process::ErrorKind::NotAvailable => {
                Err(errors::raised(py, "NotAvailable", (error.to_string(),)))
            }
            Some(Err(error)) => Err(PyOSError::new_err(error.to_string())),
            None => Err(PyRuntimeError::new_err(format!(
                "`{}` is not on disk any more: path() works while the function that got the file runs, in the process \
                that it was called in",
                self.path
            ))),
        })
    }
}

fn pure_path<'py>(py: Python<'py>, path: impl IntoPyObject<'py>) -> PyResult<Bound<'py, PyAny>> {
    static PATH: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    PATH.import(py, "pathlib", "Path")?.call1((path,))
}

#[pymethods]
impl DownloadDataFile {
    /// The content, copied once.
    #[getter]
    fn bytestring<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyBytes>> {
        let py = slf.py();
        // `bytes(self)`, which raises MemoryError where there is no room
        let copy = || Ok::<_, PyErr>(py.get_type::<PyBytes>().call1((slf,))?.cast_into::<PyBytes>()?.unbind());
        Ok(slf.get().bytes.get_or_try_init(py, copy)?.bind(py).clone())
    }

    #[getter]
    fn filename(&self) -> &str {
        self.name()
    }

    #[getter]
    fn relative_filepath<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        pure_path(py, &*self.path)
    }

    #[getter]
    fn subdir_str(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    #[getter]
    fn full_filepath<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if self.stays_on_disk { self.path(py) } else { pure_path(py, self.output_dir.join(&*self.path)) }
    }

    #[getter]
    fn filepath<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.full_filepath(py)
    }

    #[getter]
    fn check_file_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.sha512)
    }

    #[getter]
    fn sha512(&self) -> String {
        self.sha512.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[getter]
    fn size(&self) -> usize {
        self.content().len()
    }

    #[getter]
    fn mtime(&self) -> Option<f64> {
        let time = self.modified?;
        Some(match time.duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_secs_f64(),
            Err(before) => -before.duration().as_secs_f64(),
        })
    }

    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        pure_path(py, self.on_disk(py)?)
    }

    fn open<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("datamill._stream")?.call_method1("open_content", (slf,))
    }

    fn __repr__(&self) -> String {
        let size = counted(self.content().len() as u64, "byte");
        format!("<DownloadDataFile '{}', {size}>", self.path.escape_debug())
    }

    /// The content as it lies there, read-only, alive as long as the buffer is.
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: &Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: c_int) -> PyResult<()> {
        let content = slf.get().content();
        let start: *const u8 = if content.is_empty() { ptr::NonNull::dangling().as_ptr() } else { content.as_ptr() };
        let Ok(len) = content.len().try_into() else {
            return Err(PyOSError::new_err("the file is too large for a buffer"));
        };
        // SAFETY: the interpreter calls this with a `view` that it owns. The view gets a reference to this object, which
        // owns the content, is frozen, and is dropped only once its last view is released; the content neither moves nor
        // changes while it lives, and the view is read-only.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), start.cast_mut().cast(), len, 1, flags) };
        if filled == 0 { Ok(()) } else { Err(PyErr::fetch(slf.py())) }
    }
}
