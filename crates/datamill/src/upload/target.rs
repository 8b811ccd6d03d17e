//! The topic that is uploaded to: whether it is still the one that it was, and how many partitions it has.
//!
//! ```text
//! file ──▶ begin: asked within the last second? ──▶ partitions ──▶ chunks ──▶ acknowledged
//!                                                                                  │
//!                            delivered ◀── the same id ◀── asked once more ◀───────┘
//! ```
//!
//! An acknowledgement may come from a topic that is deleted a moment later, or from one that was created again in the
//! middle of a file. So a file counts as delivered once its topic has the same id after its last acknowledgement as
//! before its first chunk. One question answers for all files that were acknowledged before it.

use std::time::{Duration, Instant};

use datamill_broker::{Error, ErrorKind, Log, Operation, Topic};
use tracing::debug;

use super::error::UploadError;
use crate::report::chain;

/// Longest age of what is known of the topic when a file begins, and time between questions while records are on
/// their way.
const EVERY: Duration = Duration::from_secs(1);

/// How long a topic may be unknown to the log: a broker may not have heard of it yet.
const UNKNOWN_FOR: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Target<'a> {
    log: &'a dyn Log,
    name: String,
    id: Option<String>,
    partitions: i32,
    asked: Instant,
    /// The last question had no answer.
    is_silent: bool,
    unknown_since: Option<Instant>,
}

impl<'a> Target<'a> {
    pub(super) fn new(log: &'a dyn Log, topic: &Topic) -> Self {
        Self {
            log,
            name: topic.name.clone(),
            id: topic.id.clone(),
            partitions: topic.partitions,
            asked: Instant::now(),
            is_silent: false,
            unknown_since: None,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn log(&self) -> &'a dyn Log {
        self.log
    }

    /// The topic's id, where the log tells it.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Number of partitions for a file that begins now. A file that is under way keeps the number that it began with.
    ///
    /// # Errors
    /// [`UploadError::TopicReplaced`], and where the topic is gone.
    pub(super) fn partitions(&mut self) -> Result<i32, UploadError> {
        if self.asked.elapsed() >= EVERY {
            self.is_same()?;
        }
        Ok(self.partitions)
    }

    /// Whether what was acknowledged before this call is in the topic, if it is time to ask; `idle` is that nothing
    /// is on its way.
    ///
    /// # Errors
    /// [`UploadError::TopicReplaced`], and where the topic is gone.
    pub(super) fn confirms(&mut self, idle: bool) -> Result<bool, UploadError> {
        if self.id.is_none() {
            return Ok(true);
        }
        if (idle && !self.is_silent) || self.asked.elapsed() >= EVERY { self.is_same() } else { Ok(false) }
    }

    /// The error, or that the topic is another one, which explains it.
    pub(super) fn explain(&mut self, error: UploadError) -> UploadError {
        match error.refusal() {
            Some(ErrorKind::UnknownTopic) => match self.is_same() {
                Err(replaced @ UploadError::TopicReplaced { .. }) => replaced,
                _ => error,
            },
            _ => error,
        }
    }

    /// Asks. A log that does not answer is asked again later.
    fn is_same(&mut self) -> Result<bool, UploadError> {
        let answer = self.log.topic_now(&self.name);
        self.asked = Instant::now();
        self.is_silent = answer.is_err();
        match answer {
            Ok(now) => {
                self.unknown_since = None;
                if now.id.is_some() && self.id.is_some() && now.id != self.id {
                    return Err(UploadError::TopicReplaced { topic: self.name.clone() });
                }
                self.partitions = now.partitions;
                Ok(true)
            }
            Err(error) => self.has_no_answer(error),
        }
    }

    fn has_no_answer(&mut self, error: Error) -> Result<bool, UploadError> {
        if error.is_denied() {
            return Err(error.for_use(Operation::Write).into());
        }
        let is_unknown = error.kind() == ErrorKind::UnknownTopic;
        if is_unknown && self.unknown_since.get_or_insert(self.asked).elapsed() >= UNKNOWN_FOR {
            return Err(error.into());
        }
        debug!(topic = self.name, error = chain(&error), "the topic cannot be asked about at the moment");
        Ok(false)
    }
}
