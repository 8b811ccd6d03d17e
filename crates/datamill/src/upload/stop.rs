//! When an upload ends because it was told to.

use std::time::{Duration, Instant};

use datamill_broker::Log;

use crate::control::Control;

/// How long a log that acknowledges nothing is waited for.
const SILENCE: Duration = Duration::from_secs(5);

/// How long a stop may take where the system ends the process: Windows does so 5 s after its console was closed, and the
/// record is to be written by then.
const HURRY: Duration = Duration::from_secs(3);

/// A request to stop and how long it may take.
pub(super) struct Stop<'a> {
    log: &'a dyn Log,
    pub(super) control: &'a Control,
    limit: Duration,
}

impl<'a> Stop<'a> {
    pub(super) fn new(log: &'a dyn Log, control: &'a Control, limit: Duration) -> Self {
        control.say_at_stop(format!(
            "stopping: what was begun is finished, for {} s at most; a second signal ends the program at once",
            limit.as_secs()
        ));
        Self { log, control, limit }
    }

    /// Whether somebody asked for a line about the state since the last call.
    pub(super) fn take_check(&self) -> bool {
        self.control.take_check()
    }

    /// Nothing more is to be begun.
    pub(super) fn is_requested(&self) -> bool {
        self.control.stopping().is_some()
    }

    /// What was begun may go on: as long as the limit says, and not where the log is given up, or has acknowledged nothing
    /// since `heard` or since the request, whichever was later, for longer than a log takes that is there.
    pub(super) fn may_go_on(&self, heard: Option<Instant>) -> bool {
        let Some(asked) = self.control.stopping_since() else { return true };
        let limit = if self.control.hurries() { self.limit.min(HURRY) } else { self.limit };
        let is_there = asked.elapsed() < limit && !self.log.is_given_up();
        is_there && heard.is_none_or(|heard| heard.max(asked).elapsed() < SILENCE)
    }
}
