//! What the function answered, as the engine takes it.

use datamill::process::{ProcessingError, ReproducerMessage};
use pyo3::exceptions::PyBaseException;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyMapping, PyString, PyTuple};

use super::desk::Answer;
use crate::errors;

/// What the function is for, and how its answers are read.
pub struct Reading {
    /// Whether it has to answer with a result.
    pub has_results: bool,
}

impl Reading {
    /// The engine's answer. Whatever is wrong with the function's is a failure of its file.
    pub fn of<'py>(&self, py: Python<'py>, path: &str, answered: PyResult<Bound<'py, PyAny>>) -> Answer {
        let read = answered.and_then(
            |answer| {
                if self.has_results { message(&answer) } else { nothing(&answer).map(|()| None) }
            },
        );
        read.map_err(|error| failure(py, path, error).unwrap_or_else(ProcessingError::file_failed))
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
    Err(refused(answer, "a processor answers with nothing; raise an exception if the file failed"))
}

/// The answer of a reproducer.
pub fn message(answer: &Bound<'_, PyAny>) -> PyResult<Option<ReproducerMessage>> {
    if answer.is_none() {
        return Err(refused(answer, "answer with the result"));
    }
    if answer.is_instance_of::<PyBaseException>() {
        return Err(PyErr::from_value(answer.clone()));
    }
    if let Some(value) = value(answer)? {
        return Ok(Some(ReproducerMessage::new(value)));
    }
    let Ok(said) = answer.getattr("msg_value") else {
        return Err(refused(answer, "answer with a dictionary, a text, bytes, or a ReproducerMessage"));
    };
    let Some(value) = value(&said)? else {
        return Err(refused(&said, "`msg_value` is a text, bytes, or a dictionary"));
    };
    let mut message = ReproducerMessage::new(value);
    let key = answer.getattr("msg_key")?;
    if !key.is_none() {
        message = message.with_key(bytes(&key)?.ok_or_else(|| refused(&key, "`msg_key` is a text, bytes, or None"))?);
    }
    if let Ok(headers) = answer.getattr("msg_headers") {
        for header in headers.try_iter()? {
            let header = header?;
            let (name, value) = header.cast::<PyTuple>()?.extract::<(String, Bound<'_, PyAny>)>()?;
            let value = bytes(&value)?.ok_or_else(|| refused(&value, "a header is a text or bytes"))?;
            message = message.with_header(name, value);
        }
    }
    Ok(Some(message))
}

/// The value of a message.
fn value(answer: &Bound<'_, PyAny>) -> PyResult<Option<Vec<u8>>> {
    if let Some(bytes) = bytes(answer)? {
        return Ok(Some(bytes));
    }
    if answer.cast::<PyMapping>().is_ok() {
        let json = answer.py().import("json")?.call_method1("dumps", (answer,))?;
        return bytes(&json);
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
    let kind = answer.get_type().qualname().map_or_else(|_| "?".to_owned(), |name| name.to_string());
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
