//! When the next commit begins: how long results wait for others, and how long a commit that did not happen waits.

use std::time::{Duration, Instant};

/// Results are committed together about this often.
const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// Positions that moved without a result are committed this often.
const IDLE_COMMIT_EVERY: Duration = Duration::from_secs(10);
/// So many files make a commit due at once: what follows the last one of a topic is the time of one commit.
const COMMIT_FILES: usize = 2048;
/// Bytes of results in one commit, unless one result alone is larger.
pub(super) const COMMIT_BYTES: usize = 32 << 20;
/// Waits after a commit that did not happen; the last one repeats.
const COMMIT_WAITS_MS: [u64; 5] = [50, 200, 500, 1000, 3000];
/// How often files are looked for whose chunks stopped coming.
const EXPIRE_EVERY: Duration = Duration::from_secs(5);
/// A commit that takes longer is shown as one that does not go through: the broker is away, or lacks what it is to write to.
const COMMIT_WITHIN: Duration = Duration::from_secs(5);

/// What waits for a commit.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) is_empty: bool,
    /// Files with an outcome.
    pub(super) files: usize,
    pub(super) bytes: usize,
    /// Others may decide by the first position of a partition where those that have none start.
    pub(super) has_new_start: bool,
}

/// The partitions of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// Those that what ends with it touches.
    Touched,
    All,
}

/// See the module.
pub(super) struct Pacing {
    /// Since when a commit is under way.
    committing: Option<Instant>,
    has_committed: bool,
    last_commit: Instant,
    not_before: Instant,
    failures_in_a_row: usize,
    last_expire: Instant,
}

impl Pacing {
    pub(super) fn from(now: Instant) -> Self {
        Self {
            committing: None,
            has_committed: false,
            last_commit: now,
            not_before: now,
            failures_in_a_row: 0,
            last_expire: now,
        }
    }

    /// Whether a commit may begin.
    pub(super) fn may_begin(&self, now: Instant) -> bool {
        self.committing.is_none() && now >= self.not_before
    }

    /// Whether a commit is due, and of which partitions.
    pub(super) fn due(&self, load: Load, ending: bool, now: Instant) -> Option<Reach> {
        let since = now - self.last_commit;
        let is_due = if load.is_empty {
            since >= IDLE_COMMIT_EVERY || ending || load.has_new_start && since >= COMMIT_EVERY
        } else {
            since >= COMMIT_EVERY || load.files >= COMMIT_FILES || load.bytes >= COMMIT_BYTES || ending
        };
        let all = since >= IDLE_COMMIT_EVERY || ending || load.has_new_start;
        is_due.then_some(if all { Reach::All } else { Reach::Touched })
    }

    /// A commit begins.
    pub(super) fn begins(&mut self, now: Instant) {
        self.last_commit = now;
        self.committing = Some(now);
    }

    /// It happened.
    pub(super) fn done(&mut self) {
        self.committing = None;
        self.has_committed = true;
        self.failures_in_a_row = 0;
    }

    /// It did not happen, and is made again a while later. Answers whether it is the first one in a row.
    pub(super) fn again(&mut self, now: Instant) -> bool {
        let wait = COMMIT_WAITS_MS[self.failures_in_a_row.min(COMMIT_WAITS_MS.len() - 1)];
        self.failures_in_a_row += 1;
        self.committing = None;
        self.not_before = now + Duration::from_millis(wait);
        self.failures_in_a_row == 1
    }

    /// Some of its records were refused: it is made again at once, without these.
    pub(super) fn refused(&mut self, now: Instant) {
        self.committing = None;
        self.not_before = now;
        self.last_commit = now.checked_sub(COMMIT_EVERY).unwrap_or(self.last_commit);
    }

    /// What kept the last commit from happening is over: it need not wait any longer.
    pub(super) fn at_once(&mut self, now: Instant) {
        self.not_before = self.not_before.min(now);
    }

    /// Whether it is time to look for files whose chunks stopped coming. The next time is counted from here.
    pub(super) fn expires(&mut self, ending: bool, now: Instant) -> bool {
        let is_time = now - self.last_expire >= EXPIRE_EVERY || ending;
        if is_time {
            self.last_expire = now;
        }
        is_time
    }

    pub(super) fn is_committing(&self) -> bool {
        self.committing.is_some()
    }

    pub(super) fn has_committed(&self) -> bool {
        self.has_committed
    }

    /// Whether the last commit did not happen.
    pub(super) fn has_failed(&self) -> bool {
        self.failures_in_a_row > 0
    }

    /// Whether commits do not go through.
    pub(super) fn is_held_up(&self, now: Instant) -> bool {
        self.has_failed() || self.committing.is_some_and(|since| now - since >= COMMIT_WITHIN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_did_not_happen_waits_until_what_kept_it_is_over() {
        let start = Instant::now();
        let mut pacing = Pacing::from(start);
        for _ in COMMIT_WAITS_MS {
            pacing.again(start);
        }
        let soon = start + Duration::from_secs(1);
        assert!(!pacing.may_begin(soon), "it has failed many times");
        pacing.at_once(soon);
        assert!(pacing.may_begin(soon));
    }
}
