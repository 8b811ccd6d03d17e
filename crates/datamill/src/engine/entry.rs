//! A failed file as the group's state holds it: where its chunks are and why it has no result.
//!
//! ```text
//! key    failed/{topic}/{partition}:{first offset}/{path}
//! value  JSON: path, sha512, n_chunks, spans [[partition, first, last]], status, reason, attempts
//!        topic_id                           id of the topic, where the log told it
//!        others [[partition, first, last]]  offsets in the spans with chunks of other uploads of the version, where
//!                                           there are any; at most 1000 runs
//!        chunks [[first, last]]             of an incomplete file, the chunks that are there; left out above 1000 runs
//!
//! key    retry/{topic}/{number}/{partition}:{first offset}/{path}
//! value  none: somebody asked for another try of the file with the entry of this name
//! ```
//!
//! A request has a number of its own, so the commit that answers it takes away what was asked before the try began
//! and nothing that was asked since.

use std::sync::Arc;

use datamill_broker::StateChange;
use datamill_wire::hex;
use serde::{Deserialize, Serialize};

use super::outcome::{Failure, Outcome};
use crate::assemble::{FileInfo, IndexRun, InstanceId, Span, Version};
use crate::ledger::FailureStatus;

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    value: Value,
    /// Keys of the requests that its next outcome answers.
    pub(super) requests: Vec<String>,
    /// It is of a topic of this name that was deleted: its offsets mean nothing.
    pub(super) is_foreign: bool,
}

