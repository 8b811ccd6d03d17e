//! Dead letters: what a topic learns of files and records that have no result, in the commit that
//! passes them.
//!
//! ```text
//!           key                value                         headers
//! file      key of its result  a JSON object                 datamill.source.*   ┐ and those that Kafka Connect
//! record    its own            its own bytes, or their start its own             ┘ names `__connect.errors.*`
//! ```
//!
//! A letter that is larger than the topic takes is cut and says so in the header `datamill.cut`. One
//! that is refused all the same is cut further, and in the end left out: it never holds the rest. Where
//! there is no topic for them, the records become files ([`files`]).

mod files;

pub(super) use files::KeptRecords;

use datamill_broker::{ErrorKind, NewRecord, Record, Topic};
use datamill_wire::headers;
use serde_json::json;

use super::origin::{CommitSettings, Origin};
use super::outcome::{Failure, Outcome, shortened};
use crate::assemble::Reservation;

/// Largest record of a topic that does not tell: what Kafka's brokers take unless set otherwise.
const USUAL_LARGEST: usize = 1_000_000;
/// Bytes that a record needs beside key, value and headers: room that is left.
const FRAME: usize = 256;
/// How much smaller a letter becomes that was refused.
const SHRINK: usize = 8;

/// Where dead letters go.
#[derive(Debug, Clone)]
pub(super) struct DeadLetterTopic {
    name: String,
    largest: usize,
}

impl From<Topic> for DeadLetterTopic {
    fn from(topic: Topic) -> Self {
        let largest = topic.largest_record().unwrap_or(USUAL_LARGEST).saturating_sub(FRAME);
        Self { name: topic.name, largest }
    }
}

/// A record that holds no chunk of a file, until its dead letter is committed.
#[derive(Debug)]
pub(super) struct Unusable {
    pub(super) partition: i32,
    pub(super) offset: i64,
    reason: String,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
    pub(super) room: Room,
    _reservation: Reservation,
}

impl Unusable {
    pub(super) fn of(record: &Record<'_>, reason: String, reserve: impl FnOnce(usize) -> Reservation) -> Self {
        let headers: Vec<_> = record.headers.iter().map(|(n, v)| ((*n).to_owned(), v.to_vec())).collect();
        let bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        Self {
            partition: record.partition,
            offset: record.offset,
            reason,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            _reservation: reserve(bytes + headers.iter().map(|(n, v)| n.len() + v.len()).sum::<usize>()),
            headers,
            room: Room::default(),
        }
    }

    /// Bytes of its key and value.
    pub(super) fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// How large a letter may be, after it was refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room(usize);

impl Default for Room {
    fn default() -> Self {
        Self(usize::MAX)
    }
}

/// A dead letter.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Letter {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Letter {
    /// The letter of a file. `None` if there is no room even without the reason.
    pub(super) fn of_file(
        topic: &DeadLetterTopic,
        settings: &CommitSettings,
        outcome: &Outcome,
        origin: &Origin,
        failure: &Failure,
    ) -> Option<Self> {
        let most = topic.largest.min(outcome.room.0);
        let mut kept = failure.reason.len();
        loop {
            let letter = Self::of_file_with(settings, outcome, origin, failure, kept);
            if letter.bytes() <= most {
                return Some(letter);
            }
            if kept == 0 {
                return None;
            }
            kept = (kept / 2).min(most / 2);
        }
    }

    fn of_file_with(
        settings: &CommitSettings,
        outcome: &Outcome,
        origin: &Origin,
        failure: &Failure,
        kept: usize,
    ) -> Self {
        let (info, version) = (&outcome.info, &outcome.info.version);
        let reason = shortened(failure.reason.clone(), kept);
        let value = json!({
            "path": &*version.path,
            "subdir": version.subdir(),
            "filename": version.filename(),
            "sha512": origin.row.sha512,
            "size": info.bytes,
            "n_chunks": version.total,
            "status": failure.status.as_str(),
            "reason": reason,
            "attempts": outcome.all_attempts(),
            "topic": &*settings.source.name,
            "offsets": origin.row.offsets,
            "group": settings.group,
        });
        let (partition, offset) = info.spans.first().map_or((-1, -1), |span| (span.partition, span.first));
        let mut headers: Vec<(String, Vec<u8>)> =
            origin.headers(settings).map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        headers.extend(errors(settings, partition, offset, "TASK_PUT", failure.status.as_str(), &reason));
        if reason.len() != failure.reason.len() {
            headers.push(cut(&format!("the reason had {} bytes", failure.reason.len())));
        }
        Self { key: Some(origin.key.clone().into_bytes()), value: Some(value.to_string().into_bytes()), headers }
    }

