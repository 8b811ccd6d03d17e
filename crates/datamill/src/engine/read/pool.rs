//! Whole files on their way to user code, and what comes back: files of the topic, files that failed earlier, and
//! files that were read again.

use datamill_broker::StateChange;

use super::Reader;
use crate::assemble::{InstanceId, InstanceIds, WholeFile};
use crate::engine::outcome::Outcome;
use crate::engine::reread::Reread;
use crate::engine::retry::{Retried, RetryFailed};
use crate::engine::work::Report;
use crate::engine::{EngineError, LEFT_AT_STOP, StopKind};

/// Whole files that wait for a worker: above, reading is held; it goes on below a quarter.
const MAX_WAITING: usize = 2_000;
/// Functions that were given up and still run before the program gives up; it is twice the threads if that
/// is more.
const MAX_GIVEN_UP: usize = 4;

impl Reader<'_> {
    /// Nobody waits for the outcomes of these files any more.
    pub(super) fn drop_files(&mut self, gone: &InstanceIds) {
        if gone.is_empty() {
            return;
        }
        self.engine.pool.cancel(|id| gone.contains(&id));
        self.ready.retain(|outcome| !gone.contains(&outcome.info.id));
    }

    pub(super) fn only_retries(&self) -> bool {
        self.engine.settings.retry_failed == RetryFailed::Only
    }

    /// Whether more waits for user code than there is room for; while reading is held, whether it is still too much
    /// to go on.
    pub(super) fn is_crowded(&self) -> bool {
        let limit = self.engine.settings.whole_bytes();
        let in_memory = if self.held { limit / 4 * 3 } else { limit };
        let share = if self.held { 2 } else { 1 };
        let disk_limit = self.engine.settings.spill_limit.map_or(usize::MAX, |limit| limit / 2);
        self.engine.budget.whole() > in_memory
            || self.engine.budget.whole_on_disk() > disk_limit / share
            || self.engine.pool.waiting() > MAX_WAITING / (share * share)
    }

    /// Hands files that failed earlier to the pool.
    pub(super) fn retry(&mut self) -> Result<(), EngineError> {
        // new files do not stand behind all that failed
        let crowded = self.is_crowded() || self.engine.pool.waiting() > MAX_WAITING / 4;
        let mut whole = Vec::new();
        for retried in self.retries.step(&self.owned, self.engine.tried, crowded) {
            match retried {
                Retried::Whole(file) => whole.push(*file),
                Retried::Outcome(outcome) if self.has_newer(&outcome) => {}
                Retried::Outcome(outcome) => self.ready.push(*outcome),
                Retried::Incomplete(entries) => self.late.know(entries),
                Retried::Denied(error) => return Err(error.into()),
                Retried::InHand(ends) => self.know_ends(ends),
                Retried::Begun(all) => all.into_iter().for_each(|(p, begun)| self.tails.know(p, begun)),
                Retried::Forgotten(entries, files) => {
                    entries.iter().for_each(|(place, path)| self.late.forget(*place, path));
                    whole.retain(|file: &WholeFile| !files.contains(&file.info.id));
                    self.drop_files(&files.into_iter().collect());
                }
            }
        }
        if !whole.is_empty() {
            self.engine.pool.submit_all(whole.into_iter());
        }
        Ok(())
    }

    /// Takes what the group's state says of files that were in hand when a process died.
    fn know_ends(&mut self, ends: Vec<StateChange>) {
        if let Some(in_hand) = &self.engine.in_hand
            && !ends.is_empty()
        {
            ends.into_iter().for_each(|change| in_hand.know(change));
            self.engine.pool.sort_out();
        }
    }

    /// Lets user code that may end the process begin once it is known which files did so.
    pub(super) fn gate(&self) {
        if let Some(in_hand) = &self.engine.in_hand {
            self.engine.pool.hold(!in_hand.is_written() || self.retries.is_blind());
        }
    }

    /// Whether an entry of the topic before has made room for a failure at the same place of this one.
    fn has_newer(&self, outcome: &Outcome) -> bool {
        let foreign = outcome.answers.as_ref().filter(|entry| entry.is_foreign);
        foreign.is_some_and(|entry| self.engine.tried.contains(entry.place) || self.late.has(entry.place))
    }

    /// Hands files whose content was dropped to the pool, once they were read again.
    pub(super) fn reread(&mut self) {
        let has_room = !self.is_crowded() && self.engine.budget.whole_on_disk() == 0;
        match self.intake.rereads.step(has_room) {
            Some(Reread::Whole(whole)) if self.awaits(whole.info.id) => self.engine.pool.submit(*whole),
            Some(Reread::Gone(info)) if self.awaits(info.id) => {
                self.ready.push(Outcome::gone(info, &self.engine.budget));
            }
            _ => {}
        }
    }

    /// Whether the outcome of this file is waited for.
    pub(super) fn awaits(&self, id: InstanceId) -> bool {
        self.intake.assembler.awaits_outcome(id) || self.retries.answered_by(id).is_some()
    }

    /// Takes what the workers report.
    pub(super) fn collect(&mut self) -> Result<(), EngineError> {
        while let Ok(report) = self.engine.pool.reports.try_recv() {
            match report {
                Report::Outcome(outcome) => self.take(outcome),
                Report::Again(file) => {
                    if self.awaits(file.info.id) {
                        tracing::info!(file = %file.info.version.path, topic = %self.engine.topic,
                            "what was sent of it while its chunks came is of no use; it is read again");
                        self.intake.rereads.add(file);
                    }
                }
                Report::Stop { path, reason } => {
                    return Err(EngineError::Stopped { file: path.to_string(), reason });
                }
                Report::NotStarted(reason) => return Err(EngineError::NotReplaced(reason)),
            }
        }
        self.give_up_overdue()
    }

    fn take(&mut self, mut outcome: Outcome) {
        if self.awaits(outcome.info.id) {
            outcome.answers = self.retries.answered_by(outcome.info.id).cloned();
            self.ready.push(outcome);
        }
    }

    /// Gives up functions whose time is over, and the program when many of them still run or hold the memory
    /// that further files need.
    fn give_up_overdue(&mut self) -> Result<(), EngineError> {
        let Some(limit) = self.engine.settings.processing_timeout else { return Ok(()) };
        let pool = self.engine.pool;
        let overdue = pool.end_overdue();
        // a stop that was asked for goes on without them
        if !overdue.is_empty() && self.hanging.is_none() && self.stop_since.is_none() {
            pool.tell_overdue(&overdue);
            let file = overdue.iter().map(|path| &**path).collect::<Vec<_>>().join("`, `");
            self.hanging = Some(EngineError::Overdue { file, seconds: limit.as_secs_f64() });
            self.stop_hanging();
        }
        for outcome in pool.give_up_overdue().map_err(EngineError::Thread)? {
            self.take(outcome);
        }
        let functions = pool.given_up();
        let many = functions >= MAX_GIVEN_UP.max(2 * self.engine.settings.threads);
        if self.hanging.is_none() && (many || functions > 0 && pool.is_idle() && self.is_crowded()) {
            self.hanging = Some(EngineError::Hanging { functions, seconds: limit.as_secs_f64() });
            self.stop_hanging();
        }
        Ok(())
    }

    /// Nobody has asked for this stop.
    fn stop_hanging(&self) {
        let control = self.engine.control;
        control.say_at_stop(format!("stopping, since a function does not end: {LEFT_AT_STOP}"));
        control.stop(StopKind::KeepPlace);
    }
}
