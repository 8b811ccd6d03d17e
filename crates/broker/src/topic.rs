//! Topics as a log tells of them and makes them.

use std::collections::BTreeMap;

/// A topic that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// What identifies this topic across deletion and creation under the same name, where the
    /// backend knows it.
    pub id: Option<String>,
    /// Number of partitions, counted from 0.
    pub partitions: i32,
    /// What it takes and keeps. `None` where the account may not see that: nothing follows from it.
    pub settings: Option<TopicSettings>,
}

/// What a topic takes, and what it keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TopicSettings {
    /// Largest record (key, value and headers) in bytes that the topic takes, if the backend tells it.
    pub largest_record: Option<usize>,
    /// Records older than this many milliseconds may vanish; `None` is "kept".
    pub retention_ms: Option<i64>,
    /// The topic keeps only the newest record of each key.
    pub compacted: bool,
}

impl Topic {
    /// Largest record in bytes that the topic takes, where that is known.
    pub fn largest_record(&self) -> Option<usize> {
        self.settings?.largest_record
    }

    /// After how many milliseconds records may vanish, where it is known that they do.
    pub fn retention_ms(&self) -> Option<i64> {
        self.settings?.retention_ms
    }

    /// Whether it is known that the topic keeps only the newest record of each key.
    pub fn is_compacted(&self) -> bool {
        self.settings.is_some_and(|settings| settings.compacted)
    }
}

/// What tells whether a topic is still the one that it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicNow {
    /// As [`Topic::id`].
    pub id: Option<String>,
    /// As [`Topic::partitions`].
    pub partitions: i32,
}

/// A topic that is to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name: 1 to 249 of the characters `a-z A-Z 0-9 . _ -`, and neither `.` nor `..`.
    pub name: String,
    /// Number of partitions, at least 1.
    pub partitions: i32,
    /// Number of copies on different brokers; ignored by the embedded log.
    pub replication: i32,
    /// Further settings of the topic, in the words of the backend (`retention.ms`, …).
    pub settings: BTreeMap<String, String>,
}

/// The ends of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offsets {
    /// The first record that is still there.
    pub first: i64,
    /// Records below this one are decided: readers see exactly these.
    pub last_stable: i64,
    /// The offset that the next record gets.
    pub end: i64,
}
