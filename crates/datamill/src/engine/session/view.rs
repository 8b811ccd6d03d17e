//! How a session stands, for those who do what it says, and for people.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::Session;
use crate::assemble::Assembler;
use crate::facts::Hold;

/// What may hold a session from outside of it.
#[derive(Debug, Clone, Copy)]
pub(in crate::engine) struct Outside {
    /// Files that wait for a worker.
    pub(in crate::engine) waiting: usize,
    pub(in crate::engine) folder_is_gone: bool,
    /// Each file needs the output folder.
    pub(in crate::engine) needs_folder: bool,
    /// What the log holds, and what the pool.
    pub(in crate::engine) of_log: Option<Hold>,
    pub(in crate::engine) of_pool: Option<Hold>,
}

impl Session {
    pub(in crate::engine) fn assembler(&self) -> &Assembler {
        &self.intake.assembler
    }

    /// Assignment number of each owned partition.
    pub(in crate::engine) fn owned(&self) -> &BTreeMap<i32, u64> {
        self.ownership.owned()
    }

    /// The group has said what this process owns.
    pub(in crate::engine) fn is_member(&self) -> bool {
        self.ownership.is_member()
    }

    /// Whether other members of the group own partitions of a spread topic.
    pub(in crate::engine) fn is_divided(&self) -> bool {
        self.ownership.is_divided()
    }

    /// Whether all partitions are this process's.
    pub(in crate::engine) fn owns_all(&self) -> bool {
        self.ownership.owns_all()
    }

    /// For how long other members of the group have owned partitions of a spread topic.
    pub(in crate::engine) fn divided_for(&self, now: Instant) -> Duration {
        self.settling.divided_for(now)
    }

    /// Whether files of the topic lie in several partitions, as far as is known.
    pub(in crate::engine) fn is_spread(&self) -> bool {
        self.ownership.is_spread()
    }

    /// Partitions of the topic.
    pub(in crate::engine) fn partitions(&self) -> i32 {
        self.ownership.partitions()
    }

    /// Where the partitions ended at the start, if the run ends there.
    pub(in crate::engine) fn ends(&self) -> Option<&BTreeMap<i32, i64>> {
        self.ending.ends()
    }

    pub(in crate::engine) fn is_held(&self) -> bool {
        self.flow.is_held()
    }

    /// Whether everything that is in a partition was read: no record behind this offset is there.
    pub(in crate::engine) fn is_read_to(&self, partition: i32, next: i64) -> bool {
        !self.flow.is_held() && self.ending.is_end(partition, next)
    }

    /// Whether more waits for user code than there is room for.
    pub(in crate::engine) fn is_crowded(&self, waiting: usize) -> bool {
        self.flow.is_crowded(waiting)
    }

    /// Whether so much waits that failed files are not read for now: new files do not stand behind all that failed.
    pub(in crate::engine) fn is_busy(&self, waiting: usize) -> bool {
        self.flow.is_busy(waiting)
    }

    pub(in crate::engine) fn is_committing(&self) -> bool {
        self.pacing.is_committing()
    }

    pub(in crate::engine) fn has_committed(&self) -> bool {
        self.pacing.has_committed()
    }

    /// Whether an answer is waited for that comes within milliseconds, or something is to be committed.
    pub(in crate::engine) fn is_waiting(&self) -> bool {
        self.pacing.is_committing() || !self.pending.is_empty() || self.ending.has_asked()
    }

    /// Whether it commits nothing any more.
    pub(in crate::engine) fn is_torn(&self) -> bool {
        self.ownership.is_torn()
    }

    /// Whether everything in the topic was read and nothing waits for a commit, for the moment.
    pub(in crate::engine) fn is_caught_up(&self) -> bool {
        let is_read = !self.ownership.owned().is_empty() && self.ending.is_caught_up(&self.intake.assembler);
        let works = self.pacing.is_committing() || !self.pending.is_empty() || !self.intake.reads_nothing_again();
        is_read && !works
    }

    /// What holds the session.
    pub(in crate::engine) fn why_it_holds(&self, outside: Outside, now: Instant) -> Option<Hold> {
        let needs_folder = outside.needs_folder || self.pacing.has_failed();
        let is_crowded = self.flow.is_held() && self.flow.is_crowded(outside.waiting);
        let also = [
            (needs_folder && outside.folder_is_gone).then_some(Hold::OutputFolder),
            self.ownership.is_torn().then_some(Hold::Spread),
            outside.of_log,
            self.pacing.is_held_up(now).then_some(Hold::Commits),
            outside.of_pool,
            is_crowded.then_some(Hold::Crowded),
        ];
        let hold = self.intake.holds().or_else(|| also.into_iter().flatten().next());
        hold.filter(|_| !self.ending.is_stopping())
    }
}
