//! A stop that was asked for, and what is left at the end of a session.

use std::time::Instant;

use super::Reader;
use crate::assemble::Instance;
use crate::engine::summary::{Incomplete, Left};
use crate::engine::{EngineError, StopKind};
use crate::report::clock;

/// Missing chunks of an incomplete file that are named.
const MISSING_NAMED: usize = 5;

/// A stop that was asked for.
#[derive(Default)]
pub(super) struct Stop {
    since: Option<Instant>,
    /// Failed files waited for another try when it began.
    has_retries_left: bool,
    /// Why the program gives up, where it stops for that.
    pub(super) hanging: Option<EngineError>,
}

impl Stop {
    pub(super) fn has_begun(&self) -> bool {
        self.since.is_some()
    }
}

impl Reader<'_> {
    /// The stop that was asked for; begins it at the first call.
    pub(super) fn stopping(&mut self) -> Option<StopKind> {
        let kind = self.engine.control.stopping()?;
        if !self.stop.has_begun() {
            self.stop.since = self.engine.control.stopping_since();
            if let Some(in_hand) = self.engine.in_hand.as_ref().filter(|_| self.stop.hanging.is_none()) {
                // what does not end in time now is not what ends the program
                in_hand.close();
            }
            self.stop.has_retries_left = self.threads.retries.has_files();
            self.threads.retries.stop();
            self.threads.rereads.stop();
            // in this order: a worker may be about to give files back
            self.engine.pool.stop();
            self.engine.pool.cancel(|_| true);
        }
        Some(kind)
    }

    pub(super) fn stop_timed_out(&self) -> bool {
        let Some(waited) = self.stop.since.map(|at| at.elapsed()) else { return false };
        // what user code is doing is waited for in any case
        let is_given_up = self.engine.pool.is_idle() && self.engine.log.is_given_up();
        let late = is_given_up || waited > self.engine.settings.shutdown_timeout;
        // a log that does not answer is said at the end, with what that means
        if late && !is_given_up {
            let what = match (self.engine.pool.is_idle(), self.engine.pool.ends_calls()) {
                (true, _) => "the last commit does not end",
                (false, true) => "what still runs is ended",
                (false, false) => "user code still runs",
            };
            tracing::warn!("{what}; stopping without it, its files are read again at the next start");
        }
        late
    }

    /// What has only some of its chunks, at the end of the topic or when the program was stopped before.
    pub(super) fn left(&self, stopped: bool) -> Left {
        let filling = self.session.assembler().filling();
        if stopped {
            let backlog = self.session.assembler().backlog();
            let missing = |next, partition| self.session.ends()?.get(partition)?.checked_sub(next);
            let unread =
                backlog.iter().filter_map(|part| u64::try_from(missing(part.next, &part.partition)?).ok()).sum();
            let is_done = unread == 0 && backlog.iter().all(|part| part.files == 0);
            let has_retries_left = self.stop.has_retries_left || self.threads.retries.has_under_way();
            let at_end = self.session.is_member() && (is_done || self.only_retries()) && !has_retries_left;
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
