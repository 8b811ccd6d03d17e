//! When a file has been left alone for long enough: observations go in, files that are ready come out.
//!
//! A pure state machine: the caller brings the time, as the span since a moment of its choice.

use std::collections::{BinaryHeap, HashMap};
use std::time::Duration;

use super::stamp::Stamp;

/// Files that were seen and are not ready.
#[derive(Debug)]
pub(super) struct Settle {
    lag: Duration,
    files: HashMap<String, Observed>,
}

#[derive(Debug, Clone, Copy)]
struct Observed {
    stamp: Stamp,
    since: Duration,
    first: Duration,
}

/// A file whose stamp has not changed for the time that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ready {
    /// Its path, as observed.
    pub path: String,
    /// Its stamp, as observed.
    pub stamp: Stamp,
}

impl Settle {
    /// Files are ready once their stamp has not changed for `lag`.
    pub(super) fn new(lag: Duration) -> Self {
        Self { lag, files: HashMap::new() }
    }

    /// Takes down what a file looks like at `now`. Time starts anew where the stamp is another one.
    pub(super) fn observe(&mut self, path: &str, stamp: Stamp, now: Duration) {
        match self.files.get_mut(path) {
            Some(seen) if seen.stamp == stamp => {}
            Some(seen) => {
                seen.stamp = stamp;
                seen.since = now;
            }
            None => {
                self.files.insert(path.to_owned(), Observed { stamp, since: now, first: now });
            }
        }
    }

    /// Drops a file that is gone or of no more interest.
    pub(super) fn forget(&mut self, path: &str) {
        self.files.remove(path);
    }

    /// Whether a file is waited for.
    pub(super) fn waits_for(&self, path: &str) -> bool {
        self.files.contains_key(path)
    }

    /// Drops all files.
    pub(super) fn clear(&mut self) {
        self.files.clear();
    }

    /// Takes out the files that are ready at `now`, by path, those for which `hold` is true aside.
    pub(super) fn ready(&mut self, now: Duration, hold: impl Fn(&str) -> bool) -> Vec<Ready> {
        let lag = self.lag;
        let mut ready: Vec<Ready> = self
            .files
            .extract_if(|path, seen| now.saturating_sub(seen.since) >= lag && !hold(path))
            .map(|(path, seen)| Ready { path, stamp: seen.stamp })
            .collect();
        ready.sort_by(|a, b| a.path.cmp(&b.path));
        ready
    }

    /// Takes out the files that have been changing since before `earliest`.
    pub(super) fn give_up(&mut self, earliest: Duration) -> Vec<String> {
        let mut paths: Vec<String> = self
            .files
            .extract_if(|_, seen| seen.first < earliest && seen.since > seen.first)
            .map(|(path, _)| path)
            .collect();
        paths.sort();
        paths
    }

    /// When the next file is ready if none of them changes, those for which `hold` is true aside.
    pub(super) fn next_due(&self, hold: impl Fn(&str) -> bool) -> Option<Duration> {
        self.files.iter().filter(|(path, _)| !hold(path)).map(|(_, seen)| seen.since + self.lag).min()
    }

    /// The files that have been waited for longest, at most `most`, the first of them at the front: each with when it was
    /// seen first, and changing last.
    pub(super) fn longest(&self, most: usize) -> Vec<(&str, Duration, Duration)> {
        let mut longest = BinaryHeap::with_capacity(most + 1);
        for (path, seen) in &self.files {
            longest.push((seen.first, path.as_str(), seen.since));
            if longest.len() > most {
                longest.pop();
            }
        }
        longest.into_sorted_vec().into_iter().map(|(first, path, since)| (path, first, since)).collect()
    }

    /// How long a file must be left alone.
    pub(super) fn lag(&self) -> Duration {
        self.lag
    }

    /// The files that are not ready.
    pub(super) fn paths(&self) -> Vec<String> {
        self.files.keys().cloned().collect()
    }

    /// How many files are waited for.
    pub(super) fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether no file is waited for.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const fn stamp(size: u64) -> Stamp {
        Stamp { size, mtime_ns: Some(7) }
    }

    #[test]
    fn a_file_is_ready_once_it_has_been_left_alone() {
        let mut settle = Settle::new(s(3));
        settle.observe("a", stamp(1), s(10));
        assert_eq!(settle.next_due(|_| false), Some(s(13)));
        assert!(settle.ready(s(12), |_| false).is_empty());
        settle.observe("a", stamp(1), s(12));
        assert_eq!(settle.ready(s(13), |_| false), vec![Ready { path: "a".into(), stamp: stamp(1) }]);
        assert!(settle.is_empty());
    }

    #[test]
    fn each_change_starts_the_time_anew() {
        let mut settle = Settle::new(s(3));
        for second in 0..20 {
            settle.observe("a", stamp(second), s(second));
            assert!(settle.ready(s(second), |_| false).is_empty());
        }
        assert_eq!(settle.ready(s(22), |_| false)[0].stamp, stamp(19));
    }

    #[test]
    fn a_change_of_the_time_alone_is_a_change() {
        let mut settle = Settle::new(s(3));
        settle.observe("a", Stamp { size: 1, mtime_ns: Some(1) }, s(0));
        settle.observe("a", Stamp { size: 1, mtime_ns: Some(2) }, s(2));
        assert!(settle.ready(s(4), |_| false).is_empty());
        assert_eq!(settle.ready(s(5), |_| false).len(), 1);
    }

    #[test]
    fn held_and_forgotten_files_do_not_come_out() {
        let mut settle = Settle::new(s(0));
        settle.observe("a", stamp(1), s(0));
        settle.observe("b", stamp(1), s(0));
        settle.forget("b");
        assert!(settle.ready(s(1), |path| path == "a").is_empty());
        assert_eq!(settle.ready(s(1), |_| false).len(), 1);
        assert!(settle.is_empty());
    }

    #[test]
    fn the_files_that_wait_longest_come_first() {
        let mut settle = Settle::new(s(3));
        for (path, second) in [("c", 3), ("a", 1), ("b", 2), ("d", 4)] {
            settle.observe(path, stamp(1), s(second));
        }
        settle.observe("a", stamp(2), s(9));
        assert_eq!(settle.longest(2), [("a", s(1), s(9)), ("b", s(2), s(2))]);
        assert_eq!(settle.longest(9).len(), 4);
    }

    #[test]
    fn only_files_that_were_seen_changing_are_given_up() {
        let mut settle = Settle::new(s(3));
        settle.observe("still", stamp(1), s(0));
        settle.observe("moving", stamp(1), s(0));
        settle.observe("moving", stamp(2), s(2));
        assert_eq!(settle.give_up(s(1)), vec!["moving".to_owned()]);
        assert_eq!(settle.paths(), ["still"]);
    }
}
