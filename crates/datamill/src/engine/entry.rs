//! A failed file as the group's state holds it: where its chunks are and why it has no result.
//!
//! ```text
//! value  JSON: path, sha512, n_chunks, spans [[partition, first, last]], status, reason, attempts
//!        topic_id                           id of the topic, where the log told it
//!        by                                 whose failure it is, as the group's purposes tell; 0.1.0 wrote none
//!        others [[partition, first, last]]  offsets in the spans with chunks of other uploads of the version, where
//!                                           there are any; at most 1000 runs
//!        chunks [[first, last]]             of an incomplete file, the chunks that are there; left out above 1000 runs
//!        rerun_of                           where somebody asked to run a file with a result again, that result, as
//!                                           topic:partition:offset; then n_chunks may be 0: not known
//! ```
//!
//! A request for another try has a number of its own in its key, so the commit that answers it takes away what was asked
//! before the try began and nothing that was asked since. Requests to run a file again that has its result have the same
//! form and a value ([`super::rerun`]).

use std::borrow::Cow;
use std::hash::BuildHasher;
use std::sync::Arc;

use datamill_broker::StateChange;
use datamill_wire::hex;
use rustc_hash::FxBuildHasher;
use serde::{Deserialize, Serialize};

use super::outcome::{Failure, Outcome};
use super::rerun::Asked;
use super::source::Source;
use super::state::key::{FileAt, Key};
use crate::assemble::{FileInfo, IndexRun, InstanceId, Span, Version};
use crate::ledger::FailureStatus;

/// See the module. A group may have very many: each takes little memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: Box<str>,
    pub(super) place: Place,
    /// The key ends with the path, from here on.
    path_at: usize,
    sha512: [u8; 64],
    n_chunks: u32,
    attempts: u32,
    spans: Box<[Span]>,
    others: Box<[Span]>,
    chunks: Box<[IndexRun]>,
    status: Cow<'static, str>,
    reason: Box<str>,
    topic_id: Option<Arc<str>>,
    by: Option<Box<str>>,
    /// The result that there is of it, where somebody asked for another one.
    rerun_of: Option<Box<str>>,
    /// It is in the group's state: the file has failed. Otherwise a request to run it again is all that there is.
    pub(super) has_failed: bool,
    /// Keys of the requests that its next outcome answers.
    pub(super) requests: Vec<String>,
    /// It is of a topic of this name that was deleted: its offsets mean nothing.
    pub(super) is_foreign: bool,
}

/// Where the first chunk of a failed file is, and which file it is: an entry of a topic that was deleted may have the
/// offset of one of the topic that came after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    pub(super) partition: i32,
    pub(super) first: i64,
    /// A hash of the path.
    path: u64,
}

impl Place {
    /// Place and path, as the key of an entry of this topic tells them.
    pub(super) fn of_key<'k>(topic: &str, key: &'k str) -> Option<(Self, &'k str)> {
        match Key::parse(topic, key)? {
            Key::Failed(file) => Some((Self::of_file(file), file.path)),
            _ => None,
        }
    }

    /// That of the entry that a request for another try or for another result is about. `None` for other keys.
    pub(super) fn of_request(topic: &str, key: &str) -> Option<Self> {
        match Key::parse(topic, key)? {
            Key::Retry { file, .. } | Key::Rerun { file, .. } => Some(Self::of_file(file)),
            _ => None,
        }
    }

    /// Place and path of the file that a request for another result is about. `None` for other keys.
    pub(super) fn of_rerun<'k>(topic: &str, key: &'k str) -> Option<(Self, &'k str)> {
        match Key::parse(topic, key)? {
            Key::Rerun { file, .. } => Some((Self::of_file(file), file.path)),
            _ => None,
        }
    }

    fn of_file(FileAt { partition, first, path }: FileAt<'_>) -> Self {
        Self::new(partition, first, path)
    }

    /// Where the first chunk of a file is.
    pub(super) fn of(info: &FileInfo) -> Self {
        let (partition, first) = info.spans.first().map_or((0, 0), |span| (span.partition, span.first));
        Self::new(partition, first, &info.version.path)
    }

    pub(super) fn new(partition: i32, first: i64, path: &str) -> Self {
        Self { partition, first, path: FxBuildHasher.hash_one(path) }
    }
}

