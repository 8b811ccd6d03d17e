//! Which result of a file is the newest one.
//!
//! ```text
//!  first pass:  record ──▶ whose result is it? ──▶ Newest: for each file, the place of the newest result
//!  second pass: record ──▶ is it at such a place? ──▶ sink
//! ```
//!
//! A result that came later is not always the newer one: a failed file has its result when it is tried again, and a
//! newer upload of the file may have had its own before. So the result of the later upload counts, and of results of
//! one upload the later one.

use datamill_broker::Record;
use datamill_wire::{headers, sha512};
use rustc_hash::{FxHashMap, FxHashSet};

/// The text of a header.
pub(crate) fn header<'r>(record: &Record<'r>, wanted: &str) -> Option<&'r str> {
    let (_, value) = record.headers.iter().find(|(name, _)| *name == wanted)?;
    std::str::from_utf8(value).ok()
}

/// Partition and offset of a record.
pub(crate) type At = (i32, i64);

/// The newest result of each file, of those that were added.
#[derive(Debug, Default)]
pub(crate) struct Newest {
    files: FxHashMap<[u8; 16], Result>,
}

#[derive(Debug, Clone, Copy)]
struct Result {
    at: At,
    timestamp_ms: i64,
    /// Topic, partition and first offset of the upload, where the result says so.
    upload: Option<([u8; 8], At)>,
    is_wanted: bool,
}

impl Result {
    fn of(record: &Record<'_>, is_wanted: bool) -> Self {
        let topic = header(record, headers::SOURCE_TOPIC_ID).or_else(|| header(record, headers::SOURCE_TOPIC));
        let first = header(record, headers::SOURCE_OFFSETS).and_then(first_offset);
        Self {
            at: (record.partition, record.offset),
            timestamp_ms: record.timestamp_ms.unwrap_or(i64::MIN),
            upload: topic.zip(first).map(|(topic, first)| (hash(topic.as_bytes()), first)),
            is_wanted,
        }
    }

    /// Whether it counts where the other one was there before.
    fn replaces(&self, other: &Self) -> bool {
        if let (Some((topic, upload)), Some((other_topic, other_upload))) = (self.upload, other.upload)
            && (topic, upload.0) == (other_topic, other_upload.0)
            && upload.1 != other_upload.1
        {
            return upload.1 > other_upload.1;
        }
        if self.at.0 == other.at.0 {
            return self.at.1 > other.at.1;
        }
        (self.timestamp_ms, self.at) > (other.timestamp_ms, other.at)
    }
}

/// `partition:first` of the first of the offsets of a result.
fn first_offset(offsets: &str) -> Option<At> {
    let (partition, rest) = offsets.split_once(':')?;
    Some((partition.parse().ok()?, rest.split('-').next()?.parse().ok()?))
}

fn hash<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&sha512(bytes)[..N]);
    first
}

/// Tells the file of a message from others: its path in its topic, or the key of a message that names no path.
fn file_of(record: &Record<'_>) -> Option<[u8; 16]> {
    let Some(path) = header(record, headers::SOURCE_PATH) else {
        return record.key.map(|key| hash(&[b"k", key].concat()));
    };
    let topic = header(record, headers::SOURCE_TOPIC).unwrap_or_default();
    Some(hash(format!("p{topic}\0{path}").as_bytes()))
}

impl Newest {
    /// Takes a message of a topic of results. Where it is the newest of its file, it is `wanted` or not; one that names
    /// no file is left out.
    pub(crate) fn add(&mut self, record: &Record<'_>, is_wanted: bool) {
        let Some(file) = file_of(record) else { return };
        let result = Result::of(record, is_wanted);
        let newest = self.files.entry(file).or_insert(result);
        if result.replaces(newest) {
            *newest = result;
        }
    }

    /// Number of files.
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }

    /// Where the newest results are that are wanted.
    pub(crate) fn wanted(&self) -> FxHashSet<At> {
        self.files.values().filter(|result| result.is_wanted).map(|result| result.at).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Sent {
        at: At,
        headers: Vec<(&'static str, String)>,
        key: &'static str,
    }

    fn result(at: At, path: &str, offsets: &str) -> Sent {
        let headers = [(headers::SOURCE_TOPIC, "t"), (headers::SOURCE_PATH, path), (headers::SOURCE_OFFSETS, offsets)];
        Sent { at, headers: headers.map(|(name, value)| (name, value.to_owned())).into(), key: "k" }
    }

    fn newest(sent: &[Sent]) -> Vec<At> {
        let mut newest = Newest::default();
        for Sent { at, headers, key } in sent {
            let record = Record {
                topic: "r",
                partition: at.0,
                offset: at.1,
                timestamp_ms: Some(1000 + at.1),
                key: Some(key.as_bytes()),
                value: None,
                headers: headers.iter().map(|(name, value)| (*name, value.as_bytes())).collect(),
            };
            newest.add(&record, true);
        }
        let mut wanted: Vec<At> = newest.wanted().into_iter().collect();
        wanted.sort_unstable();
        wanted
    }

    #[test]
    fn of_results_of_one_upload_the_later_one_is_newer() {
        assert_eq!(newest(&[result((0, 1), "a", "0:5-6"), result((0, 4), "a", "0:5-6")]), [(0, 4)]);
        assert_eq!(newest(&[result((0, 4), "a", "0:5-6"), result((0, 1), "a", "0:5-6")]), [(0, 4)]);
        assert_eq!(newest(&[result((0, 4), "a", "0:5-6"), result((1, 9), "a", "0:5-6")]), [(1, 9)], "by the time");
        assert_eq!(newest(&[result((0, 4), "a", "0:5-6"), result((0, 5), "b", "0:7-8")]), [(0, 4), (0, 5)]);
    }

    #[test]
    fn a_late_result_of_an_earlier_upload_is_not_newer() {
        assert_eq!(newest(&[result((0, 1), "a", "0:9-10"), result((0, 4), "a", "0:5-6")]), [(0, 1)]);
        assert_eq!(
            newest(&[result((0, 1), "a", "1:9-10"), result((0, 4), "a", "0:5-6")]),
            [(0, 4)],
            "not to be compared"
        );
    }

    #[test]
    fn a_message_without_a_path_is_known_by_its_key() {
        let keyed = |at, key| Sent { at, headers: Vec::new(), key };
        assert_eq!(newest(&[keyed((0, 1), "a"), keyed((0, 2), "b"), keyed((0, 3), "a")]), [(0, 2), (0, 3)]);
    }
}
