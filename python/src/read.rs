//! Messages of a topic, read without a group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use datamill::broker::{self, ErrorKind, Record};
use datamill::program::{Exit, SetUpError, open_existing};
use datamill::read::{Start, TopicReader};
use datamill::report::text::{counted, counted_with, shell_word};
use datamill::settings::Config;
use datamill::wire::{Chunk, headers};
use parking_lot::Mutex;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors::{self, Speech};

/// How long one wait for messages lasts; after each, Python looks for signals.
const WAIT: Duration = Duration::from_millis(200);

/// A message.
#[pyclass(frozen, module = "datamill")]
pub struct Message {
    topic: Arc<str>,
    #[pyo3(get)]
    partition: i32,
    #[pyo3(get)]
    offset: i64,
    timestamp_ms: Option<i64>,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Message {
    fn of(topic: &Arc<str>, record: &Record<'_>) -> Self {
        Self {
            topic: Arc::clone(topic),
            partition: record.partition,
            offset: record.offset,
            timestamp_ms: record.timestamp_ms,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            headers: record.headers.iter().map(|(name, value)| ((*name).to_owned(), value.to_vec())).collect(),
        }
    }
}

impl Message {
    /// The error where the value is not what it was asked for as.
    fn is_not(&self, py: Python<'_>, what: &str, cause: PyErr) -> PyErr {
        let Self { topic, partition, offset, .. } = self;
        let is = match self.value.as_deref().map(|value| (value, Chunk::decode(value))) {
            None => format!("has no value, and so no {what}"),
            Some((_, Ok(chunk))) => {
                let path = chunk.rebuilt_path();
                format!(
                    "is chunk {} of {} of the file `{path}`, and not {what}: `datamill.reproduce` and `datamill.process` call \
                    a function with each whole file of a topic, and the command `datamill get {} {}` fetches one",
                    chunk.index,
                    chunk.total,
                    shell_word(topic),
                    shell_word(&path)
                )
            }
            Some((value, Err(_))) => {
                let bytes = counted_with(value.len() as u64, "byte", "that is", "that are");
                format!("has {bytes} not {what}: `value` has all, and `text()` their text")
            }
        };
        let error = PyValueError::new_err(format!(
            "the message of topic `{topic}`, partition {partition}, offset {offset} {is}"
        ));
        error.set_cause(py, Some(cause));
        error
    }
}

#[pymethods]
impl Message {
    #[getter]
    fn topic(&self) -> &str {
        &self.topic
    }

    #[getter]
    fn timestamp(&self) -> Option<f64> {
        self.timestamp_ms.map(|ms| ms as f64 / 1000.0)
    }

    #[getter]
    fn key<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.key.as_deref().map(|key| PyBytes::new(py, key))
    }

    #[getter]
    fn value<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyBytes>> {
        self.value.as_deref().map(|value| PyBytes::new(py, value))
    }

    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> Vec<(&str, Bound<'py, PyBytes>)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), PyBytes::new(py, value))).collect()
    }

    #[getter]
    fn path(&self) -> Option<String> {
        let header = self.headers.iter().find(|(name, _)| name == headers::SOURCE_PATH);
        header.map(|(_, value)| String::from_utf8_lossy(value).into_owned())
    }

    fn text<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let text = self.value(py).map(|value| value.call_method0("decode")).transpose();
        text.map_err(|error| self.is_not(py, "text", error))
    }

    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let loads = py.import("json")?.getattr("loads")?;
        loads.call1((self.value(py),)).map_err(|error| self.is_not(py, "JSON", error))
    }

    fn __repr__(&self) -> String {
        let size = self.value.as_ref().map_or(0, Vec::len);
        let size = counted(size as u64, "byte");
        format!("<Message of '{}', partition {}, offset {}, {size}>", self.topic, self.partition, self.offset)
    }
}

/// The messages of a topic, one after another.
#[pyclass(frozen, module = "datamill._engine")]
pub struct Messages {
    reading: Mutex<Option<Reading>>,
    speech: Speech,
}

struct Reading {
    topic: Arc<str>,
    reader: TopicReader,
    /// What was read and not handed out.
    ready: VecDeque<Message>,
}

impl Reading {
    /// `None` where it was asked to `stop` before there was something to hand out.
    fn begin(
        topic: &str,
        config: Option<&str>,
        offset: Option<i64>,
        follows: bool,
        newest: bool,
        stop: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, SetUpError> {
        let log = open_existing(&Config::load(config)?)?;
        let start = offset.map_or(Start::Earliest, Start::from);
        let reader = match newest {
            true => TopicReader::newest(&log, topic, None, start, stop)?,
            false => Some(TopicReader::open(&log, topic, None, start, follows)?),
        };
        Ok(reader.map(|reader| Self { topic: topic.into(), reader, ready: VecDeque::new() }))
    }

    /// The next message, or none where none came for a while.
    fn next(&mut self) -> broker::Result<Next> {
        if let Some(message) = self.ready.pop_front() {
            return Ok(Next::Message(message));
        }
        if self.reader.is_at_end() {
            return Ok(Next::End);
        }
        let Self { topic, reader, ready } = self;
        match reader.poll(WAIT, &mut |record| ready.push_back(Message::of(topic, record))) {
            // the log is away; it is waited for
            Err(error) if error.kind() == ErrorKind::Retry => Ok(Next::Nothing),
            Err(error) => Err(error),
            Ok(()) => Ok(ready.pop_front().map_or(Next::Nothing, Next::Message)),
        }
    }
}

enum Next {
    Message(Message),
    Nothing,
    End,
}

/// A connection is closed without the interpreter's lock: that may take a while.
impl Drop for Messages {
    fn drop(&mut self) {
        let mut reading = self.reading.get_mut().take();
        // where the interpreter ends, nobody waits for its lock
        Python::try_attach(|py| py.detach(|| drop(reading.take())));
    }
}

#[pymethods]
impl Messages {
    #[allow(clippy::too_many_arguments, reason = "each is a keyword in Python")]
    #[new]
    #[pyo3(signature = (*, topic, config = None, offset = None, follow = false, newest = false, speak = None))]
    fn new(
        py: Python<'_>,
        topic: &str,
        config: Option<&str>,
        offset: Option<i64>,
        follow: bool,
        newest: bool,
        speak: Option<Py<PyAny>>,
    ) -> PyResult<Self> {
        let speech = Speech(speak);
        let signal = Mutex::new(None);
        let stop = || {
            let raised = Python::attach(|py| py.check_signals().err());
            raised.is_some_and(|error| signal.lock().replace(error).is_none())
        };
        let begun = py.detach(|| Reading::begin(topic, config, offset, follow, newest, &stop));
        if let Some(raised) = signal.into_inner() {
            return Err(raised);
        }
        let reading = begun.map_err(|error| errors::of_program(py, &error, Exit::of_refusal(&error), &speech))?;
        Ok(Self { reading: Mutex::new(reading), speech })
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        loop {
            let next = py.detach(|| self.reading.lock().as_mut().map_or(Ok(Next::End), Reading::next));
            match next.map_err(|error| errors::of_program(py, &error, Exit::Stopped, &self.speech))? {
                Next::Message(message) => return Ok(Some(message)),
                Next::End => return Ok(None),
                Next::Nothing => py.check_signals()?,
            }
        }
    }
}
