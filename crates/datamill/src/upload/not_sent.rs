//! What a watch leaves out: each is counted and said once, and what was wanted is on a list until it is sent.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::filter::Reason;

#[derive(Debug, Default)]
pub(super) struct NotSent {
    /// Hashes of paths and reasons, since the last scan of everything.
    said: HashSet<u64>,
    /// Those of that scan. What two scans do not find any more is forgotten: names of hidden files may be new each time.
    said_before: HashSet<u64>,
    /// Files and folders that were wanted, by path.
    failures: BTreeMap<String, Reason>,
}

impl NotSent {
    /// Takes down that a path is left out. Answers whether that is to be said.
    pub(super) fn take(&mut self, path: &str, reason: Reason) -> bool {
        let is_on_the_list = reason.is_failure() && self.failures.insert(path.to_owned(), reason) == Some(reason);
        let hash = hash_of(path, reason);
        self.said.insert(hash) && !self.said_before.contains(&hash) && !is_on_the_list
    }

    /// A scan of everything has ended.
    pub(super) fn scanned(&mut self) {
        self.said_before = std::mem::take(&mut self.said);
    }

    /// Takes a path off the list. If it fails once more, that is said once more.
    pub(super) fn healed(&mut self, path: &str) {
        if let Some(reason) = self.failures.remove(path) {
            let hash = hash_of(path, reason);
            self.said.remove(&hash);
            self.said_before.remove(&hash);
        }
    }

    /// Whether nothing is on the list.
    pub(super) fn is_empty(&self) -> bool {
        self.failures.is_empty()
    }

    /// What is on the list.
    pub(super) fn paths(&self) -> impl Iterator<Item = &String> {
        self.failures.keys()
    }

    /// The list.
    pub(super) fn into_failures(self) -> BTreeMap<String, Reason> {
        self.failures
    }
}

fn hash_of(path: &str, reason: Reason) -> u64 {
    let mut hasher = DefaultHasher::new();
    (path, reason).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_is_said_once_and_what_is_gone_is_forgotten() {
        let mut left_out = NotSent::default();
        assert!(left_out.take(".stays", Reason::Hidden));
        for scan in 0..100 {
            assert!(left_out.take(&format!(".{scan}"), Reason::Hidden));
            left_out.scanned();
            assert!(!left_out.take(".stays", Reason::Hidden));
        }
        assert!(left_out.said.len() + left_out.said_before.len() <= 4);
    }

    #[test]
    fn what_fails_is_said_once_until_it_has_healed() {
        let mut left_out = NotSent::default();
        assert!(left_out.take("a", Reason::Unreadable));
        for _ in 0..3 {
            left_out.scanned();
        }
        assert!(!left_out.take("a", Reason::Unreadable));
        left_out.scanned();
        left_out.healed("a");
        assert!(left_out.take("a", Reason::Unreadable));
    }
}
