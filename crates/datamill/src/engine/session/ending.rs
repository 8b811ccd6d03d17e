//! When a session is at its end: a stop that was asked for, or everything read that is to be read.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Action, Actions};
use crate::assemble::Assembler;

/// How long the end of a run waits for the answer whether the topic is still the same: a broker that is away does
/// not answer.
const VERIFIED_WITHIN: Duration = Duration::from_secs(5);

/// Whether the topic was found to be still the same, since the end of the run is near.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verified {
    No,
    Asked(Instant),
    Yes,
}

/// See the module.
pub(super) struct Ending {
    /// Where each partition ended at the start, if the run ends there.
    ends: Option<BTreeMap<i32, i64>>,
    /// The ends of partitions that were reached last.
    seen: BTreeMap<i32, i64>,
    /// The log tells whether the topic is still the same.
    can_verify: bool,
    verified: Verified,
    is_stopping: bool,
}

impl Ending {
    pub(super) fn at(ends: Option<BTreeMap<i32, i64>>, can_verify: bool) -> Self {
        Self { ends, seen: BTreeMap::new(), can_verify, verified: Verified::No, is_stopping: false }
    }

    pub(super) fn stop(&mut self) {
        self.is_stopping = true;
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.is_stopping
    }

    pub(super) fn ends(&self) -> Option<&BTreeMap<i32, i64>> {
        self.ends.as_ref()
    }

    /// The end of a partition was reached.
    pub(super) fn reach(&mut self, partition: i32, offset: i64) {
        self.seen.insert(partition, offset);
    }

    /// These partitions are owned no longer: the end of one that comes back is to be reached again.
    pub(super) fn revoke(&mut self, partitions: &[i32]) {
        self.seen.retain(|partition, _| !partitions.contains(partition));
    }

    /// Whether everything that was in the topic at the start was read, where the run ends there.
    pub(super) fn is_reached(&self, assembler: &Assembler) -> bool {
        let Some(ends) = &self.ends else { return false };
        assembler.positions().all(|(partition, next)| next >= ends.get(&partition).copied().unwrap_or(0))
    }

    /// Whether the reading stands at the end of all partitions that are owned.
    pub(super) fn is_caught_up(&self, assembler: &Assembler) -> bool {
        assembler.positions().all(|(partition, next)| self.is_end(partition, next))
    }

    /// Whether a partition ended at this offset when its end was reached last.
    pub(super) fn is_end(&self, partition: i32, next: i64) -> bool {
        self.seen.get(&partition) == Some(&next)
    }

    /// Asks, once the end is near, whether the topic is still the one that was read: the last commit of a run waits
    /// for the answer. Answers whether it is there, or will not come.
    pub(super) fn verify(&mut self, is_near: bool, now: Instant, actions: &mut Actions) -> bool {
        if !is_near {
            self.verified = Verified::No;
            return false;
        }
        match self.verified {
            _ if !self.can_verify => true,
            Verified::Yes => true,
            Verified::Asked(at) => now - at > VERIFIED_WITHIN,
            Verified::No => {
                self.verified = Verified::Asked(now);
                actions.push(Action::Verify);
                false
            }
        }
    }

    /// The topic is still the same.
    pub(super) fn is_verified(&mut self) {
        self.verified = Verified::Yes;
    }

    /// Whether the answer is waited for.
    pub(super) fn has_asked(&self) -> bool {
        matches!(self.verified, Verified::Asked(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_partition_that_comes_back_is_reached_anew() {
        let mut ending = Ending::at(None, true);
        (0..2).for_each(|partition| ending.reach(partition, 7));
        ending.revoke(&[1]);
        assert_eq!((ending.is_end(0, 7), ending.is_end(1, 7)), (true, false));
        ending.reach(1, 7);
        assert!(ending.is_end(1, 7));
    }
}
