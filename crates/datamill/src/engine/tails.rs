//! Files of which only the end is read, because they began before the group did: their first chunks lie below
//! the offset where it started. They end as a note and not as a failure, which nobody could answer.
//!
//! ```text
//! value  offset SPACE milliseconds [SPACE id]    where and when the group started without progress, in decimal
//!                                                digits, and the topic's id where the log tells it
//! ```
//! It goes with the first position that is committed there, and is read with the failed files whenever the
//! partition is assigned.

use std::collections::{BTreeMap, HashSet};

use datamill_broker::StateChange;

use super::outcome::Outcome;
use super::source::Source;
use super::state::key::Key;
use crate::assemble::IndexRun;
use crate::report::text::count;

/// Where and when the reading of a partition began, that had records below.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Begun {
    pub(super) offset: i64,
    pub(super) time_ms: i64,
}

impl Begun {
    /// The partition that a key of the group's state is about. `None` for other keys.
    pub(super) fn partition(topic: &str, key: &str) -> Option<i32> {
        match Key::parse(topic, key)? {
            Key::Begun { partition } => Some(partition),
            _ => None,
        }
    }

    /// `None` for what was written by something else, and for a start in another topic of this name. One that has no id
    /// is of the topic that the group has `adopted`.
    pub(super) fn parse(source: &Source, adopted: Option<&str>, value: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(value).ok()?.split(' ');
        let begun = Self { offset: words.next()?.parse().ok()?, time_ms: words.next()?.parse().ok()? };
        let is_same = source.is_same(words.next(), adopted);
        (is_same && words.next().is_none()).then_some(begun)
    }

    fn change(&self, source: &Source, partition: i32) -> StateChange {
        let id = source.id.as_ref().map(|id| format!(" {id}")).unwrap_or_default();
        let value = format!("{} {}{id}", self.offset, self.time_ms);
        StateChange { key: Key::Begun { partition }.of(&source.name), value: Some(value.into_bytes()) }
    }
}

/// The starts of the partitions that are owned.
#[derive(Default)]
pub(super) struct Tails {
    begun: BTreeMap<i32, Begun>,
    /// Partitions whose start is not committed.
    new: HashSet<i32>,
}

impl Tails {
    /// The group starts here without progress.
    pub(super) fn begin(&mut self, partition: i32, begun: Begun) {
        self.begun.insert(partition, begun);
        self.new.insert(partition);
    }

    /// What the group's state says of a partition.
    pub(super) fn know(&mut self, partition: i32, begun: Begun) {
        self.begun.entry(partition).or_insert(begun);
    }

    pub(super) fn revoke(&mut self, partitions: &[i32]) {
        self.begun.retain(|partition, _| !partitions.contains(partition));
        self.new.retain(|partition| !partitions.contains(partition));
    }

    /// What a commit of a position takes along.
    pub(super) fn change(&self, source: &Source, partition: i32) -> Option<StateChange> {
        let begun = self.begun.get(&partition).filter(|_| self.new.contains(&partition))?;
        Some(begun.change(source, partition))
    }

    /// Whether a start is not committed.
    pub(super) fn is_new(&self) -> bool {
        !self.new.is_empty()
    }

    /// A position of the partition is committed.
    pub(super) fn committed(&mut self, partition: i32) {
        self.new.remove(&partition);
    }

    /// Says so of a file whose chunks stopped coming and of which the end alone is there, with the first of them
    /// `within_ms` of the start: nobody is longer about sending a file. Chunks of a file that is spread over
    /// partitions may lie below the start of any.
    pub(super) fn reason(&self, outcome: &Outcome, within_ms: i64, spread: bool) -> Option<String> {
        let (info, total) = (&outcome.info, outcome.info.version.total);
        if outcome.answers.is_some() || !is_end(&outcome.chunks, total) {
            return None;
        }
        let mut begun = self.begun.iter().filter(|(partition, begun)| {
            let is_near = info.first_ms <= begun.time_ms.saturating_add(within_ms);
            is_near && (spread || info.spans.iter().any(|span| span.partition == **partition))
        });
        let (partition, Begun { offset, .. }) = begun.next()?;
        let there: u32 = outcome.chunks.iter().map(|run| run.1 - run.0 + 1).sum();
        Some(format!(
            "it began before the group did: {} of {} chunks are there, the first ones lie below the start of \
            the reading, offset {offset} of partition {partition}. Where it has no result, upload it again. A first start \
            with --take_over does such files. So does one with an earlier --start_from, and what lies behind that gets \
            another result",
            count(there.into()),
            count(total.into())
        ))
    }
}

/// Whether the first chunk is missing and the last one is there.
fn is_end(chunks: &[IndexRun], total: u32) -> bool {
    chunks.first().is_some_and(|run| run.0 > 1) && chunks.last().is_some_and(|run| run.1 == total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_start_is_read_as_it_was_written() {
        let begun = Begun { offset: 17, time_ms: 1_700_000_000_000 };
        let mut tails = Tails::default();
        tails.begin(3, begun);
        let (old, new, untold) = (Source::new("t", Some("a")), Source::new("t", Some("b")), Source::new("t", None));
        let parse = |source: &Source, adopted, change: &StateChange| {
            Begun::parse(source, adopted, change.value.as_deref().unwrap())
        };
        for source in [&old, &untold] {
            let change = tails.change(source, 3).unwrap();
            assert_eq!(Begun::partition("t", &change.key), Some(3));
            assert_eq!(Begun::partition("other", &change.key), None);
            assert_eq!(parse(source, None, &change), Some(begun));
        }
        assert_eq!(tails.change(&old, 2), None);
        let of_old = tails.change(&old, 3).unwrap();
        let of_untold = tails.change(&untold, 3).unwrap();
        assert_eq!(of_untold.value.as_deref(), Some(&b"17 1700000000000"[..]), "as release 0.1.0 wrote it");
        assert_eq!(parse(&new, None, &of_old), None, "a start in the topic before");
        assert_eq!(parse(&new, None, &of_untold), Some(begun));
        assert_eq!(parse(&new, Some("a"), &of_untold), None);
        tails.committed(3);
        assert_eq!(tails.change(&old, 3), None, "it is committed once");
        assert!(!tails.is_new());
    }

    #[test]
    fn the_end_of_a_file_has_its_last_chunk_and_not_its_first() {
        assert!(is_end(&[(3, 5)], 5) && is_end(&[(2, 2), (4, 5)], 5));
        assert!(!is_end(&[(1, 1), (3, 5)], 5) && !is_end(&[(2, 4)], 5) && !is_end(&[], 5));
    }
}