/// Runs of chunks that an entry keeps.
const MAX_CHUNK_RUNS: usize = 1000;
/// Bytes of memory that an entry takes beside its texts and spans.
const ENTRY_BYTES: usize = size_of::<Entry>() + 128;

#[derive(Serialize, Deserialize)]
struct Value<'a> {
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow)]
    sha512: Cow<'a, str>,
    n_chunks: u32,
    spans: Vec<(i32, i64, i64)>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    topic_id: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    others: Vec<(i32, i64, i64)>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    chunks: Cow<'a, [IndexRun]>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow)]
    reason: Cow<'a, str>,
    attempts: u32,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    by: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none", borrow)]
    rerun_of: Option<Cow<'a, str>>,
}

pub(super) fn triples(spans: &[Span]) -> Vec<(i32, i64, i64)> {
    spans.iter().map(|span| (span.partition, span.first, span.last)).collect()
}

fn of_triples(triples: &[(i32, i64, i64)]) -> Box<[Span]> {
    triples.iter().map(|&(partition, first, last)| Span { partition, first, last }).collect()
}

/// The word for a status, without a copy for those that are written here.
fn word(status: &str) -> Cow<'static, str> {
    let known = FailureStatus::ALL.iter().map(|known| known.as_str()).find(|known| *known == status);
    known.map_or_else(|| Cow::Owned(status.to_owned()), Cow::Borrowed)
}

impl Entry {
    /// Place of the entry that an outcome makes or answers.
    pub(super) fn place_for(outcome: &Outcome) -> Place {
        outcome.answers.as_ref().map_or_else(|| Place::of(&outcome.info), |entry| entry.place)
    }

    /// The entry once the outcome is durable: that of a file that failed, or failed again, in this topic. It is `by` this
    /// program unless it is another one's already.
    pub(super) fn after(source: &Source, by: &str, outcome: &Outcome, failure: &Failure) -> Self {
        let (info, chunks, before) = (&outcome.info, &outcome.chunks, outcome.answers.as_ref());
        let foreign = before.filter(|entry| entry.is_foreign);
        let place = Self::place_for(outcome);
        let Place { partition, first, .. } = place;
        let path = &*info.version.path;
        let key = || Key::Failed(FileAt { partition, first, path }).of(&source.name).into();
        let key: Box<str> = before.map_or_else(key, |entry| entry.key.clone());
        Self {
            path_at: key.len() - path.len(),
            key,
            place,
            sha512: info.version.sha512,
            n_chunks: info.version.total,
            attempts: outcome.all_attempts(),
            spans: info.spans.as_slice().into(),
            others: info.others.as_slice().into(),
            chunks: if chunks.len() > MAX_CHUNK_RUNS { Box::default() } else { chunks.as_slice().into() },
            status: failure.status.as_str().into(),
            reason: failure.reason.as_str().into(),
            rerun_of: before.and_then(|entry| entry.rerun_of.clone()),
            has_failed: true,
            requests: Vec::new(),
            is_foreign: foreign.is_some(),
            topic_id: foreign.map_or_else(|| source.id.clone(), |entry| entry.topic_id.clone()),
            by: before.and_then(|entry| entry.by.clone()).or_else(|| Some(by.into())),
        }
    }

    /// `None` for an entry of another topic, and for what was written by something else.
    pub(super) fn parse(topic: &str, key: &str, value: &[u8]) -> Option<Self> {
        let (place, path) = Place::of_key(topic, key)?;
        let value: Value<'_> = serde_json::from_slice(value).ok()?;
        let in_order = |runs: &[IndexRun]| {
            runs.is_sorted_by(|a, b| a.1 < b.0)
                && runs.iter().all(|run| 1 <= run.0 && run.0 <= run.1 && run.1 <= value.n_chunks)
        };
        if path != value.path || value.spans.is_empty() || !in_order(&value.chunks) {
            return None;
        }
        Some(Self {
            path_at: key.len() - path.len(),
            key: key.into(),
            place,
            sha512: hash(&value.sha512)?,
            n_chunks: value.n_chunks,
            attempts: value.attempts,
            spans: of_triples(&value.spans),
            others: of_triples(&value.others),
            chunks: value.chunks.into_owned().into(),
            status: word(&value.status),
            reason: value.reason.into(),
            topic_id: value.topic_id.map(Arc::from),
            by: value.by.map(|by| by.into_owned().into()),
            rerun_of: value.rerun_of.map(|result| result.into_owned().into()),
            has_failed: true,
            requests: Vec::new(),
            is_foreign: false,
        })
    }

