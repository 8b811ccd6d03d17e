//! What holds the reading, and which partitions of a topic that spreads files are held for the others.

use std::sync::Arc;
use std::time::Instant;

use super::skew::Skew;
use super::{Action, Actions, Limits};
use crate::assemble::{Budget, Place};

/// Whole files that wait for a worker: above, reading is held; it goes on below a quarter.
const MAX_WAITING: usize = 2_000;

/// See the module.
pub(super) struct Flow {
    is_held: bool,
    skew: Skew,
    budget: Arc<Budget>,
    /// Bytes of memory that whole files and results may take.
    whole_bytes: usize,
    /// Bytes of disk that whole files may take.
    whole_on_disk: usize,
}

impl Flow {
    pub(super) fn new(limits: &Limits, budget: Arc<Budget>, is_held: bool) -> Self {
        Self {
            is_held,
            skew: Skew::new(limits.skew_bytes),
            budget,
            whole_bytes: limits.whole_bytes,
            whole_on_disk: limits.spill_limit.map_or(usize::MAX, |limit| limit / 2),
        }
    }

    pub(super) fn is_held(&self) -> bool {
        self.is_held
    }

    /// Whether more waits for user code than there is room for; while reading is held, whether it is still too much to
    /// go on. `waiting` files wait for a worker.
    pub(super) fn is_crowded(&self, waiting: usize) -> bool {
        let in_memory = if self.is_held { self.whole_bytes / 4 * 3 } else { self.whole_bytes };
        let share = if self.is_held { 2 } else { 1 };
        self.budget.whole() > in_memory
            || self.budget.whole_on_disk() > self.whole_on_disk / share
            || waiting > MAX_WAITING / (share * share)
    }

    /// Whether so much waits that other sources of files stand back behind what is read: less than what is crowded.
    pub(super) fn is_busy(&self, waiting: usize) -> bool {
        self.is_crowded(waiting) || waiting > MAX_WAITING / 4
    }

    /// Whether a file that was dropped for want of room may be read again.
    pub(super) fn has_room(&self, waiting: usize) -> bool {
        !self.is_crowded(waiting) && self.budget.whole_on_disk() == 0
    }

    /// Reading is to be held, or to go on.
    pub(super) fn hold(&mut self, hold: bool, actions: &mut Actions) {
        if hold == self.is_held {
            return;
        }
        self.is_held = hold;
        if hold {
            actions.push(Action::Hold);
        } else {
            actions.push(Action::Resume);
            self.skew.restart();
        }
    }

    /// The end of a partition was reached.
    pub(super) fn end(&mut self, partition: i32, offset: i64) {
        self.skew.end(partition, offset);
    }

    /// These partitions are owned no longer.
    pub(super) fn revoke(&mut self, partitions: &[i32]) {
        self.skew.revoke(partitions);
    }

    /// Holds the partitions that are read far ahead of the others. `is_full` says that files that fill up take a good
    /// part of their memory.
    pub(super) fn hold_those_ahead(&mut self, places: &[Place], is_full: bool, now: Instant, actions: &mut Actions) {
        if !self.is_held && self.skew.step(places, is_full, now) {
            actions.push(Action::HoldPartitions(self.skew.held().iter().copied().collect()));
        }
    }
}
