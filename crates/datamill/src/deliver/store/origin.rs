//! What goes along with an object: which version it is, and where it came from.
//!
//! ```text
//! datamill-sha512    SHA-512 of the content, 128 hex digits: tells one version from another
//! datamill-modified  modification time at the source, seconds since the epoch (not where it is unknown)
//! datamill-time      time of the first chunk's record, milliseconds since the epoch
//! datamill-topic     name of the topic, percent-encoded
//! datamill-topic-id  what identifies the topic, percent-encoded
//! datamill-offsets   "partition:first-last" joined by ";", the lowest partition first; "partition:first-" where the
//!                    upload began before the last chunk was there
//! datamill-path      relative path, percent-encoded
//! ```
//! ASCII, at most [`MOST_BYTES`] with the names; what would be more is left out from the end of this list,
//! the offsets down to those of the lowest partition. Azure takes no `-` in a name: it gets `_`.

use std::time::{Duration, SystemTime};

use datamill_wire::hex;
use object_store::{Attribute, Attributes, ObjectMeta};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::super::on_exists::{Place, Stand};
use crate::assemble::{Begun, DownloadDataFile};

/// Amazon takes 2 KiB.
const MOST_BYTES: usize = 2000;

const UNRESERVED: &percent_encoding::AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// What an object says of itself.
#[derive(Debug)]
pub(super) struct Facts<'a> {
    sha512: &'a [u8; 64],
    modified: Option<SystemTime>,
    first_ms: i64,
    topic: &'a str,
    topic_id: &'a str,
    path: &'a str,
    /// Partition, first and last offset, by partition.
    offsets: Vec<(i32, i64, Option<i64>)>,
}

impl<'a> Facts<'a> {
    pub(super) fn of(file: &'a DownloadDataFile) -> Self {
        let mut offsets: Vec<_> = file.spans().iter().map(|s| (s.partition, s.first, Some(s.last))).collect();
        offsets.sort_unstable();
        Self {
            sha512: file.sha512(),
            modified: file.modified(),
            first_ms: file.first_record_ms(),
            topic: file.topic(),
            topic_id: file.topic_id(),
            path: file.relative_path(),
            offsets,
        }
    }

    /// Those of a file whose chunks still come.
    pub(super) fn of_begun(file: &Begun<'a>) -> Self {
        Self {
            sha512: &file.version.sha512,
            modified: file.version.modified(),
            first_ms: file.first_ms,
            topic: &file.topic.name,
            topic_id: &file.topic.id,
            path: &file.version.path,
            offsets: vec![(file.span.partition, file.span.first, None)],
        }
    }
}

/// The attributes that a file's object gets.
pub(super) fn attributes(file: &Facts<'_>, separator: char) -> Attributes {
    let values = [
        ("sha512", Some(hex(file.sha512))),
        ("modified", file.modified.map(seconds)),
        ("time", Some(file.first_ms.to_string())),
        ("topic", Some(encode(file.topic))),
        ("topic-id", Some(encode(file.topic_id))),
    ];
    let mut room = MOST_BYTES;
    let mut attributes = Attributes::new();
    let mut insert = |name: &str, value: String| {
        let name = named(name, separator);
        if let Some(left) = room.checked_sub(name.len() + value.len()) {
            room = left;
            attributes.insert(Attribute::Metadata(name.into()), value.into());
            return true;
        }
        false
    };
    for (name, value) in values {
        if let Some(value) = value {
            insert(name, value);
        }
    }
    if !insert("offsets", offsets(&file.offsets)) {
        insert("offsets", offsets(&file.offsets[..file.offsets.len().min(1)]));
    }
    insert("path", encode(file.path));
    attributes
}

fn named(name: &str, separator: char) -> String {
    format!("datamill-{name}").replace('-', &separator.to_string())
}

fn encode(text: &str) -> String {
    utf8_percent_encode(text, UNRESERVED).to_string()
}

fn offsets(spans: &[(i32, i64, Option<i64>)]) -> String {
    let text = |(partition, first, last): &(i32, i64, Option<i64>)| {
        let last = last.map(|last| last.to_string()).unwrap_or_default();
        format!("{partition}:{first}-{last}")
    };
    spans.iter().map(text).collect::<Vec<_>>().join(";")
}

fn seconds(time: SystemTime) -> String {
    let (sign, since) = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => ("", since),
        Err(before) => ("-", before.duration()),
    };
    let text = format!("{sign}{}.{:09}", since.as_secs(), since.subsec_nanos());
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn time(seconds: &str) -> Option<SystemTime> {
    let seconds: f64 = seconds.parse().ok()?;
    let since = Duration::try_from_secs_f64(seconds.abs()).ok()?;
    if seconds < 0.0 { SystemTime::UNIX_EPOCH.checked_sub(since) } else { SystemTime::UNIX_EPOCH.checked_add(since) }
}

