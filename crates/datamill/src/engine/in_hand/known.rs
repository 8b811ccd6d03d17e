//! What is known of ends of a process with files in hand.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::Spot;

/// Ends of the process by which a file has failed, at least: a single one may have come from outside, as a kill does.
const FEWEST: u32 = 2;

/// One end of a process with a file in hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct End {
    pub(super) path: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) alone: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) again: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) overdue: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) topic_id: Option<String>,
}

const ALONE: char = 'a';
const AGAIN: char = 'r';
const OVERDUE: char = 'o';

impl End {
    /// The text of a slot.
    pub(super) fn slot(&self, spot: Spot) -> String {
        let flags = [(self.alone, ALONE), (self.again, AGAIN), (self.overdue, OVERDUE)];
        let flags: String = flags.into_iter().filter_map(|(is_set, flag)| is_set.then_some(flag)).collect();
        let flags = if flags.is_empty() { "-" } else { &flags };
        format!("{} {} {flags} {}", spot.partition, spot.first, self.path)
    }

    pub(super) fn of_slot(text: &str, topic_id: Option<&str>) -> Option<(Spot, Self)> {
        let mut words = text.splitn(4, ' ');
        let spot = Spot { partition: words.next()?.parse().ok()?, first: words.next()?.parse().ok()? };
        let (flags, path) = (words.next()?, words.next()?.to_owned());
        let has = |flag| flags.contains(flag);
        let topic_id = topic_id.map(str::to_owned);
        Some((spot, Self { path, alone: has(ALONE), again: has(AGAIN), overdue: has(OVERDUE), topic_id }))
    }
}

/// The ends of a process that a file had a part in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(in crate::engine) struct Deaths {
    pub(super) all: u32,
    pub(super) alone: u32,
    pub(super) overdue: u32,
}

impl Deaths {
    /// How many of the file's attempts they are.
    pub(in crate::engine) fn attempts(self) -> u32 {
        if self.alone > 0 { self.all } else { 0 }
    }

    /// Whether the file has failed by them, with so many attempts.
    pub(in crate::engine) fn are_enough(self, max_attempts: u32) -> bool {
        self.attempts() >= max_attempts.max(FEWEST)
    }

    /// Why the file has failed.
    pub(in crate::engine) fn reason(self) -> String {
        let times = |count| if count == 1 { "once".to_owned() } else { format!("{count} times") };
        let hung = match self.overdue {
            0 => String::new(),
            hung if hung == self.all => ", as the function did not end in its time".to_owned(),
            hung => format!(", {} as the function did not end in its time", times(hung)),
        };
        format!(
            "the program ended or was killed while it worked on this file, {}{hung}. It is tried again only when that is asked for: \
            datamill retry",
            times(self.all)
        )
    }
}

/// Ends by file, and by the keys that tell them.
pub(super) type Ends = BTreeMap<Spot, BTreeMap<String, End>>;

/// What is known of ends.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// What the run before left.
    pub(super) left: Ends,
    /// Partitions that were another member's since: what was left there may have been answered.
    pub(super) lost: BTreeSet<i32>,
    /// What the group's state says of partitions that are owned.
    pub(super) told: Ends,
}

impl Known {
    pub(super) fn is_empty(&self) -> bool {
        self.left.is_empty() && self.told.is_empty()
    }

    /// All ends of a file by their keys.
    pub(super) fn of(&self, spot: Spot) -> BTreeMap<&str, &End> {
        let both = [&self.left, &self.told].into_iter().filter_map(|ends| ends.get(&spot)).flatten();
        both.map(|(key, end)| (key.as_str(), end)).collect()
    }

    pub(super) fn spots(&self) -> BTreeSet<Spot> {
        self.left.keys().chain(self.told.keys()).copied().collect()
    }

    pub(super) fn remove(&mut self, spot: Spot, key: &str) {
        for ends in [&mut self.left, &mut self.told] {
            if let Some(of_spot) = ends.get_mut(&spot) {
                of_spot.remove(key);
                if of_spot.is_empty() {
                    ends.remove(&spot);
                }
            }
        }
    }
}
