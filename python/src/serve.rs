//! The worker's side of the protocol in `docs/workers.md`: a function that is called for one file after the other, in a process
//! of its own.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use datamill::assemble::SharedContent;
use datamill::process::{Answer, ErrorKind, ReproducerMessage};
use parking_lot::Mutex;
use pyo3::exceptions::{PyOSError, PyValueError};
use pyo3::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::engine::{Reading, leave};
use crate::file::{DownloadDataFile, FileParts, Place};

/// Files whose NaN are told of.
const NAMED: u64 = 5;

/// Calls the function for each file that datamill hands to this process, until there are no more.
#[pyfunction]
#[pyo3(signature = (code, logger, *, name, has_results, nan, output_dir, stays_on_disk, has_words, default=None))]
#[expect(clippy::too_many_arguments, reason = "they are named where this is called")]
pub fn serve(
    py: Python<'_>,
    code: &Bound<'_, PyAny>,
    logger: Py<PyAny>,
    name: &str,
    has_results: bool,
    nan: &str,
    output_dir: PathBuf,
    stays_on_disk: bool,
    has_words: bool,
    default: Option<Py<PyAny>>,
) -> PyResult<()> {
    let nan = nan.parse().map_err(PyValueError::new_err)?;
    let reading = Reading::new(has_results, nan, default, has_words);
    let mut line = Line::open()?;
    line.say(&json!({ "type": "hello", "version": 1, "program": name }), &[])?;
    let (output_dir, process, mut with_nans) = (Arc::new(output_dir), std::process::id(), 0);
    while let Some((file, content)) = py.detach(|| line.next())? {
        let place = Arc::new(Lender::new(&file, &output_dir));
        let parts = file.parts(content)?;
        let path = Arc::clone(&parts.path);
        let file_object = DownloadDataFile::of_parts(
            parts,
            Arc::clone(&output_dir),
            stays_on_disk,
            logger.clone_ref(py),
            Place::Lent(Arc::clone(&place)),
        );
        let answered = Bound::new(py, file_object).and_then(|file| code.call1((file,)));
        if std::process::id() != process {
            leave(py, answered.err());
            return Ok(());
        }
        let (answer, nans) = reading.read(py, &path, answered);
        place.take_back();
        with_nans += u64::from(nans > 0);
        let warning = (nans > 0 && with_nans <= NAMED)
            .then(|| format!("{nans} NaN, infinite or missing values of the result were written as null"));
        py.detach(|| line.answer(file.id, answer, warning))?;
    }
    Ok(())
}

/// The descriptors to datamill.
struct Line {
    source: BufReader<File>,
    target: File,
}

impl Line {
    fn open() -> PyResult<Self> {
        let place = |variable| {
            let number = std::env::var(variable);
            number.map(|number| format!("/dev/fd/{number}")).map_err(|_| {
                PyOSError::new_err(format!("the environment has no {variable}: datamill starts this process"))
            })
        };
        let source = BufReader::with_capacity(128 << 10, File::open(place("DATAMILL_INPUT")?)?);
        Ok(Self { source, target: File::options().write(true).open(place("DATAMILL_OUTPUT")?)? })
    }

    fn say(&mut self, header: &Value, payload: &[u8]) -> io::Result<()> {
        let header = header.to_string().into_bytes();
        let length = u32::try_from(header.len()).map_err(io::Error::other)?;
        let mut frame = Vec::with_capacity(4 + header.len() + payload.len());
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(&header);
        frame.extend_from_slice(payload);
        self.target.write_all(&frame)
    }

    /// The next file with its content; `None` at the end of the input.
    fn next(&mut self) -> io::Result<Option<(Header, Vec<u8>)>> {
        let mut length = [0; 4];
        match self.source.read_exact(&mut length) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let mut header = vec![0; u32::from_be_bytes(length) as usize];
        self.source.read_exact(&mut header)?;
        let header: Header = serde_json::from_slice(&header)?;
        let content = match (&header.path, header.bytes) {
            (Some(path), _) => fs::read(path)?,
            (None, bytes) => {
                let mut content = vec![0; bytes.unwrap_or_default()];
                self.source.read_exact(&mut content)?;
                content
            }
        };
        Ok(Some((header, content)))
    }

