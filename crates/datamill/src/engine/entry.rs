//! A failed file as the group's state holds it: where its chunks are and why it has no result.
//!
//! ```text
//! key    failed/{topic}/{partition}:{first offset}/{path}
//! value  JSON: path, sha512, n_chunks, spans [[partition, first, last]], status, reason, attempts
//! ```

use std::sync::Arc;

use datamill_broker::StateChange;
use datamill_wire::hex;
use serde::{Deserialize, Serialize};

use super::work::{Failure, Outcome};
use crate::assemble::{FileInfo, InstanceId, Span, Version};
use crate::ledger::FailureStatus;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Value {
    path: String,
    sha512: String,
    n_chunks: u32,
    spans: Vec<(i32, i64, i64)>,
    status: String,
    reason: String,
    attempts: u32,
}

impl Entry {
    /// What the keys of a topic's entries begin with.
    pub(super) fn prefix(topic: &str) -> String {
        format!("failed/{topic}/")
    }

    fn key_of(topic: &str, info: &FileInfo) -> String {
        let (partition, first) = info.spans.first().map_or((0, 0), |span| (span.partition, span.first));
        format!("{}{partition}:{first}/{}", Self::prefix(topic), info.version.path)
    }

    /// Partition and offset of the first chunk, as the key of an entry of this topic tells them.
    pub(super) fn first_chunk(topic: &str, key: &str) -> Option<(i32, i64)> {
        let (place, _) = key.strip_prefix(&Self::prefix(topic))?.split_once('/')?;
        let (partition, first) = place.split_once(':')?;
        Some((partition.parse().ok()?, first.parse().ok()?))
    }

    /// The key of the entry that an outcome makes or answers.
    pub(super) fn key_for(topic: &str, outcome: &Outcome) -> String {
        outcome.answers.as_ref().map_or_else(|| Self::key_of(topic, &outcome.info), |entry| entry.key.clone())
    }

    /// The entry once the outcome is durable: that of a file that failed, or failed again.
    pub(super) fn after(topic: &str, outcome: &Outcome, failure: &Failure) -> Self {
        let version = &outcome.info.version;
        Self {
            key: Self::key_for(topic, outcome),
            value: Value {
                path: version.path.to_string(),
                sha512: hex(&version.sha512),
                n_chunks: version.total,
                spans: outcome.info.spans.iter().map(|s| (s.partition, s.first, s.last)).collect(),
                status: failure.status.as_str().to_owned(),
                reason: failure.reason.clone(),
                attempts: outcome.answers.as_ref().map_or(0, |entry| entry.value.attempts) + outcome.attempts,
            },
        }
    }

    /// `None` for what was written by something else.
    pub(super) fn parse(key: &str, value: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(value).ok()?;
        (!value.spans.is_empty() && hash(&value.sha512).is_some()).then(|| Self { key: key.to_owned(), value })
    }

    pub(super) fn change(&self) -> Result<StateChange, serde_json::Error> {
        Ok(StateChange { key: self.key.clone(), value: Some(serde_json::to_vec(&self.value)?) })
    }

    /// The entry is removed.
    pub(super) fn removal(&self) -> StateChange {
        StateChange { key: self.key.clone(), value: None }
    }

    /// The partition whose owner retries the file.
    pub(super) fn partition(&self) -> i32 {
        self.value.spans.first().map_or(-1, |span| span.0)
    }

    /// Whether a retry can come to anything.
    pub(super) fn can_be_retried(&self) -> bool {
        let hopeless = [FailureStatus::Expired, FailureStatus::Incomplete];
        !hopeless.iter().any(|status| self.value.status == status.as_str())
    }

    pub(super) fn path(&self) -> &str {
        &self.value.path
    }

    pub(super) fn spans(&self) -> Vec<Span> {
        self.value.spans.iter().map(|&(partition, first, last)| Span { partition, first, last }).collect()
    }

    /// Whether this version of a file is the one that failed.
    pub(super) fn is_of(&self, version: &Version) -> bool {
        *version.path == *self.value.path
            && version.total == self.value.n_chunks
            && hash(&self.value.sha512) == Some(version.sha512)
    }

    /// What is known of the file without its chunks.
    pub(super) fn info(&self, id: InstanceId) -> FileInfo {
        let (subdir, filename) = self.value.path.rsplit_once('/').unwrap_or(("", &self.value.path));
        FileInfo {
            id,
            version: Version {
                path: self.value.path.as_str().into(),
                subdir: subdir.into(),
                filename: filename.into(),
                sha512: hash(&self.value.sha512).unwrap_or([0; 64]),
                total: self.value.n_chunks,
                mtime: None,
            },
            spans: self.spans(),
            first_ms: 0,
            last_ms: 0,
            bytes: 0,
            superseded: false,
        }
    }
}

/// The bytes of a SHA-512 in hexadecimal digits.
pub(super) fn hash(text: &str) -> Option<[u8; 64]> {
    let mut bytes = [0; 64];
    if text.len() != 128 || !text.is_ascii() {
        return None;
    }
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

/// An entry that is to be retried, by the owner of its partition.
#[derive(Debug, Clone)]
pub(super) struct Due {
    pub(super) entry: Arc<Entry>,
    /// Assignment number under which the partition is owned.
    pub(super) assignment: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_program_wrote_is_no_entry() {
        let value = |sha512: &str, spans: &str| {
            format!(
                r#"{{"path":"a/b","sha512":"{sha512}","n_chunks":2,"spans":{spans},"status":"x","reason":"","attempts":1}}"#
            )
        };
        let good = value(&"0f".repeat(64), "[[1,2,3]]");
        let entry = Entry::parse("k", good.as_bytes()).unwrap();
        assert_eq!((entry.partition(), entry.info(InstanceId(1)).version.sha512), (1, [15; 64]));
        assert_eq!(entry.change().unwrap().value.as_deref(), Some(good.as_bytes()));
        for bad in
            [value("0f", "[[1,2,3]]"), value(&"µ".repeat(64), "[[1,2,3]]"), value(&"0f".repeat(64), "[]"), "{".into()]
        {
            assert_eq!(Entry::parse("k", bad.as_bytes()), None, "{bad}");
        }
    }
}