/// An object that is there.
#[derive(Debug)]
pub(super) struct There {
    pub(super) meta: ObjectMeta,
    /// What the object says of itself.
    sha512: Option<String>,
    pub(super) stand: Stand,
}

impl There {
    pub(super) fn new(meta: ObjectMeta, attributes: &Attributes, separator: char) -> Self {
        let value = |name: &str| {
            let value = attributes.get(&Attribute::Metadata(named(name, separator).into()))?;
            Some(percent_decode_str(value).decode_utf8_lossy().into_owned())
        };
        let sha512 = value("sha512");
        let place = || {
            let offsets = value("offsets")?;
            let (partition, offsets) = offsets.split(';').next()?.split_once(':')?;
            Some(Place {
                topic: value("topic-id")?,
                by_name: None,
                partition: partition.parse().ok()?,
                offset: offsets.split_once('-')?.0.parse().ok()?,
                time_ms: value("time")?.parse().ok()?,
            })
        };
        // When an object came says nothing of when its content was made.
        let stand = Stand { place: place(), modified: value("modified").and_then(|modified| time(&modified)) };
        Self { meta, sha512, stand }
    }

    /// Whether it is this version of the file, whole. `None` where the store does not tell.
    pub(super) fn is(&self, file: &DownloadDataFile) -> Option<bool> {
        if self.meta.size != file.size() {
            return Some(false);
        }
        self.sha512.as_ref().map(|sha512| *sha512 == hex(file.sha512()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assemble::testing::downloaded;

    const MTIME: f64 = 1_700_000_000.25;

    fn meta(size: u64) -> ObjectMeta {
        let last_modified = SystemTime::UNIX_EPOCH.into();
        ObjectMeta { location: "k".into(), last_modified, size, e_tag: None, version: None }
    }

    #[test]
    fn what_goes_along_is_read_again() {
        let file = downloaded("rün 1/a b.csv", b"content", Some(MTIME), &[(3, 7, 9), (1, 20, 25)]);
        for separator in ['-', '_'] {
            let attributes = attributes(&Facts::of(&file), separator);
            let there = There::new(meta(7), &attributes, separator);
            assert_eq!(there.is(&file), Some(true));
            assert_eq!(there.stand, Stand::of(&file));
            let place = there.stand.place.unwrap();
            assert_eq!((place.partition, place.offset), (1, 20));
            let name = Attribute::Metadata(named("path", separator).into());
            assert_eq!(attributes.get(&name).unwrap().as_ref(), "r%C3%BCn%201/a%20b.csv");
        }
    }

    #[test]
    fn another_version_and_an_object_of_somebody_else_are_told_apart() {
        let file = downloaded("a", b"content", None, &[(0, 0, 0)]);
        let other = downloaded("a", b"Content", None, &[(0, 1, 1)]);
        let there = There::new(meta(7), &attributes(&Facts::of(&other), '-'), '-');
        assert_eq!(there.is(&file), Some(false));
        let foreign = There::new(meta(7), &Attributes::new(), '-');
        assert_eq!((foreign.is(&file), foreign.stand.place), (None, None));
        assert_eq!(There::new(meta(8), &attributes(&Facts::of(&file), '-'), '-').is(&file), Some(false), "not whole");
    }

    #[test]
    fn long_names_and_many_partitions_are_left_out_before_the_version() {
        let spans: Vec<(i32, i64, i64)> = (0..400).map(|partition| (partition, 1_000_000, 1_000_001)).collect();
        let file = downloaded(&"ä".repeat(900), b"x", Some(MTIME), &spans);
        let attributes = attributes(&Facts::of(&file), '-');
        let bytes: usize = attributes
            .iter()
            .map(|(name, value)| match name {
                Attribute::Metadata(name) => name.len() + value.as_ref().len(),
                _ => 0,
            })
            .sum();
        assert!(bytes <= MOST_BYTES, "{bytes}");
        let there = There::new(meta(1), &attributes, '-');
        assert_eq!((there.is(&file), there.stand), (Some(true), Stand::of(&file)));
    }

    #[test]
    fn times_before_the_epoch_and_fractions_survive() {
        for value in [-1.5, 0.0, 1_700_000_000.123_456] {
            let time = time(&value.to_string()).unwrap();
            assert_eq!(super::time(&seconds(time)), Some(time), "{value}");
        }
    }
}