    /// A file of this topic that has a result, and is to have another one.
    pub(super) fn of_rerun(topic: &str, (place, path): (Place, &str), sha512: [u8; 64], asked: &Asked<'_>) -> Self {
        let key = Key::Failed(FileAt { partition: place.partition, first: place.first, path }).of(topic);
        Self {
            path_at: key.len() - path.len(),
            key: key.into(),
            place,
            sha512,
            n_chunks: 0,
            attempts: 0,
            spans: of_triples(&asked.spans),
            others: Box::default(),
            chunks: Box::default(),
            status: Cow::Borrowed(""),
            reason: Box::default(),
            topic_id: asked.topic_id.as_deref().map(Arc::from),
            by: Some((*asked.by).into()),
            rerun_of: Some((*asked.result).into()),
            has_failed: false,
            requests: Vec::new(),
            is_foreign: false,
        }
    }

    /// Somebody asks for another result of the file in the place of this one.
    pub(super) fn runs_again(&mut self, asked: &Self) {
        self.rerun_of.clone_from(&asked.rerun_of);
    }

    /// The result that there is of it, as `topic:partition:offset`, where somebody asked for another one.
    pub(super) fn rerun_of(&self) -> Option<&str> {
        self.rerun_of.as_deref()
    }

    /// For one that is read to be tried again in this topic, and will be written with the reason of that try.
    pub(super) fn for_a_try(self, in_topic: Option<&Arc<str>>) -> Self {
        let topic_id = self.topic_id.map(|id| in_topic.filter(|ours| **ours == id).cloned().unwrap_or(id));
        Self { reason: Box::default(), topic_id, ..self }
    }

    /// Bytes of memory that it takes, about.
    pub(super) fn bytes(&self) -> usize {
        let spans = size_of_val(&*self.spans) + size_of_val(&*self.others) + size_of_val(&*self.chunks);
        let texts = [&self.by, &self.rerun_of].map(|text| text.as_ref().map_or(0, |text| text.len()));
        ENTRY_BYTES + self.key.len() + self.reason.len() + texts[0] + texts[1] + spans
    }

    /// The change that writes the entry.
    pub(super) fn change(&self) -> Result<StateChange, serde_json::Error> {
        let value = Value {
            path: self.path().into(),
            sha512: self.sha512().into(),
            n_chunks: self.n_chunks,
            spans: triples(&self.spans),
            others: triples(&self.others),
            chunks: (&*self.chunks).into(),
            status: (&*self.status).into(),
            reason: (&*self.reason).into(),
            attempts: self.attempts,
            topic_id: self.topic_id.as_deref().map(Cow::Borrowed),
            by: self.by.as_deref().map(Cow::Borrowed),
            rerun_of: self.rerun_of.as_deref().map(Cow::Borrowed),
        };
        Ok(StateChange { key: self.key.to_string(), value: Some(serde_json::to_vec(&value)?) })
    }

    /// The entry is removed.
    pub(super) fn removal(&self) -> StateChange {
        StateChange { key: self.key.to_string(), value: None }
    }

    /// The requests are answered.
    pub(super) fn answers(&self) -> impl Iterator<Item = StateChange> {
        self.requests.iter().map(|key| StateChange { key: key.clone(), value: None })
    }

    /// The partition whose owner retries the file.
    pub(super) fn partition(&self) -> i32 {
        self.place.partition
    }

    /// The id of the topic that it is of, where the log told it.
    pub(super) fn topic_id(&self) -> Option<&str> {
        self.topic_id.as_deref()
    }

    /// Whether its chunks are known to be gone.
    pub(super) fn is_expired(&self) -> bool {
        self.status() == FailureStatus::Expired.as_str()
    }

    /// Whether it is tried again only where somebody asks for that: it may end the program, one host after another.
    pub(super) fn waits_for_a_request(&self) -> bool {
        self.status() == FailureStatus::EndedTheProgram.as_str()
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
            && !self.chunks.is_empty()
            && !self.has_all_chunks()
    }

