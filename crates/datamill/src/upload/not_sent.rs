//! What a watch leaves out: each is counted and said once, and what was wanted is on a list until it is sent.

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::filter::Reason;

#[derive(Debug, Default)]
pub(super) struct NotSent {
    /// Hashes of paths and reasons.
    said: HashSet<u64>,
    /// Files and folders that were wanted, by path.
    failures: BTreeMap<String, Reason>,
}

impl NotSent {
    /// Takes down that a path is left out. Answers whether that is to be said.
    pub(super) fn take(&mut self, path: &str, reason: Reason) -> bool {
        if reason.is_failure() {
            self.failures.insert(path.to_owned(), reason);
        }
        self.said.insert(hash_of(path, reason))
    }

    /// Takes a path off the list. If it fails once more, that is said once more.
    pub(super) fn healed(&mut self, path: &str) {
        if let Some(reason) = self.failures.remove(path) {
            self.said.remove(&hash_of(path, reason));
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
