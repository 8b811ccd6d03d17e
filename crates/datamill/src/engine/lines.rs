//! The lines of the log about files and messages.

use std::time::Instant;

use std::sync::Arc;

use parking_lot::Mutex;

use super::alike::{Alike, FIRST_FILES};
use crate::facts::{Fact, FailureStatus, FileRow, Listener};
use crate::report::text;

/// Writes them. Of very many failures that are alike, the first ones are named.
pub(super) struct Lines {
    topic: Arc<str>,
    failures: Mutex<Alike>,
    attempts: Mutex<Alike>,
}

impl Lines {
    pub(super) fn about(topic: &Arc<str>) -> Self {
        Self { topic: Arc::clone(topic), failures: Mutex::default(), attempts: Mutex::default() }
    }

    /// Says how many files have failed as others before them that were named.
    pub(super) fn tell_rest(&self, all: bool) {
        for (files, reason) in self.failures.lock().rest(Instant::now(), all) {
            tracing::error!(topic = %self.topic, files, error = %reason,
                "more files could not be processed, in the same way as others before; the table of failures names them");
        }
    }

    fn tell_failure(&self, file: &FileRow, status: FailureStatus, reason: &str, attempts: u32) {
        let topic = &self.topic;
        let told = self.failures.lock().failed(Instant::now(), status, reason, &file.rel_filepath);
        match told.after {
            Some(0) => tracing::error!(file = %file.rel_filepath, %topic, offsets = %file.offsets, attempts,
                error = %reason, "the file could not be processed"),
            Some(alike) => tracing::error!(file = %file.rel_filepath, %topic, offsets = %file.offsets, attempts,
                error = %reason, alike, "the file could not be processed. {} before it failed in the same way; the table \
                of failures names them", text::counted(alike, "more file")),
            None => {}
        }
        if told.is_hundredth
            && let Some(what_to_do) = what_to_do(status)
        {
            let then = match status {
                FailureStatus::EndedTheProgram => "`datamill retry` asks for another try of the failed files",
                _ => "the failed files are tried again then",
            };
            tracing::error!(%topic, error = %reason,
                "the first {FIRST_FILES} files of this run have all failed in the same way. {what_to_do}. Stop the program \
                with `q` or Ctrl-C, mend that, and start it again: {then}");
        }
    }
}

impl Listener for Lines {
    fn hear(&self, fact: &Fact<'_>) {
        let topic = &self.topic;
        match *fact {
            Fact::Undecodable { partition, offset, error } => {
                tracing::error!(%topic, partition, offset, error, "a message is not a chunk of a file; left out");
            }
            Fact::Lost { partition, offset } => tracing::error!(%topic, partition, offset,
                "the first chunk of an unfinished file was removed from the topic; the file is lost, upload it again"),
            Fact::AttemptFailed { file, attempt, max_attempts, status, reason, wait } => {
                match self.attempts.lock().failed(Instant::now(), status, reason, file).after {
                    Some(0) => tracing::warn!(attempt, max_attempts, error = %reason,
                        "the function failed; it runs again in {wait:?}"),
                    Some(alike) => tracing::warn!(attempt, max_attempts, error = %reason, alike,
                        "the function failed, in the same way as {} since the last such line; it runs again in {wait:?}",
                        text::counted(alike, "other time")),
                    None => {}
                }
            }
            Fact::Done { file, .. } => {
                self.failures.lock().succeeded();
                tracing::debug!(file = %file.rel_filepath, "file done");
            }
            Fact::Failed { file, status, reason, attempts, .. } => self.tell_failure(file, status, reason, attempts),
            Fact::CameLate { file } => tracing::info!(file = %file.rel_filepath, %topic, offsets = %file.offsets,
                "chunks of an incomplete file came late and were added to it"),
            Fact::BegunBefore { file, reason, .. } => tracing::warn!(file = %file.rel_filepath, %topic,
                offsets = %file.offsets, "only the end of a file was read: {reason}"),
            Fact::Replaced { file, by_newer } => {
                let why = match by_newer {
                    true => {
                        "an upload of this file was given up because the file had changed; a newer version follows it"
                    }
                    false => "a repeated upload of this file is incomplete; its chunks are not waited for any longer",
                };
                tracing::info!(file = %file.rel_filepath, %topic, offsets = %file.offsets, "{why}");
            }
            Fact::NoDeadLetter { file, message } => {
                let left_out = "the topic of dead letters takes none that says what happened; it is left out";
                let (partition, offset) = message.unzip();
                tracing::error!(file, %topic, partition, offset, "{left_out}");
            }
            _ => {}
        }
    }
}

fn what_to_do(status: FailureStatus) -> Option<&'static str> {
    match status {
        FailureStatus::Failed | FailureStatus::ComputingResultMessageFailed => {
            Some("Look at the function, and whether `--consumer_topic_name` names a topic with files for it")
        }
        FailureStatus::MismatchedHash => Some("What arrives is not what was sent: look at the program that uploads"),
        FailureStatus::ProducingMessageFailed => Some("Look at the settings of the topic of the results"),
        FailureStatus::EndedTheProgram => {
            Some("Look at what the function uses: a library that crashes, or more memory than there is")
        }
        FailureStatus::Incomplete | FailureStatus::BegunBefore | FailureStatus::Expired => None,
    }
}