/// Runs of chunks that an entry keeps.
const MAX_CHUNK_RUNS: usize = 1000;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Value {
    path: String,
    sha512: String,
    n_chunks: u32,
    spans: Vec<(i32, i64, i64)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    topic_id: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<(i32, i64, i64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    chunks: Vec<IndexRun>,
    status: String,
    reason: String,
    attempts: u32,
}

fn triples(spans: &[Span]) -> Vec<(i32, i64, i64)> {
    spans.iter().map(|span| (span.partition, span.first, span.last)).collect()
}

fn of_triples(triples: &[(i32, i64, i64)]) -> Vec<Span> {
    triples.iter().map(|&(partition, first, last)| Span { partition, first, last }).collect()
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

    /// The entry once the outcome is durable: that of a file that failed, or failed again, in the topic with this id.
    pub(super) fn after(topic: &str, topic_id: Option<&str>, outcome: &Outcome, failure: &Failure) -> Self {
        let version = &outcome.info.version;
        let foreign = outcome.answers.as_ref().filter(|entry| entry.is_foreign);
        let topic_id = foreign.map_or(topic_id, |entry| entry.value.topic_id.as_deref());
        let chunks = &outcome.chunks;
        Self {
            key: Self::key_for(topic, outcome),
            requests: Vec::new(),
            is_foreign: foreign.is_some(),
            value: Value {
                path: version.path.to_string(),
                sha512: hex(&version.sha512),
                n_chunks: version.total,
                spans: triples(&outcome.info.spans),
                topic_id: topic_id.map(str::to_owned),
                others: triples(&outcome.info.others),
                chunks: if chunks.len() > MAX_CHUNK_RUNS { Vec::new() } else { chunks.clone() },
                status: failure.status.as_str().to_owned(),
                reason: failure.reason.clone(),
                attempts: outcome.answers.as_ref().map_or(0, |entry| entry.value.attempts) + outcome.attempts,
            },
        }
    }

    /// `None` for what was written by something else.
    pub(super) fn parse(key: &str, value: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(value).ok()?;
        let in_order = |runs: &[IndexRun]| {
            runs.is_sorted_by(|a, b| a.1 < b.0)
                && runs.iter().all(|run| 1 <= run.0 && run.0 <= run.1 && run.1 <= value.n_chunks)
        };
        let is_entry = !value.spans.is_empty() && hash(&value.sha512).is_some() && in_order(&value.chunks);
        is_entry.then(|| Self { key: key.to_owned(), value, requests: Vec::new(), is_foreign: false })
    }

    /// The change that writes the entry.
    pub(super) fn change(&self) -> Result<StateChange, serde_json::Error> {
        Ok(StateChange { key: self.key.clone(), value: Some(serde_json::to_vec(&self.value)?) })
    }

    /// The entry is removed.
    pub(super) fn removal(&self) -> StateChange {
        StateChange { key: self.key.clone(), value: None }
    }

    /// The requests are answered.
    pub(super) fn answers(&self) -> impl Iterator<Item = StateChange> {
        self.requests.iter().map(|key| StateChange { key: key.clone(), value: None })
    }

    /// The partition whose owner retries the file.
    pub(super) fn partition(&self) -> i32 {
        self.value.spans.first().map_or(-1, |span| span.0)
    }

    /// The id of the topic that it is of, where the log told it.
    pub(super) fn topic_id(&self) -> Option<&str> {
        self.value.topic_id.as_deref()
    }

    /// Whether its chunks are known to be gone.
    pub(super) fn is_expired(&self) -> bool {
        self.status() == FailureStatus::Expired.as_str()
    }

    /// Whether a retry can come to anything.
    pub(super) fn can_be_retried(&self) -> bool {
        match self.status() {
            _ if self.is_expired() || self.is_foreign => false,
            status if status == FailureStatus::Incomplete.as_str() => self.has_all_chunks(),
            _ => true,
        }
    }

    /// Whether further chunks can complete it.
    pub(super) fn lacks_chunks(&self) -> bool {
        !self.is_foreign
            && self.status() == FailureStatus::Incomplete.as_str()
            && !self.value.chunks.is_empty()
            && !self.has_all_chunks()
    }

    fn has_all_chunks(&self) -> bool {
        self.value.chunks == [(1, self.value.n_chunks)]
    }

    /// The chunks that are there, of a file that is incomplete.
    pub(super) fn chunks(&self) -> &[IndexRun] {
        &self.value.chunks
    }

    pub(super) fn path(&self) -> &str {
        &self.value.path
    }

    pub(super) fn sha512(&self) -> &str {
        &self.value.sha512
    }

    pub(super) fn n_chunks(&self) -> u32 {
        self.value.n_chunks
    }

    pub(super) fn status(&self) -> &str {
        &self.value.status
    }

    pub(super) fn reason(&self) -> &str {
        &self.value.reason
    }

    pub(super) fn attempts(&self) -> u32 {
        self.value.attempts
    }

    /// Where its chunks are, in the order in which they came; a partition may occur several times.
    pub(super) fn spans(&self) -> Vec<Span> {
        of_triples(&self.value.spans)
    }

    /// Where, within the spans, chunks of other uploads of the version are.
    pub(super) fn others(&self) -> Vec<Span> {
        of_triples(&self.value.others)
    }

    /// Whether this version of a file is the one that failed.
    pub(super) fn is_of(&self, version: &Version) -> bool {
        *version.path == *self.value.path
            && version.total == self.value.n_chunks
            && hash(&self.value.sha512) == Some(version.sha512)
    }

    /// What is known of the file without its chunks.
    pub(super) fn info(&self, id: InstanceId) -> FileInfo {
        FileInfo {
            id,
            version: Version {
                path: self.value.path.as_str().into(),
                sha512: hash(&self.value.sha512).unwrap_or([0; 64]),
                total: self.value.n_chunks,
                mtime: None,
            },
            spans: self.spans(),
            others: self.others(),
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

/// The request for another try of the file of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Request<'a> {
    topic: &'a str,
    /// What the key of the entry ends with.
    place: &'a str,
}

impl<'a> Request<'a> {
    /// What the keys of a topic's requests begin with.
    pub(super) fn prefix(topic: &str) -> String {
        format!("retry/{topic}/")
    }

    /// The key of a request for the entry of this key, with a number that no other request has.
    pub(super) fn key(topic: &str, number: &str, entry: &str) -> Option<String> {
        Some(format!("{}{number}/{}", Self::prefix(topic), entry.strip_prefix(&Entry::prefix(topic))?))
    }

    /// `None` for other keys.
    pub(super) fn parse(topic: &'a str, key: &'a str) -> Option<Self> {
        let (_, place) = key.strip_prefix(&Self::prefix(topic))?.split_once('/')?;
        Some(Self { topic, place })
    }

    /// The key of the entry.
    pub(super) fn entry(&self) -> String {
        format!("{}{}", Entry::prefix(self.topic), self.place)
    }

    /// The partition of the entry.
    pub(super) fn partition(&self) -> Option<i32> {
        self.place.split_once(':')?.0.parse().ok()
    }
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
        assert_eq!(entry.topic_id(), None, "as release 0.1.0 wrote it");
        let with_chunks = |chunks: &str| good.replace(r#""status""#, &format!(r#""chunks":{chunks},"status""#));
        assert_eq!(Entry::parse("k", with_chunks("[[1,1]]").as_bytes()).unwrap().chunks(), [(1, 1)]);
        for bad in ["[[0,1]]", "[[1,3]]", "[[2,1]]", "[[2,2],[1,1]]", "[[1,1],[1,2]]"] {
            assert_eq!(Entry::parse("k", with_chunks(bad).as_bytes()), None, "{bad}");
        }
        for bad in
            [value("0f", "[[1,2,3]]"), value(&"µ".repeat(64), "[[1,2,3]]"), value(&"0f".repeat(64), "[]"), "{".into()]
        {
            assert_eq!(Entry::parse("k", bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_request_names_its_entry() {
        let entry = "failed/t/12:34567/a/b: c.dat";
        let key = Request::key("t", "17-4", entry).unwrap();
        let request = Request::parse("t", &key).unwrap();
        assert_eq!((request.entry().as_str(), request.partition()), (entry, Some(12)));
        assert_eq!(Request::key("other", "1", entry), None);
        assert_eq!(Request::parse("other", &key), None);
    }
}
