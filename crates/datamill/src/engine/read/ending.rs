//! When a session is at its end: a stop that was asked for, or everything read that is to be read.

use std::time::Instant;

use super::{Reader, VERIFIED_WITHIN, Verified};
use crate::assemble::Instance;
use crate::engine::StopKind;
use crate::engine::commit::Task;
use crate::engine::summary::{Incomplete, Left};
use crate::report::clock;

/// Missing chunks of an incomplete file that are named.
const MISSING_NAMED: usize = 5;

impl Reader<'_> {
    /// The stop that was asked for; begins it at the first call.
    pub(super) fn stopping(&mut self) -> Option<StopKind> {
        let kind = self.engine.control.stopping()?;
        if self.stop_since.is_none() {
            self.stop_since = self.engine.control.stopping_since();
            if let Some(in_hand) = self.engine.in_hand.as_ref().filter(|_| self.hanging.is_none()) {
                // what does not end in time now is not what ends the program
                in_hand.close();
            }
            self.has_retries_left = self.retries.has_files();
            self.retries.stop();
            self.intake.rereads.stop();
            // in this order: a worker may be about to give files back
            self.engine.pool.stop();
            self.engine.pool.cancel(|_| true);
        }
        Some(kind)
    }

    pub(super) fn stop_timed_out(&self) -> bool {
        let Some(waited) = self.stop_since.map(|at| at.elapsed()) else { return false };
        // what user code is doing is waited for in any case
        let is_given_up = self.engine.pool.is_idle() && self.engine.log.is_given_up();
        let late = is_given_up || waited > self.engine.settings.shutdown_timeout;
        if late {
            let what = if is_given_up {
                "the log does not answer"
            } else if self.engine.pool.is_idle() {
                "the last commit does not end"
            } else {
                "user code still runs"
            };
            tracing::warn!("{what}; stopping without it, its files are read again at the next start");
        }
        late
    }

    /// Asks, once the end is near, whether the topic is still the one that was read: the last commit of a run waits
    /// for the answer. Answers whether it is there, or will not come.
    pub(super) fn verify(&mut self, is_near: bool) -> bool {
        if !is_near {
            self.verified = Verified::No;
            return false;
        }
        if self.engine.source.id.is_none() {
            return true;
        }
        match self.verified {
            // the commit thread takes it up behind a commit that is under way; a full queue is asked again
            Verified::No if self.tasks.try_send(Task::Verify).is_ok() => {
                self.verified = Verified::Asked(Instant::now())
            }
            Verified::Asked(at) if at.elapsed() > VERIFIED_WITHIN => return true,
            Verified::Yes => return true,
            _ => {}
        }
        false
    }

    /// Whether everything that was in the topic at the start has been read and has its outcome.
    pub(super) fn at_end(&self) -> bool {
        let reads_again = !self.retries.is_idle() || !self.intake.rereads.is_idle();
        if !self.is_member || !self.engine.pool.is_idle() || reads_again {
            return false;
        }
        if self.only_retries() {
            return true;
        }
        let Some(ends) = &self.ends else { return false };
        self.intake.holds().is_none()
            && self.intake.assembler.positions().all(|(p, next)| next >= ends.get(&p).copied().unwrap_or(0))
    }

    /// Whether nothing waits for a commit any more.
    pub(super) fn is_idle(&self) -> bool {
        if self.torn {
            return self.committing.is_none() && self.engine.pool.is_idle();
        }
        if self.committing.is_some() || self.waits_for_commit() || !self.engine.pool.is_idle() {
            return false;
        }
        self.moves(&[], &[], true).is_empty() && self.answered_ends(&[]).is_empty()
    }

    /// What has only some of its chunks, at the end of the topic or when the program was stopped before.
    pub(super) fn left(&self, stopped: bool) -> Left {
        let filling = self.intake.assembler.filling();
        if stopped {
            let backlog = self.intake.assembler.backlog();
            let missing = |next, partition| self.ends.as_ref()?.get(partition)?.checked_sub(next);
            let unread =
                backlog.iter().filter_map(|part| u64::try_from(missing(part.next, &part.partition)?).ok()).sum();
            let is_done = unread == 0 && backlog.iter().all(|part| part.files == 0);
            let has_retries_left = self.has_retries_left || self.retries.has_under_way();
            let at_end = self.is_member && (is_done || self.only_retries()) && !has_retries_left;
            return Left { at_end, begun: filling.len() as u64, unread, ..Left::default() };
        }
        let now_ms = clock::now_ms();
        let is_missed = |file: &Instance| !(file.outdated || file.again && file.is_quiet(now_ms));
        let incomplete = filling.into_iter().filter(|(_, file)| is_missed(file)).map(|(_, file)| Incomplete {
            path: file.version.path.to_string(),
            got: file.indices.len(),
            total: file.version.total,
            missing: file.indices.missing(file.version.total, MISSING_NAMED),
        });
        Left { at_end: true, incomplete: incomplete.collect(), ..Left::default() }
    }
}