    /// The letter of a record: all of it, or the start of its value, or that without its own headers.
    /// `None` if there is no room for its key.
    pub(super) fn of_record(topic: &DeadLetterTopic, settings: &CommitSettings, record: &Unusable) -> Option<Self> {
        let most = topic.largest.min(record.room.0);
        let place = (record.partition, record.offset);
        let mut errors = errors(settings, place.0, place.1, "VALUE_CONVERTER", UNDECODABLE, &record.reason).to_vec();
        errors
            .extend(settings.source.id.iter().map(|id| (headers::SOURCE_TOPIC_ID.to_owned(), id.as_bytes().to_vec())));
        let own = record.headers.iter().cloned();
        let whole = Self {
            key: record.key.clone(),
            value: record.value.clone(),
            headers: own.chain(errors.iter().cloned()).collect(),
        };
        if whole.bytes() <= most {
            return Some(whole);
        }
        let size = record.value.as_ref().map_or(0, Vec::len);
        [&record.headers[..], &[]].into_iter().find_map(|own| {
            let said = if own.len() == record.headers.len() { "" } else { "; its headers are left out" };
            let mut headers: Vec<_> = own.iter().chain(&errors).cloned().collect();
            headers.push(cut(&format!("the value had {size} bytes{said}")));
            let mut letter = Self { key: record.key.clone(), value: None, headers };
            let left = most.checked_sub(letter.bytes())?;
            letter.value = record.value.as_ref().map(|value| value[..left.min(size)].to_vec());
            Some(letter)
        })
    }

    fn bytes(&self) -> usize {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len) + headers
    }

    /// The room that is left for it after it was refused: none where a shorter one would be refused as well.
    pub(super) fn refused(&self, kind: ErrorKind) -> Room {
        Room(if kind == ErrorKind::RecordTooLarge { self.bytes() / SHRINK } else { 0 })
    }

    pub(super) fn record<'a>(&'a self, topic: &'a DeadLetterTopic) -> NewRecord<'a> {
        NewRecord {
            topic: &topic.name,
            partition: None,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect(),
            timestamp_ms: None,
        }
    }
}

/// The status of a record that holds no chunk.
const UNDECODABLE: &str = "undecodable";

fn cut(what: &str) -> (String, Vec<u8>) {
    (headers::CUT.to_owned(), what.as_bytes().to_vec())
}

/// What went wrong, as Kafka Connect names it.
fn errors(
    settings: &CommitSettings,
    partition: i32,
    offset: i64,
    stage: &str,
    status: &str,
    reason: &str,
) -> [(String, Vec<u8>); 7] {
    [
        (headers::ERROR_TOPIC, settings.source.name.to_string()),
        (headers::ERROR_PARTITION, partition.to_string()),
        (headers::ERROR_OFFSET, offset.to_string()),
        (headers::ERROR_CONNECTOR, settings.program.clone()),
        (headers::ERROR_STAGE, stage.to_owned()),
        (headers::ERROR_CLASS, status.to_owned()),
        (headers::ERROR_MESSAGE, reason.to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value.into_bytes()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::assemble::Budget;
    use crate::engine::source::Source;

    fn settings() -> CommitSettings {
        CommitSettings {
            source: Source::new("files", None),
            result_topic: None,
            dead_letters: None,
            group: "g".to_owned(),
            program: "p 1".to_owned(),
            processor_version: None,
            by: "me".into(),
        }
    }

    fn topic(largest: usize) -> DeadLetterTopic {
        DeadLetterTopic { name: "dead".to_owned(), largest }
    }

    fn unusable(value: &[u8], header: &[u8]) -> Unusable {
        let record = Record {
            topic: "files",
            partition: 3,
            offset: 17,
            timestamp_ms: None,
            key: Some(b"key"),
            value: Some(value),
            headers: vec![("own", header)],
        };
        Unusable::of(&record, "no chunk".to_owned(), |bytes| Reservation::whole(&Arc::new(Budget::default()), bytes))
    }

    fn header<'a>(letter: &'a Letter, name: &str) -> Option<&'a str> {
        letter.headers.iter().find(|(n, _)| n == name).map(|(_, value)| std::str::from_utf8(value).unwrap())
    }

    #[test]
    fn a_letter_never_exceeds_the_topic_and_says_what_was_cut() {
        let value = vec![b'x'; 5000];
        let record = unusable(&value, &[b'h'; 1000]);
        let whole = Letter::of_record(&topic(10_000), &settings(), &record).unwrap();
        assert_eq!((whole.value.as_deref(), header(&whole, headers::CUT)), (Some(&value[..]), None));
        assert_eq!(header(&whole, headers::ERROR_OFFSET), Some("17"));
        for (largest, own) in [(4000, true), (2000, true), (900, false)] {
            let letter = Letter::of_record(&topic(largest), &settings(), &record).unwrap();
            assert_eq!(letter.bytes(), largest, "all the room is used");
            assert!(value.starts_with(letter.value.as_deref().unwrap()));
            assert_eq!(header(&letter, "own").is_some(), own);
            assert!(header(&letter, headers::CUT).unwrap().starts_with("the value had 5000 bytes"));
        }
        assert_eq!(Letter::of_record(&topic(100), &settings(), &record), None);
    }

    #[test]
    fn a_letter_that_is_always_refused_is_left_out_after_a_few_attempts() {
        let mut record = unusable(&vec![b'x'; 60 << 20], b"h");
        let mut refusals = 0;
        while let Some(letter) = Letter::of_record(&topic(64 << 20), &settings(), &record) {
            record.room = letter.refused(ErrorKind::RecordTooLarge);
            refusals += 1;
        }
        assert!((2..8).contains(&refusals), "{refusals}");
    }
}
