//! Messages of a topic, read without a group.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use datamill::broker::{self, ErrorKind, Event, Log, Offsets, Record};
use datamill::program::{Exit, SetUpError, open_existing};
use datamill::settings::Config;
use datamill::wire::headers;
use parking_lot::Mutex;
use pyo3::prelude::*;
use pyo3::types::PyBytes;

use crate::errors;

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
        self.value(py).map(|value| value.call_method0("decode")).transpose()
    }

    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("json")?.call_method1("loads", (self.value(py),))
    }

    fn __repr__(&self) -> String {
        let size = self.value.as_ref().map_or(0, Vec::len);
        format!("<Message of '{}', partition {}, offset {}, {size} bytes>", self.topic, self.partition, self.offset)
    }
}

/// The messages of a topic, one after another.
#[pyclass(frozen, module = "datamill._engine")]
pub struct Messages(Mutex<Reading>);

struct Reading {
    topic: Arc<str>,
    reader: Option<Box<dyn broker::Reader>>,
    /// What was read and not handed out.
    ready: VecDeque<Message>,
    /// Partitions whose end has not been reached, and the end that they had at the start.
    open: Vec<(i32, i64)>,
    /// Whether it waits for more behind those ends.
    follows: bool,
    _log: Arc<dyn Log>,
}

impl Reading {
    fn begin(topic: &str, config: Option<&str>, offset: Option<i64>, follows: bool) -> Result<Self, SetUpError> {
        let log = open_existing(&Config::load(config)?)?;
        let mut starts = Vec::new();
        let mut open = Vec::new();
        for partition in 0..log.topic(topic)?.partitions {
            let ends: Offsets = log.offsets(topic, partition)?;
            let last = ends.last_stable.max(ends.first);
            let start = match offset {
                None => ends.first,
                Some(back) if back < 0 => last.saturating_add(back).max(ends.first),
                Some(offset) => offset.clamp(ends.first, last),
            };
            if follows || start < ends.last_stable {
                starts.push((partition, start));
                open.push((partition, ends.last_stable));
            }
        }
        let reader = (!starts.is_empty()).then(|| log.reader(topic, &starts)).transpose()?;
        Ok(Self { topic: topic.into(), reader, ready: VecDeque::new(), open, follows, _log: log })
    }

    /// Reads on for a while. `false` at the end.
    fn step(&mut self) -> broker::Result<bool> {
        let Self { topic, reader: Some(reader), ready, open, follows, .. } = self else { return Ok(false) };
        if !*follows && open.is_empty() {
            return Ok(false);
        }
        let polled = reader.poll(WAIT, &mut |event| {
            let (partition, next) = match &event {
                Event::Record(record) => {
                    let is_wanted =
                        *follows || open.iter().any(|(p, end)| *p == record.partition && record.offset < *end);
                    if is_wanted {
                        ready.push_back(Message::of(topic, record));
                    }
                    (record.partition, record.offset + 1)
                }
                Event::End { partition, offset, .. } => (*partition, *offset),
                Event::Assigned(_) | Event::Revoked { .. } => return,
            };
            open.retain(|(p, end)| *p != partition || next < *end);
        });
        match polled {
            Ok(_) => Ok(true),
            // the log is away; it is waited for
            Err(error) if error.kind() == ErrorKind::Retry => Ok(true),
            Err(error) => Err(error),
        }
    }
}

#[pymethods]
impl Messages {
    #[new]
    #[pyo3(signature = (*, topic, config = None, offset = None, follow = false))]
    fn new(py: Python<'_>, topic: &str, config: Option<&str>, offset: Option<i64>, follow: bool) -> PyResult<Self> {
        let begun = py.detach(|| Reading::begin(topic, config, offset, follow));
        let reading = begun.map_err(|error| errors::of_program(py, &error, Exit::SetUp))?;
        Ok(Self(Mutex::new(reading)))
    }

    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        loop {
            let (message, stepped) = py.detach(|| {
                let mut reading = self.0.lock();
                match reading.ready.pop_front() {
                    Some(message) => (Some(message), Ok(true)),
                    None => (None, reading.step()),
                }
            });
            if message.is_some() {
                return Ok(message);
            }
            py.check_signals()?;
            if !stepped.map_err(|error| errors::of_program(py, &error, Exit::Stopped))? {
                return Ok(None);
            }
        }
    }
}
