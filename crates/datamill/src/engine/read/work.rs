//! What comes back: files of the topic from user code, files that failed earlier, and files that were read again.

use datamill_broker::StateChange;

use super::Reader;
use crate::assemble::InstanceIds;
use crate::engine::entry::Due;
use crate::engine::outcome::Outcome;
use crate::engine::retry::{Retried, RetryFailed};
use crate::engine::session::{Actions, Input, Report};
use crate::engine::work;
use crate::engine::{EngineError, LEFT_AT_STOP, StopKind};

/// Functions that were given up and still run before the program gives up; it is twice the threads if that
/// is more.
const MAX_GIVEN_UP: usize = 4;

impl Reader<'_> {
    pub(super) fn only_retries(&self) -> bool {
        self.engine.settings.retry_failed == RetryFailed::Only
    }

    fn report(&mut self, report: Report, actions: &mut Actions) {
        actions.extend(self.session.on(Input::Report(report)));
    }

    /// Hands files that failed earlier to the pool.
    pub(super) fn retry(&mut self, actions: &mut Actions) -> Result<(), EngineError> {
        let is_busy = self.session.is_busy(self.engine.pool.waiting());
        for retried in self.threads.retries.step(self.session.owned(), self.engine.tried, is_busy) {
            let report = match retried {
                Retried::Whole(file) => {
                    self.whole.push(*file);
                    continue;
                }
                // an entry of the topic before has made room for a failure at the same place of this one
                Retried::Outcome(outcome) if self.is_tried(&outcome) => continue,
                Retried::Outcome(outcome) => Report::Outcome(outcome),
                Retried::Incomplete(entries) => Report::Incomplete(entries),
                Retried::Denied(error) => return Err(error.into()),
                Retried::InHand(ends) => {
                    self.know_ends(ends);
                    continue;
                }
                Retried::Begun(all) => Report::Begun(all),
                Retried::Forgotten(entries, files) => {
                    let files: InstanceIds = files.into_iter().collect();
                    self.whole.retain(|file| !files.contains(&file.info.id));
                    Report::Forgotten(entries, files)
                }
            };
            self.report(report, actions);
        }
        self.hand_out();
        Ok(())
    }

    fn is_tried(&self, outcome: &Outcome) -> bool {
        let foreign = outcome.answers.as_ref().filter(|entry| entry.is_foreign);
        foreign.is_some_and(|entry| self.engine.tried.contains(entry.place))
    }

    /// A failed file has all its chunks now: it is tried again.
    pub(super) fn completed(&mut self, due: Due) {
        let (file, topic) = (due.entry.path(), self.engine.topic());
        if self.engine.settings.retry_failed == RetryFailed::No {
            tracing::info!(file, topic = %topic,
                "late chunks have completed a file; it is left alone until somebody asks for another try");
        } else {
            tracing::info!(file, topic = %topic, "late chunks have completed a file; it is tried again");
            self.threads.retries.push(due);
        }
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
            self.engine.pool.hold(!in_hand.is_written() || self.threads.retries.is_blind());
        }
    }

    /// Takes a file whose content was dropped, once it was read again.
    pub(super) fn reread(&mut self, actions: &mut Actions) {
        if let Some(found) = self.threads.rereads.found() {
            self.report(Report::Reread(found), actions);
        }
    }

    /// Takes what the workers report.
    pub(super) fn collect(&mut self, actions: &mut Actions) -> Result<(), EngineError> {
        while let Ok(report) = self.engine.pool.reports.try_recv() {
            match report {
                work::Report::Outcome(outcome) => self.take(outcome, actions),
                work::Report::Again(file) => {
                    let answers = self.threads.retries.answered_by(file.info.id).cloned();
                    self.report(Report::Again(file, answers), actions);
                }
                work::Report::Stop { path, reason } => {
                    return Err(EngineError::Stopped { file: path.to_string(), reason });
                }
                work::Report::NotStarted(reason) => return Err(EngineError::NotReplaced(reason)),
            }
        }
        self.give_up_overdue(actions)
    }

    fn take(&mut self, mut outcome: Outcome, actions: &mut Actions) {
        outcome.answers = self.threads.retries.answered_by(outcome.info.id).cloned();
        self.report(Report::Outcome(Box::new(outcome)), actions);
    }

    /// Gives up functions whose time is over, and the program when many of them still run or hold the memory
    /// that further files need.
    fn give_up_overdue(&mut self, actions: &mut Actions) -> Result<(), EngineError> {
        let Some(limit) = self.engine.settings.processing_timeout else { return Ok(()) };
        let pool = self.engine.pool;
        let overdue = pool.end_overdue();
        // a stop that was asked for goes on without them
        if !overdue.is_empty() && self.stop.hanging.is_none() && !self.stop.has_begun() {
            pool.tell_overdue(&overdue);
            let file = overdue.iter().map(|path| &**path).collect::<Vec<_>>().join("`, `");
            self.stop.hanging = Some(EngineError::Overdue { file, seconds: limit.as_secs_f64() });
            self.stop_hanging();
        }
        for outcome in pool.give_up_overdue().map_err(EngineError::Thread)? {
            self.take(outcome, actions);
        }
        let functions = pool.given_up();
        let many = functions >= MAX_GIVEN_UP.max(2 * self.engine.settings.threads);
        if self.stop.hanging.is_none()
            && (many || functions > 0 && pool.is_idle() && self.session.is_crowded(pool.waiting()))
        {
            self.stop.hanging = Some(EngineError::Hanging { functions, seconds: limit.as_secs_f64() });
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