    fn answer(&mut self, id: u64, answer: Answer, warning: Option<String>) -> io::Result<()> {
        match answer {
            Ok(None) => self.say(&json!({ "type": "nothing", "id": id }), &[]),
            Ok(Some(message)) => self.say(&header_of(id, &message, warning), message.value()),
            Err(error) => {
                let kind = match error.kind() {
                    ErrorKind::FileFailed => "failed",
                    ErrorKind::NotAvailable => "not_available",
                    ErrorKind::Stop => "stop",
                };
                self.say(&json!({ "type": kind, "id": id, "reason": error.to_string() }), &[])
            }
        }
    }
}

fn header_of(id: u64, message: &ReproducerMessage, warning: Option<String>) -> Value {
    let mut header = json!({ "type": "result", "id": id, "bytes": message.value().len() });
    if let Some(key) = message.key() {
        header["key"] = text_or_base64(key);
    }
    let headers: Vec<Value> = message.headers().map(|(name, value)| json!([name, text_or_base64(value)])).collect();
    if !headers.is_empty() {
        header["headers"] = headers.into();
    }
    if let Some(warning) = warning {
        header["warning"] = warning.into();
    }
    header
}

fn text_or_base64(bytes: &[u8]) -> Value {
    match str::from_utf8(bytes) {
        Ok(text) => text.into(),
        Err(_) => json!({ "base64": STANDARD.encode(bytes) }),
    }
}

/// What datamill says of a file.
#[derive(Debug, Deserialize)]
struct Header {
    id: u64,
    relative_path: String,
    filename: String,
    sha512: String,
    modified: Option<f64>,
    chunks: u32,
    attempt: u32,
    is_last_attempt: bool,
    path: Option<PathBuf>,
    bytes: Option<usize>,
}

impl Header {
    fn parts(&self, content: Vec<u8>) -> PyResult<FileParts> {
        let digit = |at: usize| self.sha512.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        let mut sha512 = [0; 64];
        for (number, byte) in sha512.iter_mut().enumerate() {
            *byte = digit(2 * number).ok_or_else(|| PyValueError::new_err("datamill has sent a hash that is none"))?;
        }
        let time = self.modified.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        Ok(FileParts {
            path: self.relative_path.as_str().into(),
            sha512,
            modified: time.and_then(|time| UNIX_EPOCH.checked_add(time)),
            n_chunks: self.chunks,
            attempt: self.attempt,
            is_last: self.is_last_attempt,
            content: SharedContent::from(content),
        })
    }
}

/// Puts a file on disk for a function that wants it there, until its call is over.
pub struct Lender {
    state: Mutex<Lent>,
    process: u32,
}

enum Lent {
    /// Datamill has put it there.
    There(PathBuf),
    /// It is to be written, under this name, into a folder in this one.
    Content { name: String, folder: PathBuf },
    /// It is written, under this name; the folder goes with it.
    Written(TempDir, String),
    /// The call is over.
    Over,
}

impl Lender {
    fn new(file: &Header, output_dir: &Path) -> Self {
        // a path below /dev is memory, and has no name of its own
        let there = file.path.as_ref().filter(|path| !path.starts_with("/dev"));
        let state = match there {
            Some(path) => Lent::There(path.clone()),
            None => Lent::Content { name: file.filename.clone(), folder: output_dir.join(".datamill/work") },
        };
        Self { state: Mutex::new(state), process: std::process::id() }
    }

    /// Where the file is; `None` where the call is over, and in a process that was forked.
    pub fn path(&self, content: &[u8]) -> Option<io::Result<PathBuf>> {
        if std::process::id() != self.process {
            return None;
        }
        let mut state = self.state.lock();
        if let Lent::Content { name, folder } = &*state {
            let written = tempfile::Builder::new().prefix("run-").tempdir_in(folder).and_then(|folder| {
                fs::write(folder.path().join(name), content)?;
                Ok(Lent::Written(folder, name.clone()))
            });
            match written {
                Ok(written) => *state = written,
                Err(error) => return Some(Err(error)),
            }
        }
        match &*state {
            Lent::There(path) => Some(Ok(path.clone())),
            Lent::Written(folder, name) => Some(Ok(folder.path().join(name))),
            Lent::Content { .. } | Lent::Over => None,
        }
    }

    fn take_back(&self) {
        *self.state.lock() = Lent::Over;
    }
}
