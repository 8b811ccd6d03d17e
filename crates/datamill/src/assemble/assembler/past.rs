//! What was there before, as far as it is known.

use rustc_hash::FxHashSet;

/// What was there before, by hashes of versions.
#[derive(Debug, Default)]
pub(super) struct Past {
    /// Repetitions that were ended.
    pub(super) ended_repetitions: FxHashSet<u64>,
    pub(super) whole: Known,
}

/// Hashes that are kept of versions that were whole, twice as many at most.
const MOST_KNOWN: usize = 1 << 16;

/// The newest ones of very many hashes.
#[derive(Debug, Default)]
pub(super) struct Known {
    newest: FxHashSet<u64>,
    before: FxHashSet<u64>,
}

impl Known {
    pub(super) fn extend(&mut self, hash: Option<u64>) {
        if self.newest.len() >= MOST_KNOWN {
            self.before = std::mem::take(&mut self.newest);
        }
        self.newest.extend(hash);
    }

    pub(super) fn contains(&self, hash: u64) -> bool {
        self.newest.contains(&hash) || self.before.contains(&hash)
    }
}