    fn has_all_chunks(&self) -> bool {
        *self.chunks == [(1, self.n_chunks)]
    }

    /// The chunks that are there, of a file that is incomplete.
    pub(super) fn chunks(&self) -> &[IndexRun] {
        &self.chunks
    }

    pub(super) fn path(&self) -> &str {
        &self.key[self.path_at..]
    }

    pub(super) fn sha512(&self) -> String {
        hex(&self.sha512)
    }

    pub(super) fn n_chunks(&self) -> u32 {
        self.n_chunks
    }

    pub(super) fn status(&self) -> &str {
        &self.status
    }

    pub(super) fn reason(&self) -> &str {
        &self.reason
    }

    /// Whose failure it is; `None` where 0.1.0 wrote it.
    pub(super) fn by(&self) -> Option<&str> {
        self.by.as_deref()
    }

    pub(super) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Where its chunks are, in the order in which they came; a partition may occur several times.
    pub(super) fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// Where, within the spans, chunks of other uploads of the version are.
    pub(super) fn others(&self) -> &[Span] {
        &self.others
    }

    /// Whether this version of a file is the one that failed.
    pub(super) fn is_of(&self, version: &Version) -> bool {
        let has_all = self.n_chunks == 0 || version.total == self.n_chunks;
        has_all && version.sha512 == self.sha512 && *version.path == *self.path()
    }

    /// The SHA-512 of the file.
    pub(super) fn hash(&self) -> &[u8; 64] {
        &self.sha512
    }

    /// What is known of the file without its chunks.
    pub(super) fn info(&self, id: InstanceId) -> FileInfo {
        FileInfo {
            id,
            version: Version { path: self.path().into(), sha512: self.sha512, total: self.n_chunks, mtime: None },
            spans: self.spans.to_vec(),
            others: self.others.to_vec(),
            first_ms: 0,
            last_ms: 0,
            bytes: 0,
            superseded: false,
        }
    }
}

/// The bytes of a SHA-512 in hexadecimal digits.
pub(crate) fn hash(text: &str) -> Option<[u8; 64]> {
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
        let key = "failed/t/1:2/a/b";
        let entry = Entry::parse("t", key, good.as_bytes()).unwrap();
        assert_eq!((entry.partition(), entry.info(InstanceId(1)).version.sha512), (1, [15; 64]));
        for other in ["k", "failed/t/1:2/a", "failed/t/1/a/b", "failed/t/1:x/a/b"] {
            assert_eq!(Entry::parse("t", other, good.as_bytes()), None, "{other}");
        }
        assert_eq!(entry.change().unwrap().value.as_deref(), Some(good.as_bytes()));
        assert_eq!(entry.topic_id(), None, "as release 0.1.0 wrote it");
        let with_chunks = |chunks: &str| good.replace(r#""status""#, &format!(r#""chunks":{chunks},"status""#));
        assert_eq!(Entry::parse("t", key, with_chunks("[[1,1]]").as_bytes()).unwrap().chunks(), [(1, 1)]);
        for bad in ["[[0,1]]", "[[1,3]]", "[[2,1]]", "[[2,2],[1,1]]", "[[1,1],[1,2]]"] {
            assert_eq!(Entry::parse("t", key, with_chunks(bad).as_bytes()), None, "{bad}");
        }
        for bad in
            [value("0f", "[[1,2,3]]"), value(&"µ".repeat(64), "[[1,2,3]]"), value(&"0f".repeat(64), "[]"), "{".into()]
        {
            assert_eq!(Entry::parse("t", key, bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn a_request_names_its_entry() {
        let (place, path) = Place::of_key("t", "failed/t/12:34567/a/b: c.dat").unwrap();
        assert_eq!((place, path), (Place::new(12, 34567, "a/b: c.dat"), "a/b: c.dat"));
        let (retry, rerun) = ("retry/t/17-4/12:34567/a/b: c.dat", "rerun/t/17-4/12:34567/a/b: c.dat");
        assert_eq!([retry, rerun].map(|key| Place::of_request("t", key)), [Some(place); 2]);
        assert_eq!([retry, rerun].map(|key| Place::of_rerun("t", key)), [None, Some((place, path))]);
        assert_eq!(Place::of_request("other", retry), None);
    }
}
