//! Chooses the backend.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::contract::Log;
use crate::error::Result;
use crate::own_files::OwnFiles;
use crate::{embedded, kafka};

/// The properties of a connection, in the words of librdkafka. Values may be secret: the debug form
/// shows the keys only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// For all clients; `bootstrap.servers` is here. A value `sqlite:PATH` is the embedded log.
    pub broker: BTreeMap<String, String>,
    /// For producers.
    pub producer: BTreeMap<String, String>,
    /// For consumers.
    pub consumer: BTreeMap<String, String>,
    /// The options with which a command of `datamill` opens the same log, such as `--config lab.config`; empty where
    /// it needs none. They go into the messages that name a command.
    pub options: String,
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Properties")
            .field("broker", &self.broker.keys())
            .field("producer", &self.producer.keys())
            .field("consumer", &self.consumer.keys())
            .field("options", &self.options)
            .finish()
    }
}

impl Properties {
    /// A command of `datamill` about this log, for a message to people: with the options that it needs.
    pub fn command(&self, words: &str) -> String {
        crate::error::command(words, &self.options)
    }
}

/// Opens the log that `bootstrap.servers` names: `sqlite:PATH` is the embedded log, anything else is
/// a Kafka cluster, which must answer within some seconds.
pub fn open(properties: &Properties) -> Result<Arc<dyn Log>> {
    match file(properties) {
        Some(path) => Ok(Arc::new(embedded::EmbeddedLog::open(path, &properties.options)?)),
        None => Ok(Arc::new(kafka::KafkaLog::open(properties)?)),
    }
}

/// The files of the log that `bootstrap.servers` names, as [`Log::own_files`] tells them, for what is written before
/// the log is opened.
///
/// # Errors
/// Where the file cannot be one of a log.
pub fn own_files(properties: &Properties) -> Result<OwnFiles> {
    file(properties).map_or(Ok(OwnFiles::default()), embedded::files_of)
}

/// The file of the embedded log.
fn file(properties: &Properties) -> Option<&str> {
    properties.broker.get("bootstrap.servers").and_then(|servers| servers.strip_prefix("sqlite:"))
}
