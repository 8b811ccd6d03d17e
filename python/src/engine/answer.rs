//! What the function answered, as the engine takes it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use datamill::process::{Answer, ProcessingError, ReproducerMessage};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMapping, PyString, PyTuple};

use crate::errors;
use crate::to_json::{self, Nan};

/// What the function is for, and how its answers are read.
pub struct Reading {
    /// Whether it has to answer with a result.
    has_results: bool,
    /// How dictionaries are written.
    json: to_json::Options,
    /// Files whose dictionaries held NaN.
    with_nans: AtomicU64,
}

/// Files that are named because NaN became `null` in their results; the lines of the others are for `debug`.
const NAMED: u64 = 5;

impl Reading {
    /// `has_words`: whether the program speaks of options of a command line, and not of keywords.
    pub fn new(has_results: bool, nan: Nan, default: Option<Py<PyAny>>, has_words: bool) -> Self {
        let json = to_json::Options { nan, default, of_program: has_words };
        Self { has_results, json, with_nans: AtomicU64::new(0) }
    }

    /// The engine's answer. Whatever is wrong with the function's is a failure of its file.
    pub fn of<'py>(&self, py: Python<'py>, path: &str, answered: PyResult<Bound<'py, PyAny>>) -> Answer {
        let (answer, nans) = self.read(py, path, answered);
        if nans > 0 {
            self.tell_nans(py, path, nans);
        }
        answer
    }

    /// The same, with the number of values that became `null`, which nobody is told of.
    pub fn read<'py>(&self, py: Python<'py>, path: &str, answered: PyResult<Bound<'py, PyAny>>) -> (Answer, u64) {
        let read = answered.and_then(|answer| {
            if !self.has_results {
                return nothing(&answer).map(|()| (None, 0));
            }
            let (message, nans) = message(&answer, &self.json)?;
            Ok((Some(message), if self.json.nan == Nan::Null { nans } else { 0 }))
        });
        match read {
            Ok((message, nans)) => (Ok(message), nans),
            Err(error) => (Err(failure(py, path, error).unwrap_or_else(ProcessingError::file_failed)), 0),
        }
    }

    fn tell_nans(&self, py: Python<'_>, path: &str, values: u64) {
        let before = self.with_nans.fetch_add(1, Relaxed);
        py.detach(|| match before {
            0..NAMED => {
                tracing::warn!(
                    file = path,
                    values,
                    "NaN, infinite or missing values of the result were written as null"
                );
            }
            NAMED => tracing::warn!(
                file = path,
                values,
                "NaN, infinite or missing values of the result were written as null; further files are named with \
                `--logger_stream_level debug`"
            ),
            _ => tracing::debug!(
                file = path,
                values,
                "NaN, infinite or missing values of the result were written as null"
            ),
        });
    }
}

/// The answer of a processor.
fn nothing(answer: &Bound<'_, PyAny>) -> PyResult<()> {
    if answer.is_none() {
        return Ok(());
    }
    if answer.is_instance_of::<PyBaseException>() {
        return Err(PyErr::from_value(answer.clone()));
    }
    let remedy =
        "a processor answers with nothing; raise an exception if the file failed, and use `reproduce` for results";
    Err(refused(answer, remedy))
}

/// The answer of a reproducer, and how many of its values were NaN.
pub fn message(answer: &Bound<'_, PyAny>, json: &to_json::Options) -> PyResult<(ReproducerMessage, u64)> {
    if answer.is_none() {
        return Err(refused(answer, "answer with the result; is a `return` missing?"));
    }
    if answer.is_instance_of::<PyBaseException>() {
        return Err(PyErr::from_value(answer.clone()));
    }
    if let Some((value, nans)) = value(answer, json)? {
        return Ok((ReproducerMessage::new(value), nans));
    }
    let Some(said) = answer.getattr_opt("msg_value")? else {
        let remedy = match to_json::remedy(answer) {
            Some(remedy) => format!("{remedy}; a list or a number goes into a dictionary, as in `{{'value': …}}`"),
            None => {
                "answer with a dictionary, a text, bytes, or a ReproducerMessage; what is none of these goes into a \
                dictionary, as in `{'value': …}`"
                    .to_owned()
            }
        };
        return Err(refused(answer, &remedy));
    };
    let Some((value, nans)) = value(&said, json)? else {
        return Err(refused(&said, "`msg_value` is a text, bytes, or a dictionary"));
    };
    let mut message = ReproducerMessage::new(value);
    let key = answer.getattr("msg_key")?;
    if !key.is_none() {
        message = message.with_key(bytes(&key)?.ok_or_else(|| refused(&key, "`msg_key` is a text, bytes, or None"))?);
    }
    if let Some(headers) = answer.getattr_opt("msg_headers")?.filter(|headers| !headers.is_none()) {
        for header in headers.try_iter()? {
            let header = header?;
            let (name, value) = header.cast::<PyTuple>()?.extract::<(String, Bound<'_, PyAny>)>()?;
            let value = bytes(&value)?.ok_or_else(|| refused(&value, "a header is a text or bytes"))?;
            message = message.with_header(name, value);
        }
    }
    Ok((message, nans))
}

/// The value of a message, and how many of its values were NaN.
fn value(answer: &Bound<'_, PyAny>, json: &to_json::Options) -> PyResult<Option<(Vec<u8>, u64)>> {
    if let Some(bytes) = bytes(answer)? {
        return Ok(Some((bytes, 0)));
    }
    if answer.cast::<PyMapping>().is_ok() {
        let dumped = to_json::dump(answer, json)?;
        return Ok(Some((dumped.text.into_bytes(), dumped.nans)));
    }
    Ok(None)
}

fn bytes(answer: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    if let Ok(bytes) = answer.cast::<PyBytes>() {
        return Ok(Some(bytes.as_bytes().to_vec()));
    }
    if let Ok(text) = answer.cast::<PyString>() {
        return Ok(Some(text.to_str()?.as_bytes().to_vec()));
    }
    match pyo3::buffer::PyBuffer::<u8>::get(answer) {
        Ok(buffer) => Ok(Some(buffer.to_vec(answer.py())?)),
        Err(_) => Ok(None),
    }
}

fn refused(answer: &Bound<'_, PyAny>, remedy: &str) -> PyErr {
    let kind = match answer.is_none() {
        true => "None".to_owned(),
        false => answer.get_type().qualname().map_or_else(|_| "?".to_owned(), |name| name.to_string()),
    };
    errors::raised(answer.py(), "WrongAnswer", (format!("the function answered with `{kind}`: {remedy}"),))
}

/// The failure that an exception is. The texts are made in Python, where tracebacks are.
fn failure(py: Python<'_>, path: &str, error: PyErr) -> Result<ProcessingError, String> {
    let described = py
        .import("datamill._failure")
        .and_then(|module| module.call_method1("describe", (path, error.clone_ref(py).into_value(py))))
        .and_then(|described| described.extract::<(String, String)>());
    match described {
        Ok((kind, reason)) => Ok(match kind.as_str() {
            "not available" => ProcessingError::not_available(reason),
            "stop" => ProcessingError::stop(reason),
            _ => ProcessingError::file_failed(reason),
        }),
        Err(_) => Err(error.get_type(py).qualname().map_or_else(|_| "an exception".to_owned(), |n| n.to_string())),
    }
}
